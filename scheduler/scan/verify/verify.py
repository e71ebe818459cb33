"""Verifying a scan's work: every key by what the listing says, and a sample (or all) byte by byte.

Owns whether a verification runs in one range here or in many on the fleet, and the wait for the fleet: the
record of one that was broken off is gone on with. Nothing is changed.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import RedisError

from scheduler.scan.held import TICK_S
from scheduler.scan.record.scan_index import ACTIVE
from scheduler.scan.record.shard import Verification, Verified
from scheduler.scan.record.state import VERIFICATIONS, ScanStates
from scheduler.scan.reverse.shard import ReverseShard
from scheduler.scan.shards.cutting import why_one
from scheduler.scan.shards.lane import REVERSE, ShardLane
from scheduler.scan.shards.shard_run import ShardRun
from scheduler.scan.verify.cut_verify import CutVerification, name_of, new_verification
from scheduler.scan.verify.its_inventory import inventory_path
from scheduler.scan.verify.one_range import OneRange, blank_report, nobody_looks, seed_of
from scheduler.scan.verify.report import last_report
from scheduler.scan.verify.shard import VerifyShard
from workers.background import end
from workers.errors import ConfigError, FerrymanError

if TYPE_CHECKING:
    from typing import Unpack

    from scheduler.runtime import Services
    from scheduler.scan.record.state import ScanState
    from scheduler.scan.shards.range_run import RangeRun
    from scheduler.scan.verify.one_range import How
    from scheduler.scan.verify.report import VerifyReport

#: What runs a shard, by the hash that the record of its run stands in, or by the way it goes.
RUNS: Final[dict[str, type[RangeRun]]] = {
    "scans": ShardRun, REVERSE: ReverseShard, VERIFICATIONS: VerifyShard,
}  # fmt: skip
#: Seconds after which nobody goes on with a verification that was broken off: it would speak of another time.
_STALE_S: Final = 86_400.0

log = structlog.get_logger(__name__)


class VerificationFailed(FerrymanError):
    """There is no verdict."""


class Verifier:
    """One verification of one scan."""

    def __init__(self, services: Services, state: ScanState, **how: Unpack[How]) -> None:
        """`how` as `How` says."""
        self._services = services
        self._state = state
        self._how = how
        self._states = ScanStates(
            services.redis, namespace=services.settings.broker.namespace, records=VERIFICATIONS
        )

    async def run(self) -> VerifyReport:
        """Compare, and keep the report in the ledger.

        Raises:
            ConfigError: the scan has no inventory here that can be read (it did not get that far, ran on
                another machine, on another store, or with another version), or another verification of it
                is under way.
            StoreError: the listing failed: no verdict.
            VerificationFailed: the same, of a verification on the fleet.
        """
        state, how = self._state, self._how
        shards = how.get("shards")
        if (shards if shards is not None else max(1, state.shards)) == 1:
            return await OneRange(self._services, state, how).run()
        await asyncio.to_thread(inventory_path, self._services, state)
        guarantees = await self._services.store.guarantees(state.options.bucket)
        why = why_one(replace(state, options=replace(state.options, limit=None)), guarantees)
        if why:
            return await OneRange(self._services, state, how, one_because=why).run()
        return await self._on_fleet(await self.requested())

    async def requested(self) -> ScanState:
        """The record of a verification that is asked for so, and runs or was broken off; or a new one.

        Raises:
            ConfigError: another one runs.
        """
        state, how, states = self._state, self._how, self._states
        shards = how.get("shards")
        shards = max(1, state.shards) if shards is None else shards
        asked = Verification(
            scan=state.name,
            of=state.run,
            sample=how.get("sample"),
            full=how.get("full", False),
            seed=seed_of(how),
        )
        name = name_of(state.name)
        old = await states.get(name)
        if old is not None and old.phase in ACTIVE and old.verification is not None:
            known = old.verification
            same = (known.of, known.sample, known.full) == (asked.of, asked.sample, asked.full)
            same = same and old.options.shards == shards and how.get("seed") in {None, known.seed}
            if same and time.time() - old.updated_at < _STALE_S:
                log.info("verification_goes_on", scan=state.name, began_at=old.started_at)
                return old
        new = new_verification(state, f"{state.run}.v{uuid.uuid4().hex[:12]}", asked, shards)
        if not await states.put_held(new, ""):
            msg = (
                f"scan {state.name} is being verified in another way by {await states.coordinator(name)}: "
                "let that end first"
            )
            raise ConfigError(msg)
        await states.forget_run(name)
        if old is not None:
            await CutVerification(self._services, states, old, clock=time.monotonic).forget()
        return new

    async def _on_fleet(self, state: ScanState) -> VerifyReport:
        """Coordinate it here unless somebody does, work shards off, and wait for the end."""
        services, progress = self._services, self._how.get("progress", nobody_looks)
        directory = services.settings.data_dir / "scans"
        blank = blank_report(services, self._state, self._how, started_at=state.started_at)
        async with ShardLane(services, directory, runs=RUNS).working():
            here = asyncio.create_task(self._coordinate(state))
            try:
                while True:
                    ended, _ = await asyncio.wait({here}, timeout=TICK_S)
                    now = await self._now(state)
                    if now is None:
                        continue
                    found = now.verified or Verified()
                    progress(replace(blank, checked=found.checked, compared=found.compared))
                    if now.phase not in ACTIVE:
                        break
                    if ended:
                        here.result()
                        here = asyncio.create_task(self._coordinate(state))  # it, or another's, may have died
            finally:
                await end(here)
        if now.phase != "done":
            raise VerificationFailed(now.error or f"the verification of {self._state.name} was {now.phase}")
        report = await last_report(services, self._state.name)
        assert report is not None
        return report

    async def _coordinate(self, state: ScanState) -> None:
        try:
            run = CutVerification(self._services, self._states, state, clock=time.monotonic)
            if not await run.run():
                await asyncio.sleep(TICK_S)
        except (RedisError, OSError) as error:
            log.warning("verification_interrupted", scan=self._state.name, error=str(error))
            await asyncio.sleep(TICK_S)

    async def _now(self, state: ScanState) -> ScanState | None:
        """The record as it stands; None: Redis does not answer.

        Raises:
            ConfigError: another verification took its place.
        """
        try:
            now = await self._states.get(state.name)
        except (RedisError, OSError):
            return None
        if now is None or now.run != state.run:
            raise ConfigError(f"another verification of {self._state.name} has begun meanwhile")
        return now
