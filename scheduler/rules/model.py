"""The canonical rule: a superset of what COS and OSS documents say, immutable.

Owns the fields F1 to F62 of SEMANTICS.md and their YAML defaults (codecs set the defaults of their own
format). Knows no document format beyond the parts that are kept for a faithful round trip, and checks
nothing: `scheduler.rules.validate` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal

from scheduler.rules.xml_tree import XmlElement  # noqa: TC001 - read at run time when a set is loaded
from workers.plan import Timeouts
from workers.settings import BudgetSettings  # noqa: TC001 - likewise

if TYPE_CHECKING:
    from collections.abc import Mapping

Scheme = Literal["http", "https"]
Protocol = Literal["http", "https", "follow"]
#: A status, or one of the words of YAML: `4xx`, `5xx`, `any`.
StatusTest = int | Literal["4xx", "5xx", "any"]
Owner = Literal["file", "api"]


class SourceFormat(StrEnum):
    """Where a rule set was written; `s3` is the S3 dialect of a website document (D24)."""

    YAML = "yaml"
    COS = "cos"
    OSS = "oss"
    S3 = "s3"


class RuleType(StrEnum):
    """F3: fetch-return-store, answer-then-pull, or only send the client away."""

    MIRROR = "mirror"
    PROXY = "proxy"
    REDIRECT = "redirect"


class HeaderTestKind(StrEnum):
    """How a header condition compares, with case."""

    EQUALS = "equals"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderTest:
    """F7: a request header must be present and pass; the name without case, the value with it."""

    name: str
    kind: HeaderTestKind
    value: str

    def holds(self, value: str) -> bool:
        """Whether one value of the header passes."""
        if self.kind is HeaderTestKind.EQUALS:
            return value == self.value
        if self.kind is HeaderTestKind.STARTS_WITH:
            return value.startswith(self.value)
        return value.endswith(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """The conditions; all must hold."""

    #: F4: what the store would have answered.
    status: tuple[StatusTest, ...] = (404,)
    #: F5, F6: of the key; empty holds for every key.
    prefix: str = ""
    suffix: str = ""
    #: F7.
    headers: tuple[HeaderTest, ...] = ()
    #: F8: client `Host` without port, lower case; deny wins.
    hosts_allow: tuple[str, ...] = ()
    hosts_deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A header that a rule sets."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the origin is asked, beside the path."""

    #: F10.
    protocol: Protocol = "follow"
    #: F11.
    follow_query: bool = False
    #: F12 to F14: client headers that go along, and that never do.
    pass_all: bool = False
    pass_: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    #: F15: an empty value adds nothing.
    new: tuple[Header, ...] = ()
    #: F16 to F18, F56.
    follow_redirects: bool = True
    redirect_headers: bool = False
    redirect_decode: bool = False
    allow_downgrade: bool = False
    #: F19.
    sni: bool = True
    #: F20.
    probe_url: str | None = None
    #: F55: scheme of events that carry none.
    follow_fallback: Scheme = "http"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """One end of the key, replaced where it is there."""

    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """How the key becomes the path below an origin's base path (3.2)."""

    #: F29: one path for every key; excludes all others but F35.
    fixed: str | None = None
    #: F30, F31: put in front, or replaced there.
    add_prefix: str = ""
    replace_prefix: Replacement | None = None
    #: F32, F33.
    add_suffix: str = ""
    replace_suffix: Replacement | None = None
    #: F34: `${key}` is the key.
    template: str | None = None
    #: F35: leading slashes of the request go to the origin.
    pass_original_slashes: bool = False

    @property
    def rewrites(self) -> bool:
        """Whether the path is anything but the key."""
        return bool(
            self.fixed is not None
            or self.template is not None
            or self.add_prefix
            or self.add_suffix
            or self.replace_prefix
            or self.replace_suffix,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginHost:
    """One host that can be asked."""

    #: F21: `host[:port]`, lower case, IDNA in ASCII, IPv6 in brackets.
    host: str
    #: F26: as it stands in a URL, starts and ends with `/`.
    base_path: str = "/"
    #: Only where it differs from the rule's protocol.
    scheme: Scheme | None = None
    #: F27: name of a credential in the configuration, never a secret.
    credential: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostGroup:
    """F21 to F23: a primary, its share of picks, and its standbys in the order they are tried."""

    primary: OriginHost
    weight: int = 1
    standbys: tuple[OriginHost, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginPart:
    """Whom to ask, and when to ask the next one."""

    hosts: tuple[HostGroup, ...]
    #: F24, F25.
    switch_codes: tuple[int, ...] = ()
    switch_all: bool = False
    #: F28.
    async_status: int | None = None
    #: F51, F52.
    across_groups: bool = False
    max_attempts: int = 4
    timeouts: Timeouts = field(default_factory=Timeouts)
    #: F53.
    budget: BudgetSettings | None = None
    #: F54.
    trust_etag_md5: bool = False
    #: F63: whether the origin is kept equal to what clients write and delete.
    write_back: Literal["off", "async", "sync"] = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the client gets, where that is for the rule to say."""

    #: F37: whose error status and body pass.
    transparent: Literal["none", "all"] | tuple[int, ...] = "none"
    #: F38.
    redirect_code: int = 302
    #: F39: what a Proxy miss gets while the pull is queued.
    proxy_reply: Literal["redirect", "not_found", "retry"] = "redirect"
    #: F40.
    allow_head: bool = False
    #: F41.
    return_headers: tuple[Header, ...] = ()
    #: F60: seconds an absent key is remembered (L14).
    absent_ttl_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePart:
    """What is kept."""

    #: F42.
    save: bool = True
    #: F43: how the client's answer waits for the comparison.
    check_md5: Literal["off", "stream", "spool"] = "off"
    #: F44, F45.
    user_meta: bool = True
    last_modified: bool = False
    #: F62: whose ETag later downloads carry.
    etag: Literal["origin", "store"] = "store"
    #: F61: what is meant for one client is kept for all.
    private: bool = False
    #: F46: S3 object tags.
    tags: tuple[tuple[str, str], ...] = ()
    #: F47: form of `x-oss-tag`.
    tag: Literal["encoded", "decoded", "plain", "off"] = "encoded"
    #: F57 to F59.
    accept_close_delimited: bool = False
    max_object_bytes: int | None = None
    soft_404: Literal["off", "learn"] = "off"


#: What YAML and JSON mean when they say nothing of validators: a client meets one object, from the miss to
#: every hit (F45, F62). The vendors' documents mean the store's own.
KEPT_VALIDATORS: Final[Mapping[str, object]] = {"last_modified": True, "etag": "origin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a bucket."""

    #: F1: metric label and log field; unique in the set.
    name: str
    #: F2: smaller first; None comes after all numbered ones.
    priority: int | None = None
    #: F3.
    type: RuleType = RuleType.MIRROR
    when: When = field(default_factory=When)
    request: Request = field(default_factory=Request)
    path: Path = field(default_factory=Path)
    origin: OriginPart
    answer: Answer = field(default_factory=Answer)
    store: StorePart = field(default_factory=StorePart)
    #: The element it was read from, secrets masked, so that a GET returns what was PUT; not its meaning.
    written: XmlElement | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """All rules of a bucket, replaced as a whole; `rules` keeps the order of the document."""

    bucket: str
    #: Raised with every change; goes into plans as their epoch.
    version: int = 0
    #: W9: the configuration file, or the API.
    owner: Owner = "api"
    rules: tuple[Rule, ...] = ()
    source: SourceFormat = SourceFormat.YAML
    #: F50: `IndexDocument` and `ErrorDocument` of a website document, for the round trip only.
    website: tuple[XmlElement, ...] = ()
    #: What is derived from this set once (compiled conditions, plans); dies with it.
    memo: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    def rule(self, name: str) -> Rule | None:
        """The rule of that name."""
        return next((rule for rule in self.rules if rule.name == name), None)
