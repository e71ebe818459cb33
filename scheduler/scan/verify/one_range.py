"""A verification in one range, in this process: each key by what the listing says, then byte by byte.

Owns the way around a listing that comes in another order than it was judged to: it is sorted here.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TextIO, TypedDict

import structlog

from scheduler.machine.embedded import store_identity
from scheduler.scan.compare.compare import Groups, Selection
from scheduler.scan.compare.listing import listing_in
from scheduler.scan.compare.merge import OutOfOrder
from scheduler.scan.compare.reading import inventory_of
from scheduler.scan.compare.sorted_file import NotThisFile, read_blocks, sorted_as
from scheduler.scan.compare.sorting import in_order
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.limits import max_absent_of
from scheduler.scan.names import Names
from scheduler.scan.record.shard import MAX_EXTRA, WHOLE
from scheduler.scan.shards.source import RangedBucket
from scheduler.scan.verify.bound import upper_bound
from scheduler.scan.verify.its_inventory import inventory_path, not_this_file
from scheduler.scan.verify.judging import Judged, blamed, enough, unproved
from scheduler.scan.verify.listed import Looking, Lots, Part, Rules
from scheduler.scan.verify.one_key import ask_origin, compare_bytes, each
from scheduler.scan.verify.report import MAX_FINDINGS, Finding, Problem, VerifyReport, keep_report
from workers.ledger.names import Named, named, of_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from scheduler.runtime import Services
    from scheduler.scan.compare.merge import Block
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.record.state import ScanState
    from workers.store.model import ListedObject

log = structlog.get_logger(__name__)


class How(TypedDict, total=False):
    """How a verification is made."""

    #: Objects to be compared byte by byte; or all of them.
    sample: int | None
    full: bool
    progress: Callable[[VerifyReport], None]
    #: Of the sample; None: another one each time.
    seed: int | None
    #: Ranges that are looked at side by side in the fleet; None: as many as the scan was cut into.
    shards: int | Literal["auto"] | None


class OneRange:
    """One verification of one scan, in one range."""

    def __init__(self, services: Services, state: ScanState, how: How, *, one_because: str = "") -> None:
        """`one_because`: why it is one although more were asked for."""
        self._services = services
        self._state = state
        self._sample, self._full = how.get("sample"), how.get("full", False)
        self._progress: Callable[[VerifyReport], None] = how.get("progress", nobody_looks)
        self._seed = seed_of(how)
        self.report = blank_report(services, state, how, started_at=time.time())
        self.report = replace(self.report, one_because=one_because)
        self._problems: list[Problem] = []
        self._findings: TextIO
        self._counts: dict[str, int] = {}
        self._max_absent = max_absent_of(services.settings, state)
        #: Why nothing more is asked of the origin.
        self._stopped = ""
        #: Missing in the store, and at every origin.
        self._gone: list[str] = []
        #: In the store, and at no origin any more.
        self._left_behind = 0

    async def run(self) -> VerifyReport:
        """Compare, and keep the report in the ledger.

        Raises:
            ConfigError: the scan has no inventory here that can be read (it did not get that far, ran on
                another machine, on another store, or with another version).
            StoreError: the listing failed: no verdict.
        """
        path = await asyncio.to_thread(inventory_path, self._services, self._state)
        # Every finding has its line here, whatever their number; unlinked, so that nothing is left behind.
        with tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent) as self._findings:
            return await self._run(path)

    async def _run(self, path: Path) -> VerifyReport:
        services, state = self._services, self._state
        waivers = await services.ledger.failures.waivers(state.options.bucket)
        excused = frozenset(waiver.key for waiver in waivers)
        judged = Collation((await services.store.guarantees(state.options.bucket)).collation)
        try:
            try:
                missing, there = await self._listed(path, judged, excused)
            except OutOfOrder as error:
                if error.side != "listing":
                    raise
                log.warning("listing_sorted_here", scan=state.name, reason=str(error))
                missing, there = await self._listed(path, Collation.NONE, excused)
        except NotThisFile as error:
            raise not_this_file(state, error) from error
        await self._absent(missing)
        if self._full or self._sample:
            await each(there, self._compare)
        self.report = concluded(self.report, counts=self._counts, problems=self._problems)
        judgement = Judged(len(self._gone), self._left_behind, self._stopped, self._max_absent)
        self.report = replace(self.report, unproved=tuple(unproved(services, state, self.report, judgement)))
        self._findings.seek(0)
        await Names(services, state).put_findings(map(of_line, self._findings))
        await keep_report(services, self.report)
        return self.report

    # ------------------------------------------------------------------ beside the listing

    async def _listed(
        self, path: Path, judged: Collation, excused: frozenset[str]
    ) -> tuple[list[str], list[str]]:
        """Compare with the listing: missing keys, and those to be compared byte by byte."""
        self._problems, self._counts = [], {}
        self._findings.seek(0)
        self._findings.truncate()
        self.report = replace(self.report, checked=0, waived=0, extra=0, extra_keys=())
        state, options = self._state, self._state.options
        collation = Collation.BYTES if state.source_listed else sorted_as(judged)
        if not state.source_listed:
            await asyncio.to_thread(in_order, path, collation)
        _, listing = await listing_in(
            collation,
            self._services.store,
            options.bucket,
            options.prefix,
            file=path.with_suffix(".listing"),
            sort=judged is not collation,
        )
        lots = Lots(self._seed, self._sample) if self._sample and not self._full else None
        rules = Rules(
            wants=Selection(options, now=state.requested_at).wants,
            excused=excused,
            lots=lots,
            all_there=self._full,
        )
        if state.source_listed:
            async with RangedBucket.opened(options.inventory, self._services, options.prefix) as source:
                missing, there = await self._parts(source.blocks(WHOLE, collation), listing, rules)
        else:
            entries = read_blocks(path, collation, of=inventory_of(state), keys=state.inventory_keys)
            missing, there = await self._parts(entries, listing, rules)
        return missing, there if lots is None else [lot.key for lot in lots.kept]

    async def _parts(
        self, inventory: Iterator[Block[Entry]], listing: Iterator[Block[ListedObject]], rules: Rules
    ) -> tuple[list[str], list[str]]:
        looking = Looking(inventory, listing, rules)
        missing: list[str] = []
        there: list[str] = []
        part = Part()
        while not part.ended:
            part = await asyncio.to_thread(looking.next_part)
            for finding in part.findings:
                self._found(*finding)
            missing += part.missing
            there += part.there
            report = self.report
            self.report = replace(
                report,
                checked=report.checked + part.checked,
                waived=report.waived + part.waived,
                extra=report.extra + part.extra,
                extra_keys=(*report.extra_keys, *part.extra_keys)[:MAX_EXTRA],
            )
            self._progress(self.report)
        return missing, there

    def _found(self, key: str, finding: Finding, detail: str) -> None:
        self._counts[finding] = self._counts.get(finding, 0) + 1
        if len(self._problems) < MAX_FINDINGS:
            self._problems.append(Problem(key=key, finding=finding, detail=detail))
        self._findings.write(f"{named(Named(finding, key, detail))}\n")

    # ------------------------------------------------------------------ key by key

    async def _absent(self, missing: list[str]) -> None:
        """Missing keys: those that no origin has and that the scan had not moved are no fault of it."""
        asked = 0

        async def ask(key: str) -> bool:
            nonlocal asked
            asked += 1
            look = await ask_origin(self._services, self._state.options.bucket, key)
            if look.finding is not None:
                self._found(key, look.finding, look.detail)
            else:
                self._gone.append(key)
                self._stopped = self._stopped or enough(
                    self._state.name,
                    missing=len(missing),
                    checked=self.report.checked,
                    asked=asked,
                    gone=len(self._gone),
                    max_absent=self._max_absent,
                )
            self._progress(self.report)
            return not self._stopped

        await each(missing, ask)
        await self._judge_gone()

    async def _judge_gone(self) -> None:
        """Tell what the origin never had from what was moved and is lost."""
        state, services = self._state, self._services
        known = await services.ledger.failures.versions(state.options.bucket, self._gone)
        groups = Groups(state.groups)
        group_of = {key: groups.of(key) for key in self._gone if key not in known}
        numbers: dict[str, int] = {}
        for group in group_of.values():
            numbers[group] = numbers.get(group, 0) + 1
        reasons = await blamed(services, state, numbers)
        for key in self._gone:
            reason = reasons.get(group_of[key], "") if key in group_of else ""
            self._found(key, "missing" if reason else "absent_at_origin", reason)

    async def _compare(self, key: str) -> bool:
        if self._stopped:
            return False
        look = await compare_bytes(self._services, self._state.options.bucket, key)
        if look.finding is not None:
            self._found(key, look.finding, look.detail)
            self._left_behind += look.finding == "absent_at_origin"
        if look.compared_bytes is not None:
            self.report = replace(
                self.report,
                compared=self.report.compared + 1,
                compared_bytes=self.report.compared_bytes + look.compared_bytes,
            )
        self._progress(self.report)
        return True


def seed_of(how: How) -> int:
    """The seed that was given, or another one each time: of a sample, not a secret."""
    seed = how.get("seed")
    return random.getrandbits(64) if seed is None else seed


def blank_report(services: Services, state: ScanState, how: How, *, started_at: float) -> VerifyReport:
    """The report of a verification that begins."""
    sample, full = how.get("sample"), how.get("full", False)
    mode: Literal["listing", "sample", "full"] = "listing"
    if full or sample:
        mode = "full" if full else "sample"
    return VerifyReport(
        name=state.name,
        run=state.run,
        bucket=state.options.bucket,
        mode=mode,
        started_at=started_at,
        store=store_identity(services.settings),
    )


def concluded(report: VerifyReport, *, counts: dict[str, int], problems: Iterable[Problem]) -> VerifyReport:
    """The report with what was found, and what that proves of all objects."""
    unreadable = counts.get("unreadable", 0)
    bad = counts.get("bytes", 0) + unreadable
    looked_at = report.compared + unreadable
    return replace(
        report,
        finished_at=time.time(),
        counts=counts,
        problems=tuple(sorted(problems, key=lambda one: (one.key, one.finding))),
        bad_per_million=upper_bound(looked_at, bad) * 1e6 if looked_at and report.mode != "full" else None,
    )


def nobody_looks(_: VerifyReport) -> None:
    """Progress is for who waits."""
