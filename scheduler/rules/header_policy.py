"""Which request headers go to an origin: passed, forbidden, never, set by the rule. PURE.

Owns section 4 of SEMANTICS.md up to what the origin client adds itself (H6, H7). Names compare without case,
repeated headers keep their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scheduler.rules.model import Request

#: `request`: the front asks itself; `event`: a queued pull; `scan`: nobody asked (H9).
PlanKind = Literal["request", "event", "scan"]

_NEVER = frozenset({
    "content-length", "authorization", "authorization2", "range", "date",
    "host", "accept-encoding", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
    "expect", "content-md5", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since",
    "if-range", "x-amz-date", "x-amz-content-sha256",
})  # fmt: skip
_NEVER_STARTS = ("oss-", "x-oss-", "x-drs-", "proxy-", "x-ferryman-")
_NEVER_ENDS = "-security-token"
_REFUSED_IN_NEW = frozenset({
    "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect", "range",
    "accept-encoding",
})  # fmt: skip

Headers = tuple[tuple[str, str], ...]

_HOP = "x-ferryman-hop"
_HOP_LENGTH = len(_HOP)
#: A longer marker is no way that Ferryman took.
_MAX_HOP_LENGTH = 512


def never_passed(name: str) -> bool:
    """Whether a client header of this lower-case name never reaches an origin (4.2)."""
    return name in _NEVER or name.startswith(_NEVER_STARTS) or name.endswith(_NEVER_ENDS)


def hop_marker(headers: Iterable[tuple[str, str]]) -> Headers:
    """The marker of other installations that the request came through, for the origin client to continue.

    It is no passed header (4.2) but a part of the fixed one (H6): without it two installations that point at
    each other would never see the loop (H11).
    """
    for name, value in headers:
        if len(name) == _HOP_LENGTH and name.lower() == _HOP and len(value) <= _MAX_HOP_LENGTH:
            return ((name, value),)
    return ()


def refused_in_new(name: str) -> bool:
    """Whether a rule may not set a header of this lower-case name (4.3)."""
    return name in _REFUSED_IN_NEW or name.startswith("x-ferryman-")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderPolicy:
    """The header part of one rule, prepared for many requests."""

    pass_all: bool
    #: Lower-case names that pass, without those that never do.
    names: frozenset[str]
    forbid: frozenset[str]
    #: H5: what the rule sets; empty values are gone.
    new: Headers
    new_names: frozenset[str]

    @classmethod
    def of(cls, request: Request) -> HeaderPolicy:
        """Prepare a rule's policy (H1 to H5)."""
        new = tuple((header.name, header.value) for header in request.new if header.value)
        new_names = frozenset(name.lower() for name, _ in new)
        forbid = frozenset(name.lower() for name in request.forbid)
        named = frozenset(name.lower() for name in request.pass_)
        return cls(
            pass_all=request.pass_all,
            names=frozenset(n for n in named - forbid - new_names if not never_passed(n)),
            forbid=forbid,
            new=new,
            new_names=new_names,
        )

    @property
    def passes_nothing(self) -> bool:
        """Whether no client header can go along."""
        return not self.pass_all and not self.names

    @property
    def passes_cookie(self) -> bool:
        """Whether a client's `Cookie` goes along with a request that the front makes."""
        return self.verdict("cookie", "request") in {"passed", "passed_all"}

    def passed(self, headers: Iterable[tuple[str, str]], kind: PlanKind) -> Headers:
        """The client's headers that go along, in order (H2 to H4, H9)."""
        if kind == "scan" or self.passes_nothing:
            return ()
        return tuple(
            (name, value) for name, value in headers if self.verdict(name, kind) in {"passed", "passed_all"}
        )

    def verdict(self, name: str, kind: PlanKind) -> HeaderVerdict:
        """What becomes of a client header, with the reason when it stays here."""
        lower = name.lower()
        if kind == "scan":
            return "scan"
        if lower in self.forbid:
            return "forbidden"
        if lower in self.new_names:
            return "replaced"
        if never_passed(lower):
            return "never_passed"
        if lower not in self.names and not self.pass_all:
            return "not_listed"
        if kind == "event" and lower == "cookie":
            return "cookie_queued"
        return "passed" if lower in self.names else "passed_all"


HeaderVerdict = Literal[
    "passed",
    "passed_all",
    "not_listed",
    "forbidden",
    "never_passed",
    "replaced",
    "cookie_queued",
    "scan",
]


def withheld(
    policy: HeaderPolicy, headers: Sequence[tuple[str, str]], kind: PlanKind
) -> list[tuple[str, str]]:
    """Client headers that stay here as (name, reason)."""
    verdicts = ((name, policy.verdict(name, kind)) for name, _ in headers if name.lower() != _HOP)
    return [(name, verdict) for name, verdict in verdicts if verdict not in {"passed", "passed_all"}]
