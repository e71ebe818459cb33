"""What tests of shards look at: the objects of a store's double, and the records of a scan's shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler.scan.shards.records import ShardStates
from support.store.fake_s3 import Stored

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.scan.record.state import ScanState
    from support.store.fake_s3 import FakeS3


def put(store: FakeS3, keys: Iterable[str], body: bytes = b"x") -> None:
    """Objects that somebody else wrote."""
    for key in keys:
        store.objects[key] = Stored(body, {}, f"etag{len(body)}")


def records(fleet: Any, run: str) -> ShardStates:
    """The records of a run's shards."""
    return ShardStates(fleet.services.redis, namespace=fleet.settings.broker.namespace, run=run)


async def shards_of(fleet: Any, name: str = "s") -> tuple[ScanState, list[ScanState]]:
    """A scan's record, and those of its shards."""
    state = await fleet.scans.states.get(name)
    return state, await records(fleet, state.run).all()


def found_in(shard: ScanState) -> int:
    """Keys of the inventory that a shard has counted."""
    return sum(row.found for row in shard.groups.values())
