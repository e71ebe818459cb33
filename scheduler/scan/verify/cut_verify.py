"""The coordinator of a verification on the fleet: its steps, each cut into ranges, and the report at the end.

Owns the order of the steps: all keys beside the listing first, because only the whole says whether what is
missing is asked for; then what has to be asked key by key. A step follows the one before in one write, so
whoever begins again finds one of them.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from scheduler.scan.compare.sorted_file import NotThisFile
from scheduler.scan.compare.sorting import in_order
from scheduler.scan.held import TICK_S, LeaseLost, ScanCancelled
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.limits import max_absent_of
from scheduler.scan.names import FINDINGS, Names
from scheduler.scan.ranges import cut
from scheduler.scan.record.shard import Shard, Verified, together
from scheduler.scan.record.state import VERIFICATIONS, Checkpoint, ScanStates
from scheduler.scan.shards.cutting import Cutting, ShardFailed
from scheduler.scan.verify.drawn import DrawnKeys
from scheduler.scan.verify.its_inventory import inventory_path, not_this_file
from scheduler.scan.verify.judging import Judged, blamed, enough, unproved
from scheduler.scan.verify.one_range import OneRange, blank_report, concluded
from scheduler.scan.verify.report import MAX_FINDINGS, Problem, keep_report
from scheduler.scan.verify.shard import GONE, ScanIsAnother
from workers.errors import BrokerUnavailable, FerrymanError, described
from workers.ledger.names import Named, named, of_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TextIO

    from scheduler.scan.record.shard import KeyRange, Step, Verification
    from scheduler.scan.record.state import Phase, ScanState
    from scheduler.scan.verify.one_range import How

#: Seconds that shards have to stop when nothing more is asked.
_QUIET_S = 30.0
#: Drawn keys that are worth a range of their own.
_DRAWN_A_RANGE = 20

log = structlog.get_logger(__name__)


class EnoughAsked(FerrymanError):
    """Nothing more is asked of the origin."""


class CutVerification(Cutting):
    """Runs one verification to its end."""

    _RECORDS = VERIFICATIONS

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        namespace = self._services.settings.broker.namespace
        self._drawn = DrawnKeys(self._services.redis, namespace=namespace, run=self.state.run)
        self._names = Names(self._services, self.state)

    @property
    def _asked(self) -> Verification:
        assert self.state.verification is not None
        return self.state.verification

    @property
    def _inventory_state(self) -> ScanState:
        return replace(self.state, run=self._asked.of)

    async def _to_its_end(self) -> None:
        name, run = self.state.name, self.state.run
        # What was known when this coordinator was made may be older than the lease.
        found = await self._states.get(name)
        if found is None or found.run != run or found.phase not in {"requested", "compare"}:
            return
        self.state = found
        phase, error = await self._verdict()
        # Kept first, so that whoever has to go on from here only clears up; and who waits for the end waits
        # for that, too.
        await self._put(replace(self.state, error=error, checkpoint=Checkpoint(key="", compared=True)))
        await self._withdraw_inventory()
        await self.forget()
        await self._finish(phase, error=error)
        if phase == "cancelled":
            await self._states.obeyed(name, "cancel")

    async def _verdict(self) -> tuple[Phase, str]:
        """How it ended, and why it has no report."""
        name, state = self.state.name, self.state
        if state.checkpoint is not None:
            return ("failed" if state.error else "done"), state.error
        try:
            await self._steps()
        except ScanCancelled:
            return "cancelled", "it was cancelled"
        except (RedisError, BrokerUnavailable, LeaseLost):
            raise
        except (FerrymanError, OSError) as error:
            log.error("verification_failed", scan=name, error=str(error))  # noqa: TRY400  # it says it all
            return "failed", str(error)
        except Exception as error:
            log.exception("verification_failed_unexpectedly", scan=name)
            return "failed", f"internal error: {described(error)}"
        return "done", ""

    async def _limits(self) -> None:
        """Those of the scan are none of a verification's."""

    # ------------------------------------------------------------------ steps

    async def _steps(self) -> None:
        services = self._services
        await services.rules.refresh()
        await services.store.guarantees(self.state.options.bucket)
        scan = await self._scan()
        path = await asyncio.to_thread(inventory_path, services, scan)
        if not scan.source_listed:
            try:
                await asyncio.to_thread(in_order, path, Collation(self.state.collation))
            except NotThisFile as error:
                raise not_this_file(scan, error) from error
        if not self.state.shards:
            found = await self._places()
            ranges = cut(found.points, Collation(self.state.collation))
            if len(ranges) == 1:
                await self._as_one(scan, "")
                return
            await self._begin_step("listing", ranges, Verified(), found.keys)
        try:
            while not self._asked.stopped:
                every = await self._run_shards()
                if not await self._next_step(every):
                    break
        except EnoughAsked as error:
            await self._put(replace(self.state, verification=replace(self._asked, stopped=str(error))))
        except ShardFailed:
            if not any(one.listing_sorted for one in await self._shards.all()):
                raise
            reason = "the listing came in another order than that of bytes, and was sorted"
            log.warning("listing_sorted_here", scan=self.state.name)
            await self._as_one(scan, reason)
            return
        if self._asked.stopped:
            await self._quiet()
        await self._conclude(scan)

    async def _scan(self) -> ScanState:
        asked = self._asked
        states = ScanStates(self._services.redis, namespace=self._services.settings.broker.namespace)
        scan = await states.get(asked.scan)
        if scan is None or scan.run != asked.of:
            raise ScanIsAnother(f"scan {asked.scan} has begun anew since: verify that run")
        return scan

    async def _next_step(self, every: Sequence[ScanState]) -> bool:
        """Begin the step that follows; False: there is none."""
        asked, so_far = self._asked, self.state.verified or Verified()
        ranges = [one.shard.range for one in every if one.shard is not None]
        if asked.step == "listing" and (so_far.missing or asked.full):
            await self._begin_step("looking", ranges, so_far, so_far.checked)
            return True
        if asked.step != "sample" and asked.sample and not asked.full:
            drawn = await self._drawn.settle()
            if drawn:
                parts = max(1, min(asked.ranges, drawn // _DRAWN_A_RANGE))
                points = await self._drawn.cuts(parts)
                await self._begin_step("sample", cut(points, Collation.BYTES), so_far, drawn)
                return True
        return False

    async def _begin_step(self, step: Step, ranges: Sequence[KeyRange], before: Verified, keys: int) -> None:
        asked, first = self._asked, await self._shards.last_number() + 1
        asked = replace(asked, step=step, before=before, ranges=asked.ranges or len(ranges))
        state = replace(self.state, phase="compare", shards=len(ranges), verification=asked, verified=before)
        blank = replace(state, phase="requested", verified=None, shards=0, active_s=0.0, started_at=0.0)
        shards = [
            replace(
                blank,
                name=self._shards.name(first + at),
                verification=replace(asked, before=Verified()),
                shard=Shard(number=first + at, range=one, expected=keys // len(ranges)),
            )
            for at, one in enumerate(ranges)
        ]
        self.state = self._stamped(state)
        if not await self._shards.cut(self.state, self._token, shards):
            raise LeaseLost(state.name)
        log.info("verification_cut", scan=asked.scan, step=step, ranges=len(ranges))

    def _summed(self, every: Sequence[ScanState]) -> ScanState:
        ordered = sorted(every, key=lambda one: one.shard.range.begin if one.shard else "")
        parts = [one.verified for one in ordered if one.verified is not None]
        return replace(self.state, verified=together([self._asked.before, *parts]))

    def _left_of(self, shard: ScanState) -> float:
        if shard.phase == "done" or shard.shard is None:
            return 0.0
        found = shard.verified or Verified()
        done = found.checked + found.compared + found.asked
        return max(shard.shard.expected - done, done * 0.05)

    async def _tend(self) -> None:
        await self._names.put_away()
        asked, found = self._asked, self.state.verified or Verified()
        reason = enough(
            asked.scan,
            missing=found.missing,
            checked=found.checked,
            asked=found.asked,
            gone=found.all_gone,
            max_absent=max_absent_of(self._services.settings, await self._scan()),
        )
        if reason and asked.step == "looking":
            raise EnoughAsked(reason)

    async def _quiet(self) -> None:
        """Wait until no shard writes any more."""
        await self._shards.allow(running=False)
        numbers = [one.shard.number for one in await self._shards.all() if one.shard is not None]
        until = self._clock() + _QUIET_S
        while await self._shards.held(numbers) and self._clock() < until:
            await asyncio.sleep(TICK_S / 5)
            await self._put(self.state)
        await self._put(self._summed(await self._shards.all()))

    # ------------------------------------------------------------------ the end

    async def _as_one(self, scan: ScanState, reason: str) -> None:
        """What cannot be cut is looked at here, in one range."""
        asked = self._asked
        how: How = {"sample": asked.sample, "full": asked.full, "seed": asked.seed}
        await OneRange(self._services, scan, how, one_because=reason).run()

    async def _conclude(self, scan: ScanState) -> None:
        """Keep the report, and name what was found."""
        services, asked, found = self._services, self._asked, self.state.verified or Verified()
        how: How = {"sample": asked.sample, "full": asked.full}
        problems: list[Problem] = []
        directory = services.settings.data_dir / "scans"
        # Every finding has its line here, whatever their number; unlinked, so that nothing is left behind.
        with tempfile.TemporaryFile("w+", encoding="utf-8", dir=directory) as lines:
            counts = await self._name_findings(scan, lines, problems)
            for finding, number in found.counts.items():
                counts[finding] = counts.get(finding, 0) + number
            report = replace(
                blank_report(services, scan, how, started_at=self.state.started_at),
                checked=found.checked,
                waived=found.waived,
                extra=found.extra,
                extra_keys=found.extra_keys,
                compared=found.compared,
                compared_bytes=found.compared_bytes,
                ranges=asked.ranges,
            )
            report = concluded(report, counts=counts, problems=problems)
            judgement = Judged(
                found.all_gone,
                found.left_behind,
                asked.stopped,
                max_absent_of(services.settings, scan),
            )
            report = replace(report, unproved=tuple(unproved(services, scan, report, judgement)))
            lines.seek(0)
            await Names(services, scan).put_findings(map(of_line, lines))
        await keep_report(services, report)

    async def _name_findings(self, scan: ScanState, lines: TextIO, problems: list[Problem]) -> dict[str, int]:
        """Write a line for each finding; how many those are that nobody had counted yet."""
        found = self.state.verified or Verified()
        reasons = await blamed(self._services, scan, found.gone)
        counts: dict[str, int] = {}
        async for one in self._names.read([*FINDINGS, GONE]):
            line = one
            if one.term == GONE:
                reason = reasons.get(one.reason, "")
                line = Named("missing" if reason else "absent_at_origin", one.key, reason)
                counts[line.term] = counts.get(line.term, 0) + 1
            lines.write(f"{named(line)}\n")
            if len(problems) < MAX_FINDINGS:
                problems.append(Problem(key=line.key, finding=line.term, detail=line.reason))  # type: ignore[arg-type]
        return counts

    async def forget(self) -> None:
        """Remove what was kept of the way here; a store that refuses it is said."""
        # The shards' records first: without them nobody adds to the rest.
        await self._shards.forget()
        await self._names.forget()
        await self._drawn.forget()


def new_verification(scan: ScanState, run: str, asked: Verification, shards: Any) -> ScanState:
    """The record of a verification that is requested: of the scan's keys, by its filters. Pure."""
    options = replace(
        scan.options, shards=shards, limit=None, rate=None, windows=(), stop_after_failures=None
    )
    now = time.time()
    return replace(
        scan, name=name_of(scan.name), run=run, options=options, phase="requested", paused=False,
        started_at=now, updated_at=now, finished_at=0.0, active_s=0.0, error="", waiting="", spoilt="",
        collation="bytes", listing_sorted=False, checkpoint=None, groups={}, inventory_groups={}, extra=0,
        shards=0, one_shard="", verification=asked, verified=Verified(),
    )  # fmt: skip


def name_of(scan: str) -> str:
    """The name of the record of a scan's verification; no scan is called so."""
    return f"verify:{scan}"


def coordinated_here(state: ScanState) -> bool:
    """Whether this machine has what the coordinator of a verification needs. Blocking."""
    return state.source_listed or Path(state.inventory_file).is_file()
