"""A verification by listing, range by range: the record of what is found, and the ranges side by side.

Owns where the keys are cut, and that a range is looked at in a thread of its own. What is done with what was
found is the verifier's.
"""

from __future__ import annotations

import asyncio
import io
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TextIO, TypedDict

import structlog

from scheduler.machine.embedded import store_identity
from scheduler.scan.compare.compare import Selection
from scheduler.scan.compare.listing import listing_in
from scheduler.scan.compare.ranges import open_local
from scheduler.scan.compare.reading import inventory_of
from scheduler.scan.compare.sorted_file import read_blocks, sorted_as
from scheduler.scan.compare.sorting import in_order
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.ranges import cut
from scheduler.scan.shard import WHOLE
from scheduler.scan.shards.cutting import why_one
from scheduler.scan.shards.probing import cuts
from scheduler.scan.shards.source import RangedBucket
from scheduler.scan.verify.listed import Part, Rules, listed, together
from scheduler.scan.verify.report import MAX_FINDINGS, Finding, Problem, VerifyReport
from workers.background import end
from workers.ledger.names import Named, named

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Unpack

    from scheduler.runtime import Services
    from scheduler.scan.shard import KeyRange
    from scheduler.scan.state import ScanState

#: Ranges of a listing that are looked at at the same time.
MOST_AT_ONCE = 32

log = structlog.get_logger(__name__)


class How(TypedDict, total=False):
    """How a verification is made."""

    #: Objects to be compared byte by byte; or all of them.
    sample: int | None
    full: bool
    progress: Callable[[VerifyReport], None]
    #: Of the sample; None: another one each time.
    seed: int | None
    #: Ranges that are looked at side by side; None: as many as the scan was cut into.
    shards: int | Literal["auto"] | None


class InRanges:
    """What every verification begins with."""

    def __init__(self, services: Services, state: ScanState, **how: Unpack[How]) -> None:
        self._services = services
        self._state = state
        self._sample, self._full = how.get("sample"), how.get("full", False)
        self._progress: Callable[[VerifyReport], None] = how.get("progress", _nobody_looks)
        seed, shards = how.get("seed"), how.get("shards")
        self._seed = random.getrandbits(64) if seed is None else seed  # of a sample, not a secret
        if shards is None:
            shards = max(1, state.shards)
        self._shards = MOST_AT_ONCE if shards == "auto" else shards
        self._line = threading.Lock()
        mode: Literal["listing", "sample", "full"] = "listing"
        if self._full or self._sample:
            mode = "full" if self._full else "sample"
        self.report = VerifyReport(
            name=state.name,
            run=state.run,
            bucket=state.options.bucket,
            mode=mode,
            started_at=time.time(),
            store=store_identity(services.settings),
        )
        self._problems: list[Problem] = []
        self._findings: TextIO = io.StringIO()
        self._counts: dict[str, int] = {}
        self._excused: frozenset[str] = frozenset()

    @property
    def _directory(self) -> Path:
        directory = self._services.settings.data_dir / "scans"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    async def _listed(self, path: Path, judged: Collation) -> Part:
        """Compare with the listing, which is sorted here when it has no order that is needed."""
        self._problems, self._counts = [], {}
        self._findings.seek(0)
        self._findings.truncate()
        self.report = replace(self.report, checked=0)
        collation = Collation.BYTES if self._state.source_listed else sorted_as(judged)
        if not self._state.source_listed:
            await asyncio.to_thread(in_order, path, collation)
        sort = judged is not collation
        points = [] if sort else await self._points(path, judged)
        ranges = cut(points, collation)
        if len(ranges) > 1:
            log.info("verification_cut", scan=self._state.name, ranges=len(ranges))
        self.report = replace(self.report, ranges=len(ranges))
        # A thread for each range that is looked at at the same time: most of it is waiting for pages.
        with ThreadPoolExecutor(min(MOST_AT_ONCE, len(ranges)), thread_name_prefix="verify") as threads:
            gate = asyncio.Semaphore(MOST_AT_ONCE)

            async def one(range_: KeyRange) -> Part:
                async with gate:
                    return await self._one_range(range_, path, collation, threads, sort=sort)

            running = [asyncio.create_task(one(range_)) for range_ in ranges]
            try:
                parts = await asyncio.gather(*running)
            finally:
                await end(*running)
        part = together(parts, self._rules().sample)
        self.report = replace(
            self.report,
            checked=part.checked,
            waived=part.waived,
            extra=part.extra,
            extra_keys=tuple(part.extra_keys),
        )
        return part

    async def _points(self, path: Path, judged: Collation) -> list[str]:
        """Where the keys are cut: as many ranges as the scan had, or as were asked for."""
        state, wanted = self._state, self._shards
        if wanted == 1:
            return []
        options = state.options
        guarantees = await self._services.store.guarantees(options.bucket)
        why = why_one(replace(state, options=replace(options, limit=None)), guarantees)
        if why:
            self.report = replace(self.report, one_because=why)
            return []
        if state.source_listed:
            async with RangedBucket.opened(options.inventory, self._services, options.prefix) as source:
                return (await cuts(source.probe, wanted)).points
        inventory = await asyncio.to_thread(open_local, path, judged, of=inventory_of(state))
        return inventory.index.cuts(wanted)

    async def _one_range(
        self, range_: KeyRange, path: Path, collation: Collation, threads: ThreadPoolExecutor, *, sort: bool
    ) -> Part:
        state, options = self._state, self._state.options
        _, listing = await listing_in(
            collation,
            self._services.store,
            options.bucket,
            options.prefix,
            file=path.with_suffix(".listing"),
            sort=sort,
            of=range_,
        )
        # Lots of their own for each range, the same ones again for the same seed.
        draw = random.Random(f"{self._seed} {range_}")
        loop, rules = asyncio.get_running_loop(), self._rules()
        if state.source_listed:
            async with RangedBucket.opened(options.inventory, self._services, options.prefix) as source:
                entries = source.blocks(range_, collation)
                return await loop.run_in_executor(threads, listed, entries, listing, rules, draw)
        if range_ == WHOLE:
            entries = read_blocks(path, collation, of=inventory_of(state), keys=state.inventory_keys)
        else:
            inventory = await asyncio.to_thread(open_local, path, collation, of=inventory_of(state))
            entries = inventory.blocks(range_.begin or None, range_.end)
        return await loop.run_in_executor(threads, listed, entries, listing, rules, draw)

    def _rules(self) -> Rules:
        wants = Selection(self._state.options, now=self._state.requested_at).wants
        sample = None if self._full else self._sample or 0
        return Rules(
            wants=wants, excused=self._excused, sample=sample, found=self._found, progress=self._tick
        )

    def _tick(self, keys: int) -> None:
        with self._line:
            self.report = replace(self.report, checked=self.report.checked + keys)
            self._progress(self.report)

    def _found(self, key: str, finding: Finding, detail: str) -> None:
        """Also from the threads of ranges."""
        with self._line:
            self._counts[finding] = self._counts.get(finding, 0) + 1
            if len(self._problems) < MAX_FINDINGS:
                self._problems.append(Problem(key=key, finding=finding, detail=detail))
            self._findings.write(f"{named(Named(finding, key, detail))}\n")


def _nobody_looks(_: VerifyReport) -> None:
    """Progress is for who waits."""
