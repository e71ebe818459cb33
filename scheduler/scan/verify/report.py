"""What a verification found, and what that proves.

Owns the record, its verdict and its place in the ledger: `ns:verify`, a hash of scan names and JSON reports.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import TypeAdapter

if TYPE_CHECKING:
    from scheduler.runtime import Services

#: Findings that are kept by name; beyond them only the counts grow.
MAX_FINDINGS = 1_000
#: Findings that are no fault of the move.
HARMLESS = frozenset({"drift", "absent_at_origin"})
#: What to do about a finding; NAME is the scan's.
REMEDIES: dict[str, str] = {
    "missing": "scan again with the same options: ferryman scan start NAME … --wait",
    "size": "ferryman scan start NAME … --replace --wait brings objects that Ferryman wrote up to date; what "
    "somebody else wrote stays, and if that is right: ferryman finalize NAME --override REASON",
    "digest": "as for size, with --compare digest beside --replace",
    "bytes": "delete the object in the store and scan again; if somebody wrote it there on purpose: "
    "ferryman finalize NAME --override REASON",
    "unreadable": "see the detail, mend that side, and verify again",
    "drift": "no fault: the origin changed later; to take it over: --compare mtime --replace",
    "absent_at_origin": "no fault: no origin has the key any more, and the scan had not moved it",
}

Finding = Literal["missing", "size", "digest", "bytes", "drift", "unreadable", "absent_at_origin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One key that is not as it should be."""

    key: str
    #: missing, size, digest: by the listing. bytes: other bytes than the origin's. drift: the origin changed
    #: after the object was stored. unreadable: one side could not be read. absent_at_origin: gone there.
    finding: Finding
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a verification showed."""

    name: str
    run: str
    bucket: str
    mode: Literal["listing", "sample", "full"]
    started_at: float
    finished_at: float = 0.0
    #: Keys of the inventory that were compared with the listing.
    checked: int = 0
    #: Finding -> number.
    counts: dict[str, int] = field(default_factory=dict)
    #: Objects compared byte by byte, and their bytes.
    compared: int = 0
    compared_bytes: int = 0
    #: Bad objects per million at most, at 99 %; None when nothing was compared byte by byte.
    bad_per_million: float | None = None
    problems: tuple[Problem, ...] = ()
    #: Keys whose failure was waived; they are not missing.
    waived: int = 0
    #: Objects of the bucket that the inventory lacks (moved by misses, or users' own); the first by name.
    extra: int = 0
    extra_keys: tuple[str, ...] = ()
    #: Ranges of keys that were looked at side by side, and why it was one although more were asked for.
    ranges: int = 1
    one_because: str = ""
    #: Which store was looked at.
    store: str = ""
    #: Why this proves less than it seems to; sentences.
    unproved: tuple[str, ...] = ()

    @property
    def faults(self) -> int:
        """How many findings are faults. Drift and absence at the origin are none of ours."""
        return sum(number for finding, number in self.counts.items() if finding not in HARMLESS)

    @property
    def clean(self) -> bool:
        """Whether it is shown that every object is as it should be."""
        return not self.faults and not self.unproved

    @property
    def remedies(self) -> dict[str, str]:
        """Finding -> what to do about it."""
        return {finding: REMEDIES[finding].replace("NAME", self.name) for finding in sorted(self.counts)}


_REPORT: TypeAdapter[VerifyReport] = TypeAdapter(VerifyReport)


def verify_to_json(report: VerifyReport) -> dict[str, Any]:
    """The report as plain JSON values, with the verdict."""
    record: dict[str, Any] = _REPORT.dump_python(report, mode="json")
    return {**record, "clean": report.clean, "remedies": report.remedies}


async def last_report(services: Services, name: str) -> VerifyReport | None:
    """The report of the last verification of a scan, or None."""
    found = await services.redis.hget(f"{services.settings.broker.namespace}:verify", name)
    return None if found is None else _REPORT.validate_json(found)


async def keep_report(services: Services, report: VerifyReport) -> None:
    """Put a report where `last_report` finds it."""
    record = orjson.dumps(_REPORT.dump_python(report, mode="json"))
    await services.redis.hset(f"{services.settings.broker.namespace}:verify", report.name, record)
