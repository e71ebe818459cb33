"""A bucket's listing as a blocking iterator, for the threads that compare.

Owns the bridge from the event loop, where pages are fetched, to a thread that walks millions of objects; one
page is read ahead.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from scheduler.scan.inventory.entry import Collation, order_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.store.client import ObjectStore
    from workers.store.model import ListedObject, ListPage

#: Reports and probe objects of ours; never part of a migration.
OWN_PREFIX = ".ferryman/"


class BlockingListing:
    """The bucket's listing as a blocking iterator for the comparison's thread, one page read ahead."""

    def __init__(
        self, store: ObjectStore, bucket: str, prefix: str = "", *, continuation: str | None = None
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._prefix = prefix
        #: Token of the page that is being read; a resumed run begins there.
        self.continuation = continuation
        self._loop = asyncio.get_running_loop()

    def objects(self, *, collation: Collation, after: str | None = None) -> Iterator[ListedObject]:
        """The bucket's objects but our own, in the store's order; with `after`, those behind that key.

        Call it from a thread that is not the event loop's.

        Raises:
            StoreError: a page could not be read.
        """
        order = order_of(collation)
        skip = None if after is None else order(after)
        pages = self._store.list(self._bucket, self._prefix, continuation=self.continuation)

        async def advance() -> ListPage | None:
            return await anext(pages, None)

        ahead = asyncio.run_coroutine_threadsafe(advance(), self._loop)
        following = self.continuation
        while True:
            page = ahead.result()
            if page is None:
                return
            self.continuation, following = following, page.continuation
            ahead = asyncio.run_coroutine_threadsafe(advance(), self._loop)
            for listed in page.objects:
                if listed.key.startswith(OWN_PREFIX):
                    continue
                if skip is None or order(listed.key) > skip:
                    yield listed
