"""How the shards of a scan stand, for `scan status`, the API, the page, metrics, the gate and the report.

Owns the reading and the proof: whether the ranges of all shards are together exactly the key space. A scan
that runs as one is one range, and the proof is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.scan.inventory.entry import Collation
from scheduler.scan.ranges import flaw
from scheduler.scan.record.scan_index import ACTIVE
from scheduler.scan.record.shard import WHOLE
from scheduler.scan.shards.cut_scan import summed
from scheduler.scan.shards.records import ShardStates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from scheduler.scan.record.state import ScanState


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeView:
    """One range, from `begin` on and before `end` (None: to the end of all keys)."""

    number: int
    begin: str
    end: str | None
    #: waiting, running, done or failed.
    state: str
    #: How often it was made smaller by a split.
    generation: int
    #: Keys of the inventory that were compared, and how many there are likely.
    found: int
    expected: int
    #: Seconds of work, and `host:pid` of whoever did it last.
    active_s: float
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardsView:
    """All ranges of a scan."""

    #: Ranges there are now, and by what they do.
    total: int
    done: int
    running: int
    waiting: int
    #: The ranges are together exactly the key space; else where they are not.
    joined: bool
    flaw: str
    #: Why the scan runs as one although more was asked for.
    one_because: str
    #: The one that has worked longest of those that are not done.
    slowest: RangeView | None
    #: Keys that are likely still to be compared.
    keys_left: int
    ranges: tuple[RangeView, ...]

    @property
    def sentence(self) -> str:
        """The proof, for people."""
        if self.total == 1:
            return "one range, the whole key space"
        if not self.joined:
            return f"{self.total} ranges that do not join: {self.flaw}"
        return f"{self.total} ranges join without gap or overlap; {self.done} are compared"


async def with_shards(redis: Redis, namespace: str, state: ScanState) -> tuple[ScanState, ShardsView]:
    """A scan's record with the sum of what its shards count now, and how they stand."""
    if not state.shards:
        return state, viewed(state, [state], set() if state.phase not in ACTIVE else {0})
    states = ShardStates(redis, namespace=namespace, run=state.run)
    shards = await states.all()
    held = await states.held([one.shard.number for one in shards if one.shard is not None])
    return summed(state, shards), viewed(state, shards, held)


def viewed(state: ScanState, shards: Sequence[ScanState], held: set[int]) -> ShardsView:
    """How these shards stand, of which somebody runs those `held`. Pure."""
    ranges = sorted(
        (_range(one, held, over=state.phase not in ACTIVE) for one in shards), key=lambda one: one.begin
    )
    wrong = flaw(
        [one.shard.range if one.shard else WHOLE for one in shards], Collation(state.collation or "bytes")
    )
    left = [one for one in ranges if one.state != "done"]
    return ShardsView(
        total=len(ranges),
        done=sum(one.state == "done" for one in ranges),
        running=sum(one.state == "running" for one in ranges),
        waiting=sum(one.state == "waiting" for one in ranges),
        joined=not wrong,
        flaw=wrong,
        one_because=state.one_shard,
        slowest=max(left, key=lambda one: one.active_s, default=None),
        keys_left=sum(max(0, one.expected - one.found) for one in left),
        ranges=tuple(ranges),
    )


def _range(one: ScanState, held: set[int], *, over: bool) -> RangeView:
    shard = one.shard
    number, range_ = (shard.number, shard.range) if shard is not None else (0, WHOLE)
    compared = one.checkpoint is not None and one.checkpoint.compared
    state = "waiting"
    if one.phase == "done" or (shard is None and compared):
        state = "done"
    elif one.phase == "failed":
        state = "failed"
    elif number in held and not over:
        state = "running"
    found = sum(row.found for row in one.groups.values())
    expected = max(one.read - one.duplicates, found)
    if shard is not None:
        expected = found if state == "done" else shard.expected
    return RangeView(
        number=number,
        begin=range_.begin,
        end=range_.end,
        state=state,
        generation=shard.generation if shard is not None else 0,
        found=found,
        expected=expected,
        active_s=round(one.active_s, 3),
        worker=shard.worker if shard is not None else "",
    )
