"""Types of JSON answers that are put together in a handler and have no record of their own in the code. PURE.

Each forbids what it does not name: a document that fell behind its answers is found by comparing them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from scheduler.rules.trying.difference import Difference, DifferenceLine
from scheduler.scan.gate.quiet import Condition
from scheduler.scan.progress import Progress
from scheduler.scan.record.account import Account
from scheduler.scan.record.state import NAME, ScanOptions
from scheduler.scan.shards.view import ShardsView
from workers.ledger.failures import Failure
from workers.origin.control.overview import OriginOverview

Owner = Literal["file", "api"]


class Shape(BaseModel):
    """A JSON object with these members and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorDetail(BaseModel):
    """Why a request was refused: a constant for programs, a sentence for people, and what else there is."""

    code: str
    message: str


class Error(BaseModel):
    """How `/v1` says no; of scans the error is the sentence alone."""

    error: ErrorDetail | str
    fields: dict[str, str] | None = Field(
        default=None, description="of a scan that is started wrongly: what is wrong with which option"
    )


class RuleSummary(Shape):
    """One bucket with what is in force for it."""

    bucket: str
    owner: Owner
    count: int
    version: int | None = Field(default=None, description="missing where there are no rules")
    source: str | None = Field(default=None, description="the form it was written in: yaml, cos, oss")


class RuleSets(Shape):
    """Every configured bucket."""

    buckets: list[RuleSummary]
    synced: bool = Field(description="false until the rules were read from Redis")


class RuleDocument(BaseModel):
    """A rule set as JSON; its rules are as `docs/semantics.md` has them."""

    bucket: str
    version: int
    owner: Owner
    source: str
    count: int
    rules: list[dict[str, Any]]


class Problem(Shape):
    """One remark on a document; `line` is 0 where there is none."""

    path: str
    line: int
    kind: str
    message: str


class RulesTried(BaseModel):
    """What a document would put in force, and what that changes of `version`, which is in force now."""

    bucket: str
    valid: Literal[True]
    version: int
    difference: Difference
    rules: list[dict[str, Any]]
    warnings: list[Problem]


class RulesReplaced(Shape):
    """What a change did; `changed` is false when the same was in force already."""

    bucket: str
    version: int
    changed: bool
    warnings: list[Problem]


class RulesDeleted(Shape):
    """`deleted` is false when there were no rules."""

    bucket: str
    deleted: bool


class RulesVersion(Shape):
    """One change of the history; `count` is null when it deleted the rules."""

    version: int
    at: float = Field(description="Unix time in seconds")
    who: str
    how: str
    owner: Owner
    count: int | None
    names: list[str]


class RulesHistory(Shape):
    """The last 20 versions, newest first."""

    bucket: str
    versions: list[RulesVersion]


class RollbackWanted(Shape):
    """Which version of the history to put in force again."""

    version: int = Field(ge=1, lt=2**53)


class RulesRolledBack(Shape):
    """The version that the rollback made, and the one it took its rules from."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    bucket: str
    version: int
    changed: bool
    from_: int = Field(alias="from")


class RulesDiffer(Shape):
    """What version `to` says otherwise than `from`: names of rules, and lines of the document."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    bucket: str
    from_: int = Field(alias="from")
    to: int
    added: list[str]
    removed: list[str]
    changed: list[str]
    reordered: bool
    lines: list[DifferenceLine]


class GateSeen(Shape):
    """One look at the gate: it is open when no condition is shut that is more than a warning."""

    open: bool
    shut: int
    conditions: list[Condition]
    rules: list[str] = Field(description="those that passing the gate retires")
    version: int


class GateLooked(GateSeen):
    """The same of one scan, with the quiet period in seconds."""

    scan: str
    bucket: str
    quiet_s: float


class GatePassed(GateSeen):
    """What passing it did; `reports` are files and objects."""

    retired: list[str]
    report: str
    reports: list[str]


class RolledBack(Shape):
    """Names of the rules that are in force again."""

    rolled_back: list[str]


class Origins(Shape):
    """Every origin that a living process knows."""

    origins: list[OriginOverview]


class ProbeWanted(BaseModel):
    """Which URL to ask, and the name of a credential to sign with."""

    url: str = Field(pattern="^https?://.")
    credential: str = ""


class Reports(Shape):
    """Names of reports, newest first."""

    reports: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanWanted(ScanOptions):
    """A scan to start: its name and options; `scans.<name>` of config.yaml may give some of them."""

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    bucket: str = ""
    inventory: dict[str, Any] = field(default_factory=dict)


class ScanReport(Shape):
    """Everything there is to say of a scan, as `scan status --json` says it; times in seconds."""

    name: str
    run: str
    bucket: str
    phase: str
    paused: bool
    error: str
    begins_anew: bool
    waiting: str
    coordinator: str | None
    dry_run: bool
    read: int
    duplicates: int
    extra: int
    pages: int
    unread: int
    outside: int
    would_fetch: int
    started_at: float
    finished_at: float
    progress: Progress
    shards: ShardsView
    total: Account
    prefixes: dict[str, Account]


class ScanKey(Shape):
    """One key behind a count of a scan."""

    term: str
    key: str
    reason: str


class ScanKeys(Shape):
    """Keys of some terms; `more` when the limit left some out."""

    name: str
    keys: list[ScanKey]
    more: bool


class ScanOrdered(Shape):
    """The order was taken down; the coordinator obeys it within seconds."""

    name: str
    ordered: Literal["pause", "resume", "cancel"]


class FailureList(Shape):
    """Listed failures; `count` and `reasons` are of all that the filters leave."""

    count: int
    reasons: dict[str, int]
    failures: list[Failure]


class Kept(Shape):
    """A failure that was not sent again."""

    bucket: str
    key: str
    why: str


class Retried(Shape):
    """How many were sent again, and which were kept."""

    retried: int
    kept: list[Kept]


class Waived(Shape):
    """How many were accepted for good."""

    waived: int


class EventLine(BaseModel):
    """What became of one record that was not accepted."""

    line: int
    state: str
    reason: str | None = None
    detail: str | None = None


class EventsTaken(BaseModel):
    """The account of one request: `received` is the sum of the others."""

    error: ErrorDetail | None = None
    received: int
    accepted: int
    duplicate: int
    unmatched: int
    absent: int
    tombstoned: int
    refused: int
    ignored: int
    tombstones: int
    written_back: int = Field(default=0, description="missing when none")
    lines: list[EventLine]
    lines_not_listed: int = Field(default=0, description="missing when all are listed")
    lines_listed_at_most: int | None = None
    taken_up_to_line: int | None = Field(
        default=None, description="of 429 and 503: everything up to here is safe"
    )


class MissEvent(BaseModel):
    """One miss; other programs' own records are taken too, see docs/miss-events.md."""

    bucket: str = ""
    key: str
    id: str | None = Field(default=None, description="taken once a day")
    at: str | float | None = None
    method: str = "GET"
    status: int | None = None
    scheme: str | None = None
    query: str | None = None
    headers: dict[str, str] | None = None


class BackOfBucket(Shape):
    """How far the origins of one bucket are behind what clients wrote."""

    bucket: str
    could_go_back: bool
    rules: dict[str, str]
    pending: int
    failed: int
    lag_s: float
    sentence: str


class Back(Shape):
    """The same over all buckets."""

    could_go_back: bool
    buckets: list[BackOfBucket]
