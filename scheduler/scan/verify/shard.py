"""One range of a verification, worked off by whichever process took its message.

Owns what is found in it: counts and findings of some keys are written in one step with the checkpoint behind
them, so whoever begins again counts nothing twice.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from scheduler.scan.compare.compare import Groups, Selection
from scheduler.scan.compare.listing import listing_in
from scheduler.scan.compare.merge import OutOfOrder
from scheduler.scan.held import LeaseLost
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.record.shard import Verified, together
from scheduler.scan.record.state import Checkpoint, ScanStates
from scheduler.scan.shards.range_run import RangeRun
from scheduler.scan.verify.drawn import DrawnKeys
from scheduler.scan.verify.listed import PART_KEYS, Looking, Lots, Part, Rules
from scheduler.scan.verify.one_key import ask_origin, compare_bytes, each
from workers.errors import FerrymanError
from workers.ledger.names import Named

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scheduler.runtime import Services
    from scheduler.scan.record.shard import Verification
    from scheduler.scan.record.state import ScanState
    from scheduler.scan.shards.records import ShardStates

#: Keys that are asked for, or compared byte by byte, between two checkpoints.
LOOKS = 200
#: The term of keys that are nowhere, until all of them are counted.
GONE = "gone"
#: Drawn keys that each half of a split has at least.
_LEAST_DRAWN = 50


class ScanIsAnother(FerrymanError):
    """The scan that is verified has begun anew meanwhile."""


class VerifyShard(RangeRun):
    """Runs one shard of a verification."""

    def __init__(
        self,
        services: Services,
        states: ShardStates,
        state: ScanState,
        *,
        directory: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(services, states, state, clock=clock)
        self._directory = directory
        self._drawn = DrawnKeys(services.redis, namespace=services.settings.broker.namespace, run=state.run)
        self._lots: Lots | None = None
        self._told: set[str] = set()

    @property
    def _asked(self) -> Verification:
        assert self.state.verification is not None
        return self.state.verification

    @property
    def _inventory_state(self) -> ScanState:
        return replace(self.state, run=self._asked.of)

    def _done(self) -> int:
        verified = self.state.verified
        return verified.checked + verified.compared if verified is not None else 0

    async def _work(self) -> None:
        services, asked = self._services, self._asked
        namespace = services.settings.broker.namespace
        scan = await ScanStates(services.redis, namespace=namespace).get(asked.scan)
        if scan is None or scan.run != asked.of:
            raise ScanIsAnother(f"scan {asked.scan} has begun anew since: verify that run")
        self._groups = Groups(scan.groups)
        if asked.step == "sample":
            await self._compare_drawn()
            return
        waivers = await services.ledger.failures.waivers(self.state.options.bucket)
        self._excused = frozenset(waiver.key for waiver in waivers)
        async with self._reading():
            while not self._ended:
                await self._look_in_one_go()

    @property
    def _ended(self) -> bool:
        return self.state.checkpoint is not None and self.state.checkpoint.compared

    @property
    def _after(self) -> str | None:
        point = self.state.checkpoint
        return point.key if point is not None and point.key else None

    # ------------------------------------------------------------------ beside the listing

    async def _look_in_one_go(self) -> None:
        state, options, point, asked = self.state, self.state.options, self.state.checkpoint, self._asked
        collation, after = Collation(state.collation), self._after
        feed, listing = await listing_in(
            collation,
            self._services.store,
            options.bucket,
            options.prefix,
            file=self._directory / f"{state.name.replace('/', '.')}.listing",
            sort=False,
            after=after,
            continuation=point.continuation if point else None,
            of=self._range,
        )
        drawing = asked.step == "listing" and asked.sample is not None and not asked.full
        self._lots = Lots(asked.seed, asked.sample or 0) if drawing else None
        bytes_too = asked.step == "looking" and asked.full
        rules = Rules(
            wants=Selection(options, now=state.requested_at).wants,
            excused=self._excused,
            lots=self._lots,
            all_there=bytes_too,
            part_keys=LOOKS if bytes_too else PART_KEYS,
            part_missing=LOOKS if asked.step == "looking" else None,
        )
        looking = Looking(self._entries(after), listing, rules)
        try:
            while not self._ended:
                await self._obey()
                await self._names_room()
                part = await asyncio.to_thread(looking.next_part)
                await self._take(part, feed.continuation)
                if not self._ended and await self._shortened():
                    return
        except OutOfOrder as error:
            if error.side == "listing":
                # Only who reads it whole can sort it.
                self.state = replace(self.state, listing_sorted=True)
            raise

    async def _take(self, part: Part, continuation: str | None) -> None:
        if self._asked.step == "looking":
            found, names = await self._look_at(part.missing, part.there)
        else:
            found = Verified(
                checked=part.checked,
                waived=part.waived,
                missing=len(part.missing),
                extra=part.extra,
                extra_keys=tuple(part.extra_keys),
                counts=dict(Counter(finding for _, finding, _ in part.findings)),
            )
            names = [Named(finding, key, detail) for key, finding, detail in part.findings]
        if self._lots is not None:
            new = [lot for lot in self._lots.kept if lot.key not in self._told]
            self._told.update(lot.key for lot in new)
            # Twice is once: so it may come before the checkpoint, which whoever dies in between lacks.
            await self._drawn.add(new, self._asked.sample or 0)
        await self._write(found, names, part.last_key, continuation, ended=part.ended)

    async def _write(
        self, found: Verified, names: list[Named], last: str, continuation: str | None, *, ended: bool
    ) -> None:
        state = self.state
        key = last or (state.checkpoint.key if state.checkpoint else "")
        self.state = self._stamped(
            replace(
                state,
                verified=together([state.verified or Verified(), found]),
                checkpoint=Checkpoint(key=key, continuation=continuation, compared=ended),
            )
        )
        if not await self._states.checkpoint(self.state, [], self._token, names):
            raise LeaseLost(state.name)

    # ------------------------------------------------------------------ key by key

    async def _look_at(self, missing: list[str], there: list[str]) -> tuple[Verified, list[Named]]:
        """Ask the origin for what is missing, and compare what is there byte by byte."""
        services, bucket = self._services, self.state.options.bucket
        names: list[Named] = []
        gone: list[str] = []
        compared: list[int] = []

        async def ask(key: str) -> bool:
            look = await ask_origin(services, bucket, key)
            if look.finding is None:
                gone.append(key)
            else:
                names.append(Named(look.finding, key, look.detail))
            return True

        async def compare(key: str) -> bool:
            look = await compare_bytes(services, bucket, key)
            if look.finding is not None:
                names.append(Named(look.finding, key, look.detail))
            if look.compared_bytes is not None:
                compared.append(look.compared_bytes)
            return True

        await each(missing, ask)
        await each(there, compare)
        left_behind = sum(one.term == "absent_at_origin" for one in names)
        known = await services.ledger.failures.versions(bucket, gone)
        names += [Named("absent_at_origin", key) for key in gone if key in known]
        unknown = [key for key in gone if key not in known]
        groups = {key: self._groups.of(key) for key in unknown}
        # With the group in place of a reason, for whoever decides what it means.
        lines = [Named(GONE, key, groups[key]) for key in unknown]
        found = Verified(
            counts=dict(Counter(one.term for one in names)),
            asked=len(missing),
            gone=dict(Counter(groups.values())),
            known_gone=len(gone) - len(unknown),
            compared=len(compared),
            compared_bytes=sum(compared),
            left_behind=left_behind,
        )
        return found, names + lines

    async def _compare_drawn(self) -> None:
        """Compare the keys of the range that were drawn."""
        while not self._ended:
            await self._obey()
            await self._names_room()
            keys = await self._drawn.keys(self._range, self._after, LOOKS)
            found, names = await self._look_at([], keys)
            await self._write(found, names, keys[-1] if keys else "", None, ended=len(keys) < LOOKS)
            if not self._ended:
                await self._shortened()

    async def _middle(self, after: str) -> tuple[str | None, int]:
        if self._asked.step == "sample":
            return await self._drawn.middle(self._range, after, _LEAST_DRAWN)
        return await super()._middle(after)
