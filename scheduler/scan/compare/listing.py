"""A bucket's listing for the threads that compare.

Owns the bridge from the event loop, where pages are fetched, to a thread that walks millions of objects; one
page is read ahead. Owns the way around a store that lists in no order, or in another one than is needed: its
listing is sorted here first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from scheduler.dispatch.dispatcher import key_problem
from scheduler.scan.compare.bounded import bounded
from scheduler.scan.compare.merge import Block
from scheduler.scan.compare.sorted_file import read_blocks
from scheduler.scan.compare.sorting import Sorter
from scheduler.scan.inventory.entry import Collation, Entry, order_of
from scheduler.scan.ranges import before
from scheduler.scan.record.shard import WHOLE
from workers.errors import StoreRejected
from workers.store.model import ListedColumns, ListedObject
from workers.store.wire.addressing import OWN_PREFIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from scheduler.scan.record.shard import KeyRange
    from workers.store.client import ObjectStore
    from workers.store.model import ListPage

log = structlog.get_logger(__name__)


class Lists(Protocol):
    """Who gives pages of a listing."""

    def list(
        self,
        bucket: str,
        prefix: str = "",
        *,
        continuation: str | None = None,
        start_after: str | None = None,
    ) -> AsyncIterator[ListPage]:
        """Every page from a token, or from what comes after a key."""


class BlockingListing:
    """The bucket's listing, page by page, for the comparison's thread."""

    def __init__(
        self,
        store: Lists,
        bucket: str,
        prefix: str = "",
        *,
        continuation: str | None = None,
        start_after: str | None = None,
    ) -> None:
        """`start_after` is where a listing without a token begins."""
        self._store = store
        self._bucket = bucket
        self._prefix = prefix
        self._start_after = start_after
        #: Token of the page that is being read; a resumed run begins there.
        self.continuation = continuation
        self._loop = asyncio.get_running_loop()

    def blocks(self, *, collation: Collation, after: str | None = None) -> Iterator[Block[ListedObject]]:
        """The bucket's objects but our own, in the store's order; with `after`, those behind that key.

        Call it from a thread that is not the event loop's. A token that the store does not take any more is
        given up for a listing from the beginning.

        Raises:
            StoreError: a page could not be read.
        """
        order = order_of(collation)
        skip = None if after is None else order(after)
        for page in self.pages():
            yield _block(page.objects, collation, skip)

    def pages(self) -> Iterator[ListPage]:
        """The pages as they are, one read ahead; called as `blocks` is."""
        pages = self._pages()

        async def advance() -> tuple[str | None, ListPage] | None:
            return await anext(pages, None)

        ahead = asyncio.run_coroutine_threadsafe(advance(), self._loop)
        try:
            while True:
                found = ahead.result()
                if found is None:
                    return
                self.continuation, page = found
                ahead = asyncio.run_coroutine_threadsafe(advance(), self._loop)
                yield page
        finally:
            ahead.cancel()

    async def _pages(self) -> AsyncIterator[tuple[str | None, ListPage]]:
        """Each page with the token that it answers to."""
        token = begin = self.continuation
        try:
            async for page in self._store.list(
                self._bucket, self._prefix, continuation=begin, start_after=self._start_after
            ):
                yield token, page
                token = page.continuation
        except StoreRejected as error:
            if begin is None or token != begin:
                raise
            log.warning("listing_begins_again", bucket=self._bucket, error=str(error))
        else:
            return
        token = None
        async for page in self._store.list(self._bucket, self._prefix, start_after=self._start_after):
            yield token, page
            token = page.continuation


def _block(objects: Sequence[ListedObject], collation: Collation, skip: str | None) -> Block[ListedObject]:
    items = objects
    keys = items.keys if isinstance(items, ListedColumns) else [listed.key for listed in items]
    # One look at the whole page instead of one at each key.
    if OWN_PREFIX in "\n".join(keys):
        items = [listed for listed in items if not listed.key.startswith(OWN_PREFIX)]
        keys = [listed.key for listed in items]
    places = keys if collation is not Collation.PATH else list(map(order_of(collation), keys))
    if skip is not None and places and min(places) <= skip:
        kept = [at for at, place in enumerate(places) if place > skip]
        return Block([places[at] for at in kept], [items[at] for at in kept])
    return Block(places, items)


async def listing_in(
    collation: Collation,
    store: ObjectStore,
    bucket: str,
    prefix: str,
    *,
    file: Path,
    sort: bool,
    after: str | None = None,
    continuation: str | None = None,
    of: KeyRange = WHOLE,
) -> tuple[BlockingListing, Iterator[Block[ListedObject]]]:
    """A bucket's objects in this order: as the store lists them, or with `sort` by way of a file here.

    Of a range that does not begin at the beginning the store is asked for what comes after (`start-after`).

    Raises:
        StoreError: a page could not be read.
        SortFailed: there is no room, or no sort(1).
    """
    begin = (after if after is not None else before(of.begin)) if of.begin else None
    if not sort:
        feed = BlockingListing(store, bucket, prefix, continuation=continuation, start_after=begin)
        return feed, bounded(feed.blocks(after=after, collation=collation), of, collation)
    feed = BlockingListing(store, bucket, prefix)
    path = await sort_listing(store, bucket, prefix, file, collation)
    return feed, bounded(sorted_blocks(path, after=after, collation=collation), of, collation)


async def sort_listing(
    store: ObjectStore, bucket: str, prefix: str, path: Path, collation: Collation = Collation.BYTES
) -> Path:
    """Write a listing to `path`, sorted in an order that is not its own; read it with `sorted_blocks`.

    Raises:
        StoreError: a page could not be read.
        SortFailed: there is no room, or no sort(1).
    """
    sorter = await asyncio.to_thread(Sorter, path, collation)
    try:
        async for page in store.list(bucket, prefix):
            # No inventory has keys with control characters: such an object can only be a user's.
            entries = [
                Entry(listed.key, listed.size, listed.etag, listed.last_modified)
                for listed in page.objects
                if key_problem(listed.key) is None  # our own objects have one, too
            ]
            await asyncio.to_thread(sorter.add, entries)
        return (await asyncio.to_thread(sorter.finish)).path
    except BaseException:
        sorter.abort()
        raise


def sorted_blocks(
    path: Path, *, after: str | None = None, collation: Collation = Collation.BYTES
) -> Iterator[Block[ListedObject]]:
    """The objects of a listing that `sort_listing` wrote; with `after`, those behind that key."""
    for places, entries in read_blocks(path, collation, after=after):
        yield Block(
            places,
            [
                ListedObject(key=key, size=size or 0, etag=etag or "", last_modified=mtime or 0.0)
                for key, size, etag, mtime in entries
            ],
        )
