"""The listing as the comparison's thread sees it."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.scan.compare.listing import BlockingListing, sort_listing, sorted_blocks
from scheduler.scan.inventory.entry import Collation
from workers.errors import StoreRejected, StoreUnavailable
from workers.store.model import ListedObject, ListPage


class Store:
    """A listing of three pages; tokens are `t1` and `t2`."""

    PAGES = (["a", "b"], [".ferryman/x", "c"], ["d"])

    def __init__(self, *, refuses=None, breaks=False):
        self.refuses = refuses
        self.breaks = breaks
        self.asked = []

    async def list(self, bucket, prefix="", *, continuation=None, start_after=None):
        self.asked.append(continuation)
        if continuation is not None and continuation == self.refuses:
            raise StoreRejected("the token is too old", status=400)
        for at in range(int(continuation[1:]) if continuation else 0, 3):
            if self.breaks and at == 2:
                raise StoreRejected("no", status=400)
            objects = tuple(ListedObject(key, 1, "e", 0.0) for key in self.PAGES[at])
            yield ListPage(objects=objects, continuation=f"t{at + 1}" if at < 2 else None)


async def walked(store, **begin):
    """(token of the page at hand, key) of each object."""
    after = begin.pop("after", None)
    feed = BlockingListing(store, "b", **begin)

    def walk():
        blocks = feed.blocks(collation=Collation.BYTES, after=after)
        return [(feed.continuation, listed.key) for block in blocks for listed in block.items]

    return await asyncio.to_thread(walk)


async def test_the_token_is_that_of_the_page_at_hand_and_our_own_objects_are_left_out():
    assert await walked(Store()) == [(None, "a"), (None, "b"), ("t1", "c"), ("t2", "d")]


async def test_a_resumed_listing_begins_at_its_page_behind_its_key():
    assert await walked(Store(), continuation="t1", after="c") == [("t2", "d")]


async def test_a_token_that_the_store_takes_no_more_is_given_up_for_the_beginning():
    store = Store(refuses="t1")
    assert await walked(store, continuation="t1", after="b") == [("t1", "c"), ("t2", "d")]
    assert store.asked == ["t1", None]


async def test_p31_a_refusal_behind_the_first_page_is_an_error():
    with pytest.raises(StoreRejected):
        await walked(Store(breaks=True), continuation="t1")


async def test_a_listing_without_an_order_is_sorted_outside_memory(tmp_path):
    class Unordered(Store):
        PAGES = (["d", "b\n"], ["a", "c"], [".ferryman/x"])

    path = await sort_listing(Unordered(), "b", "", tmp_path / "listing")
    found = [listed for block in sorted_blocks(path, after="a") for listed in block.items]
    assert found == [ListedObject("c", 1, "e", 0.0), ListedObject("d", 1, "e", 0.0)]

    class Failing(Store):
        async def list(self, bucket, prefix="", *, continuation=None, start_after=None):
            yield ListPage(objects=(), continuation="t1")
            raise StoreUnavailable("500", status=500)

    with pytest.raises(StoreUnavailable):
        await sort_listing(Failing(), "b", "", tmp_path / "other")
    assert [file.name for file in tmp_path.iterdir()] == ["listing"]
