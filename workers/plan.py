"""The wire contract between the control plane and the workers, versioned.

Owns what a queue message says: a *plan* says how to fetch, *items* say what, an *outcome* says what came of
it. Knows no rule, no queue and no client library. A worker that gets a message of a newer version refuses it
(`WireError`) and leaves it for a newer worker.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from workers.answers import Attempt  # noqa: TC001  # pydantic reads the annotations
from workers.errors import WireError

#: Version of the queue message. Raised when a field changes its meaning; new optional fields do not raise it.
WIRE_VERSION = 1
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_DEFAULT_PORT = {"http": ":80", "https": ":443"}


class Lane(StrEnum):
    """The two queues: `hot` for what a client waits for, `cold` for scans."""

    HOT = "hot"
    COLD = "cold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One host to ask."""

    #: `host[:port]`, lower case, IDNA in ASCII, default port dropped; IPv6 in brackets.
    host: str
    #: Put before the path; starts and ends with `/`.
    base_path: str = "/"
    #: Fixed scheme, or None to use the item's (FOLLOW).
    scheme: Literal["http", "https"] | None = None
    #: Name of a credential in the configuration, never the secret itself.
    credential: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginGroup:
    """A primary with its share of picks and its standbys in the order they are tried (B1, B2)."""

    primary: Origin
    weight: int = 1
    standbys: tuple[Origin, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Deadlines of one fetch, in seconds (L9, L10)."""

    connect_s: float = 5.0
    first_byte_s: float = 10.0
    idle_s: float = 30.0
    #: Of the whole job; None means 10 minutes plus one second a MiB.
    total_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectPolicy:
    """What to do with 3xx (F16 to F18, F56)."""

    follow: bool = True
    max_hops: int = 10
    resend_headers: bool = False
    decode_location: bool = False
    allow_downgrade: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePolicy:
    """What is stored, and how (F42 to F47, F54, F57 to F59, F61, F62)."""

    save: bool = True
    check_md5: Literal["off", "stream", "spool"] = "off"
    tag: Literal["encoded", "decoded", "plain", "off"] = "encoded"
    user_meta: bool = True
    last_modified: bool = False
    #: Whose ETag later downloads carry (F62).
    etag: Literal["origin", "store"] = "store"
    #: Store what is meant for one client, too (F61).
    private: bool = False
    #: S3 object tags as (key, value).
    tags: tuple[tuple[str, str], ...] = ()
    max_object_bytes: int | None = None
    accept_close_delimited: bool = False
    trust_etag_md5: bool = False
    soft_404: Literal["off", "learn"] = "off"

    def limit_bytes(self, of_process: int | None) -> int | None:
        """What an object may have at most, by the rule and by the process; None for no limit."""
        limits = [limit for limit in (self.max_object_bytes, of_process) if limit is not None]
        return min(limits, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPlan:
    """How to fetch: candidates, headers, redirects, deadlines, and the rule that says so.

    One plan serves a whole batch. Source: SEMANTICS.md sections 3, 4, 6 and 7.
    """

    bucket: str
    #: Rule name (metric label, provenance) and the version of the rule set it came from.
    rule: str
    epoch: int = 0
    groups: tuple[OriginGroup, ...]
    #: 4xx statuses that switch to the next candidate, beside the always-on 5xx (B4).
    switch_codes: tuple[int, ...] = ()
    switch_all: bool = False
    across_groups: bool = False
    max_attempts: int = 4
    #: Passed client headers (H1 to H4), in order; the fixed ones (H6) are added by the origin client.
    headers: tuple[tuple[str, str], ...] = ()
    #: The rule lets a client's `Cookie` through, whether or not this plan has one (F61).
    passes_cookie: bool = False
    #: Headers of the rule (H5); none of their names is in `headers`. Dropped on a hop to another host (H10).
    new_headers: tuple[tuple[str, str], ...] = ()
    #: Send the host name in TLS (F19).
    sni: bool = True
    redirects: RedirectPolicy = field(default_factory=RedirectPolicy)
    timeouts: Timeouts = field(default_factory=Timeouts)
    store: StorePolicy = field(default_factory=StorePolicy)
    #: True when the hosts were named in the configuration file: they may be loopback or private (B11).
    trusted_hosts: bool = False
    probe_url: str | None = None
    #: Seconds an absent key is remembered (L14, F60).
    absent_ttl_s: float = 10.0
    #: Origin status that goes to the client while a pull is queued (F28).
    async_status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchItem:
    """What to fetch: one key of the plan's bucket."""

    key: str
    #: Encoded path below the origin's `base_path`, without a leading `/` unless kept by F35 (3.2).
    path: str
    #: Raw query without `?`, already filtered (3.3); empty for none.
    query: str = ""
    #: Scheme for origins that follow the client's.
    scheme: Literal["http", "https"] = "http"
    #: Index into `plan.groups` that the dispatcher picked; None or out of range means a fresh pick.
    pick: int | None = None
    #: What a listing promised, for checking: size in bytes, digest as `algorithm:hex`.
    size: int | None = None
    digest: str | None = None
    #: Set for an explicit replacement (S12): the ETag the stored object must still have.
    replace_etag: str | None = None
    #: Place in the batch of a scan, so that counting twice can be seen; -1 outside scans.
    position: int = -1
    #: Attempts already spent on this item.
    attempt: int = 0
    #: Identity of earlier tries in a stored object (S11), so that one whose answer was lost is known as ours.
    tried_as: str = ""
    #: Deliveries that began and did not end, of messages that carried the item before this one (P49).
    deaths: int = 0
    #: Passed through to provenance and logs.
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One queue message: a plan with its items, and where the result is accounted."""

    #: Identity over redeliveries; given by the queue when empty.
    id: str = ""
    plan: FetchPlan
    items: tuple[FetchItem, ...]
    lane: Lane = Lane.HOT
    #: `scan` run id and batch number when a scan sent it; empty and -1 otherwise.
    scan: str = ""
    batch: int = -1
    #: Owner token of the claims that the dispatcher took for the items; empty when it took none (scans).
    claim: str = ""
    #: Unix time in seconds at which the store lacked the keys, by a miss or a listing. Where that is long
    #: ago, or 0 for unknown, a worker asks the store before the origin.
    missing_at: float = 0.0
    #: Unix time in seconds when it was first enqueued.
    enqueued_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The object is in the store, byte-identical to one complete origin answer."""

    key: str
    size: int
    etag: str
    #: Where it came from; empty, as `url`, when an earlier try of the same message stored it.
    origin: str
    url: str
    sha256: str = ""
    attempts: tuple[Attempt, ...] = ()
    #: Names of metadata that had to be dropped (S10).
    meta_cut: tuple[str, ...] = ()
    kind: Literal["stored"] = "stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadyPresent:
    """Another object holds the key; it was not touched."""

    key: str
    etag: str = ""
    size: int | None = None
    kind: Literal["already_present"] = "already_present"


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsentAtOrigin:
    """Every candidate that was asked says that there is no such object (B5)."""

    key: str
    attempts: tuple[Attempt, ...] = ()
    kind: Literal["absent_at_origin"] = "absent_at_origin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Nothing was moved, on purpose.

    `reason`: rule_withdrawn, too_large, dot_segment, tombstone, not_saved, redirect, scan_cancelled; private,
    no_store or vary for an answer that is meant for one client (F61).
    """

    key: str
    reason: str
    kind: Literal["skipped"] = "skipped"


#: The closed union of what a finished transfer can be; failures are exceptions (`workers.errors`).
Outcome = Stored | AlreadyPresent | AbsentAtOrigin | Skipped

_BATCH: TypeAdapter[Batch] = TypeAdapter(Batch)


def encode_batch(batch: Batch) -> dict[str, Any]:
    """The JSON-ready form of a queue message: `{"v": 1, "plan": {...}, "items": [...], ...}`."""
    wire: dict[str, Any] = _BATCH.dump_python(batch, mode="json", exclude_defaults=True)
    return {"v": WIRE_VERSION, **wire}


def decode_batch(wire: dict[str, Any]) -> Batch:
    """Read a queue message.

    Raises:
        WireError: the version is not ours, or the shape is not that of a batch.
    """
    version = wire.get("v")
    if version != WIRE_VERSION:
        msg = f"queue message of version {version!r}; this worker reads version {WIRE_VERSION}"
        raise WireError(msg)
    try:
        return _BATCH.validate_python({k: v for k, v in wire.items() if k != "v"})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        msg = f"queue message: {place}: {first['msg']}"
        raise WireError(msg) from error


def unlistable(key: str) -> str | None:
    """Why a key is never stored, on whichever way it came; None for nearly all.

    No list, log or manifest can name a key with control characters, and some stores list no other beside it:
    such keys are served from the origin and listed as `control_character`, as by scans, events and logs.
    """
    return (
        None
        if key.isprintable() or _CONTROLS.search(key) is None
        else "keys with control characters are not stored"
    )


def origin_url(origin: Origin, item: FetchItem) -> str:
    """The URL that one candidate is asked for (3.5): absolute, ASCII, not to be quoted again."""
    scheme = origin.scheme or item.scheme
    host = origin.host.removesuffix(_DEFAULT_PORT[scheme])
    query = f"?{item.query}" if item.query else ""
    return f"{scheme}://{host}{origin.base_path}{item.path}{query}"
