"""What the origin has, by our keys: whole in no order that can be relied on, or a range of keys at a time.

Owns when ranges are right: the origin lists by bytes (its vendor is known to), and places come in the order
of keys. Must not know who compares.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_right
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from scheduler.scan.compare.bounded import bounded
from scheduler.scan.compare.listing import BlockingListing
from scheduler.scan.compare.merge import Block
from scheduler.scan.inventory.entry import Entry
from scheduler.scan.ranges import before
from scheduler.scan.reverse.sides import bucket_of, keeps_order, place_behind
from scheduler.scan.shards.probing import Probed
from scheduler.scan.shards.source import known_by_bytes
from workers.store.listing import list_objects
from workers.store.model import StoreAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from scheduler.scan.inventory.entry import Collation
    from scheduler.scan.record.shard import KeyRange
    from scheduler.scan.reverse.sides import Sides
    from workers.back.wire import OriginWire
    from workers.back_routes import BackRoute
    from workers.store.model import ListPage
    from workers.store.wire.transport import Transport

#: Keys of a block that is made of several routes.
_BLOCK = 1_000


class OriginListing:
    """The objects of every origin that a bucket is written back to."""

    def __init__(self, wire: OriginWire, sides: Sides) -> None:
        self._wire = wire
        self._sides = sides

    @property
    def in_ranges(self) -> bool:
        """Whether a range of keys can be listed."""
        writing = self._sides.writing
        return all(keeps_order(one) and known_by_bytes(one.origin.host.partition(":")[0]) for one in writing)

    async def pages(self) -> AsyncIterator[list[Entry]]:
        """Everything, page by page.

        Raises:
            StoreError, OriginError: a page could not be had.
        """
        for route in self._sides.writing:
            async for page in _Bucket(self._wire, route).list():
                yield self._entries(route, page)

    def blocks(
        self, range_: KeyRange, collation: Collation, *, after: str | None = None
    ) -> Iterator[Block[Entry]]:
        """The objects of the range, those behind `after` only, in order.

        Made on the event loop, and read from a thread that is not the loop's.

        Raises:
            StoreError, OriginError: a page could not be had.
        """
        behind = after if after is not None else before(range_.begin)
        routes = [self._of(route, behind, after) for route in self._sides.writing]
        return bounded(routes[0] if len(routes) == 1 else _together(routes), range_, collation)

    def _of(self, route: BackRoute, behind: str | None, after: str | None) -> Iterator[Block[Entry]]:
        place, any_follows = (None, True) if behind is None else place_behind(route, behind)
        if not any_follows:
            return iter(())
        bucket = _Bucket(self._wire, route)
        feed = BlockingListing(bucket, "", start_after=place)
        return self._blocks(route, feed, after)

    def _blocks(self, route: BackRoute, feed: BlockingListing, after: str | None) -> Iterator[Block[Entry]]:
        for page in feed.pages():
            entries = self._entries(route, page)
            if after is not None:
                entries = [entry for entry in entries if entry.key > after]
            yield Block([entry.key for entry in entries], entries)

    def _entries(self, route: BackRoute, page: ListPage) -> list[Entry]:
        inside = len(bucket_of(route)[1])
        found = [(self._sides.key_of(route, one.key[inside:]), one) for one in page.objects]
        return [Entry(key, one.size, one.etag, one.last_modified) for key, one in found if key is not None]

    async def probe(self, after: str | None) -> Probed:
        """The next page of keys behind one, and whether it is the last page."""
        pages = await asyncio.gather(*(self._first(route, after) for route in self._sides.writing))
        bounds = [keys[-1] for keys, ended in pages if not ended and keys]
        every = sorted(key for keys, _ in pages for key in keys)
        if bounds:
            every = every[: bisect_right(every, min(bounds))]
        return Probed(every, ended=all(ended for _, ended in pages))

    async def _first(self, route: BackRoute, after: str | None) -> tuple[list[str], bool]:
        place, any_follows = (None, True) if after is None else place_behind(route, after)
        if not any_follows:
            return [], True
        page = await anext(_Bucket(self._wire, route).list(start_after=place), None)
        if page is None:
            return [], True
        return [entry.key for entry in self._entries(route, page)], page.continuation is None


def _together(streams: list[Iterator[Block[Entry]]]) -> Iterator[Block[Entry]]:
    """Several streams in order as one."""
    singles = [
        ((place, entry) for block in blocks for place, entry in zip(block.places, block.items, strict=True))
        for blocks in streams
    ]
    block: Block[Entry] = Block([], items := [])
    for place, entry in heapq.merge(*singles, key=itemgetter(0)):
        block.places.append(place)
        items.append(entry)
        if len(items) == _BLOCK:
            yield block
            block = Block([], items := [])
    if items:
        yield block


class _Bucket:
    """The bucket of a route, as whoever lists a store asks for it; keys are those of the bucket."""

    def __init__(self, wire: OriginWire, route: BackRoute) -> None:
        self._wire = wire
        self._front = route.front
        self._root, self._inside = bucket_of(route)

    def list(
        self,
        bucket: str = "",
        prefix: str = "",
        *,
        continuation: str | None = None,
        start_after: str | None = None,
    ) -> AsyncIterator[ListPage]:
        """Every page; `start_after` is a place below the origin's base path."""
        return list_objects(
            cast("Transport", self),
            bucket,
            f"{self._inside}{self._front}{prefix}",
            continuation=continuation,
            start_after=None if start_after is None else f"{self._inside}{start_after}",
            headers={},
            plus_is_space=True,
        )

    async def exchange(self, method: str, _bucket: str, *, headers: Any, query: Any) -> StoreAnswer:
        """One signed request about the bucket."""
        del headers
        answer = await self._wire.ask(self._root, method, "", query=query)
        return StoreAnswer(status=answer.status, headers=answer.headers, body=answer.body)

    async def pause(self, _error: Exception, attempt: int) -> None:
        """Before the next try of a page that could not be read."""
        await asyncio.sleep(0.2 * 2**attempt)
