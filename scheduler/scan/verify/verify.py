"""Verifying a scan's work: every key by what the listing says, and a sample (or all) byte by byte.

Owns the comparison of origin and store after the move. Nothing is changed. Requests to origins go through the
same fetcher as every other, so they count against its budgets.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import TypeAdapter

from scheduler.rules.matching import RequestFacts, match
from scheduler.rules.planning import PlanRefused, plan
from scheduler.scan.compare.compare import Selection, difference
from scheduler.scan.compare.listing import BlockingListing, sort_listing, sorted_blocks
from scheduler.scan.compare.merge import merge
from scheduler.scan.compare.sorting import read_blocks
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.verify.bound import upper_bound
from workers.errors import ConfigError, OriginError, TransferError
from workers.origin.fetch.fetcher import Fetched
from workers.plan import Lane
from workers.store.metadata import is_mirrored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from scheduler.runtime import Services
    from scheduler.scan.compare.merge import Block
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.state import ScanState
    from workers.store.model import ListedObject

#: Objects compared byte by byte at the same time.
CONCURRENCY = 8
#: Findings that are kept by name; beyond them only the counts grow.
MAX_FINDINGS = 1_000
#: Keys that only the bucket has and that are kept by name.
MAX_EXTRA = 20
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
    "absent_at_origin": "no fault: no origin has the key any more",
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

    @property
    def clean(self) -> bool:
        """Whether every object is as it should be. Drift and absence at the origin are no faults of ours."""
        return not any(number for finding, number in self.counts.items() if finding not in HARMLESS)

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


class Verifier:
    """One verification of one scan."""

    def __init__(
        self,
        services: Services,
        state: ScanState,
        *,
        sample: int | None = None,
        full: bool = False,
        progress: Callable[[VerifyReport], None] = lambda _: None,
        seed: int | None = None,
    ) -> None:
        self._services = services
        self._state = state
        self._sample = sample
        self._full = full
        self._progress = progress
        self._rng = random.Random(seed)  # a sample, not a secret
        mode: Literal["listing", "sample", "full"] = "full" if full else "sample" if sample else "listing"
        self.report = VerifyReport(
            name=state.name, run=state.run, bucket=state.options.bucket, mode=mode, started_at=time.time()
        )
        self._problems: list[Problem] = []
        self._counts: dict[str, int] = {}
        self._excused: frozenset[str] = frozenset()

    async def run(self) -> VerifyReport:
        """Compare, and keep the report in the ledger.

        Raises:
            ConfigError: the scan has no inventory here (it did not get that far, or ran on another machine).
            StoreError: the listing failed: no verdict.
        """
        services, state = self._services, self._state
        path = Path(state.inventory_file)
        if not state.inventory_complete or not path.is_file():  # one stat
            msg = f"scan {state.name} is {state.phase}, and its inventory was not read to its end; scan first"
            if state.inventory_complete:
                msg = (
                    f"scan {state.name}: its inventory {state.inventory_file} is not on this machine: "
                    f"verify where the scan was run, or scan again from here: "
                    f"ferryman scan start {state.name} … --wait"
                )
            raise ConfigError(msg)
        waivers = await services.ledger.failures.waivers(state.options.bucket)
        self._excused = frozenset(waiver.key for waiver in waivers)
        collation = Collation((await services.store.guarantees(state.options.bucket)).collation)
        bucket, prefix = state.options.bucket, state.options.prefix
        if collation is Collation.NONE:
            file = path.with_suffix(".listing")
            listing = sorted_blocks(await sort_listing(services.store, bucket, prefix, file))
        else:
            listing = BlockingListing(services.store, bucket, prefix).blocks(collation=collation)
        chosen = await asyncio.to_thread(self._by_listing, read_blocks(path, collation), listing)
        await self._absent(chosen)
        if self._full or self._sample:
            await self._by_bytes([entry for entry, there in chosen if there])
        unreadable = self._counts.get("unreadable", 0)
        bad = self._counts.get("bytes", 0) + unreadable
        looked_at = self.report.compared + unreadable
        self.report = replace(
            self.report,
            finished_at=time.time(),
            counts=self._counts,
            problems=tuple(sorted(self._problems, key=lambda one: (one.key, one.finding))),
            bad_per_million=upper_bound(looked_at, bad) * 1e6 if looked_at and not self._full else None,
        )
        record = orjson.dumps(_REPORT.dump_python(self.report, mode="json"))
        await services.redis.hset(f"{services.settings.broker.namespace}:verify", state.name, record)
        return self.report

    def _by_listing(
        self, inventory: Iterator[Block[Entry]], listing: Iterator[Block[ListedObject]]
    ) -> list[tuple[Entry, bool]]:
        """Compare every key with the listing; the entries to look at further, with whether they are there.

        Missing ones are all returned, and of those present a sample: proportional to each prefix by drawing
        uniformly from all (reservoir), or every one with `full`.
        """
        wants = Selection(self._state.options, now=self._state.requested_at).wants
        kept: list[tuple[Entry, bool]] = []
        missing: list[tuple[Entry, bool]] = []
        checked = waived = present = 0
        extra: list[str] = []
        extras = 0
        for entry, there in merge(inventory, listing, on_duplicate=lambda *_: None):
            if entry is None:
                extras += 1
                if there is not None and len(extra) < MAX_EXTRA:
                    extra.append(there.key)
                continue
            if not wants(entry):
                continue
            checked += 1
            if there is None:
                if entry.key in self._excused:
                    waived += 1
                else:
                    missing.append((entry, False))
                continue
            reason = difference(entry, there, ("size", "digest"))
            if entry.mtime is not None and entry.mtime > there.last_modified:
                self._found(entry.key, "drift", f"the origin's is younger{f', {reason}' if reason else ''}")
            elif reason is not None:
                self._found(
                    entry.key, "size" if reason == "size" else "digest", _differs(entry, there, reason)
                )
            present += 1
            if self._full:
                kept.append((entry, True))
            elif self._sample:
                if len(kept) < self._sample:
                    kept.append((entry, True))
                else:
                    at = self._rng.randrange(present)
                    if at < self._sample:
                        kept[at] = (entry, True)
            if checked % 10_000 == 0:
                self.report = replace(self.report, checked=checked)
                self._progress(self.report)
        self.report = replace(
            self.report, checked=checked, waived=waived, extra=extras, extra_keys=tuple(extra)
        )
        return missing + kept

    async def _absent(self, chosen: list[tuple[Entry, bool]]) -> None:
        """Missing keys: those that no origin has (any more) are no fault of the move."""

        async def ask(entry: Entry) -> None:
            try:
                there = await self._origin_digest(entry.key, head=True)
            except TransferError as error:
                self._found(entry.key, "missing", f"and the origin: {error}")
                return
            self._found(entry.key, "missing" if there is not None else "absent_at_origin", "")

        await self._each([entry for entry, there in chosen if not there], ask)

    async def _by_bytes(self, entries: list[Entry]) -> None:
        await self._each(entries, lambda entry: self._compare(entry.key))

    async def _each(self, entries: list[Entry], step: Callable[[Entry], Awaitable[None]]) -> None:
        """Take the step for every entry, a few at a time."""
        waiting = iter(entries)

        async def work() -> None:
            for entry in waiting:
                await step(entry)
                self._progress(self.report)

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

    async def _compare(self, key: str) -> None:
        bucket = self._state.options.bucket
        try:
            async with await self._services.store.get(bucket, key) as answer:
                if answer.status != 200 or answer.info is None:
                    self._found(key, "unreadable", f"the store answers {answer.status}")
                    return
                mine = hashlib.sha256()
                size = 0
                async for chunk in answer.chunks():
                    mine.update(chunk)
                    size += len(chunk)
                stored = answer.info
            theirs = await self._origin_digest(key)
        except TransferError as error:
            self._found(key, "unreadable", str(error))
            return
        self.report = replace(
            self.report, compared=self.report.compared + 1, compared_bytes=self.report.compared_bytes + size
        )
        if theirs is None:
            self._found(key, "absent_at_origin", "")
            return
        digest, headers = theirs
        if digest == mine.hexdigest():
            return
        # Other bytes: the origin changed since, if its validators are not those that were stored.
        meta = stored.user_meta
        was = (meta.get("ferryman-source-etag", ""), meta.get("ferryman-source-last-modified", ""))
        now = (headers.get("etag", ""), headers.get("last-modified", ""))
        changed = any(old and new and old != new for old, new in zip(was, now, strict=True))
        by = "written by Ferryman" if is_mirrored(stored) else "written by somebody else"
        detail = f"SHA-256 {mine.hexdigest()} in the store, {by}; {digest} at the origin"
        self._found(key, "drift" if changed else "bytes", detail)

    async def _origin_digest(self, key: str, *, head: bool = False) -> tuple[str, dict[str, str]] | None:
        """SHA-256 and headers of what the origin gives now; None when it has no such key.

        Raises:
            OriginError: it could not be read.
        """
        bucket = self._state.options.bucket
        ruleset = self._services.rules.snapshot(bucket)
        facts = RequestFacts(key=key)
        rule = match(ruleset, facts) if ruleset is not None else None
        if ruleset is None or rule is None:
            msg = f"{key}: no rule of {bucket} matches; verify before the rule is retired"
            raise OriginError(msg)
        try:
            fetch_plan, item = plan(rule, ruleset, bucket, facts, kind="scan")
        except PlanRefused as error:
            raise OriginError(str(error)) from error
        method = "HEAD" if head else "GET"
        async with self._services.fetcher.session(fetch_plan, item, lane=Lane.COLD, method=method) as session:
            answer = await session.open()
            if not isinstance(answer, Fetched):
                return None
            digest = hashlib.sha256()
            if not head:
                async for chunk in answer.chunks():
                    digest.update(chunk)
            headers = {name.lower(): value.strip() for name, value in answer.headers}
            return digest.hexdigest(), headers

    def _found(self, key: str, finding: Finding, detail: str) -> None:
        self._counts[finding] = self._counts.get(finding, 0) + 1
        if len(self._problems) < MAX_FINDINGS:
            self._problems.append(Problem(key=key, finding=finding, detail=detail))


def _differs(entry: Entry, there: ListedObject, reason: str) -> str:
    if reason == "size":
        return f"{entry.size} bytes in the inventory, {there.size} in the store"
    return f"{entry.digest} in the inventory, ETag {there.etag} in the store"
