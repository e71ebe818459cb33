"""Parts of a sorted inventory: read exactly, found and cut by its index."""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.scan.compare.index import MOST_MARKS, IndexBuilder, decoded, encoded
from scheduler.scan.compare.published import open_published, publish, withdraw, withdraw_stale
from scheduler.scan.compare.ranges import index_path, open_local
from scheduler.scan.compare.sorted_file import NotThisFile
from scheduler.scan.compare.sorting import Sorter
from scheduler.scan.inventory.entry import Collation, Entry, order_of
from support.scan.key_families import FAMILIES, shares
from workers.store.model import ListedObject, ListPage

KEYS = st.text(st.sampled_from("ab/-.é中😀"), min_size=1, max_size=5)
BOUND = st.none() | KEYS


def written(path, keys, collation=Collation.BYTES):
    sorter = Sorter(path, collation, of="run 1")
    entries = [Entry(key, at, None, float(at) if at % 2 else None) for at, key in enumerate(keys)]
    for at in range(0, len(entries), 5_000):
        sorter.add(entries[at : at + 5_000])
    return sorter.finish()


def keys_of(inventory, begin=None, end=None, after=None):
    return [entry.key for block in inventory.blocks(begin, end, after=after) for entry in block.items]


class Store:
    """Objects in memory, as far as an inventory in the store needs them."""

    def __init__(self):
        self.objects = {}
        self.reads = []

    async def get(self, bucket, key):
        self.reads.append(key)
        return Answer(self.objects.get((bucket, key)))

    async def put_small(self, bucket, key, body, *, content_type):
        assert content_type
        await asyncio.sleep(0)
        self.objects[bucket, key] = body

    async def list(self, bucket, prefix=""):
        keys = sorted(key for place, key in self.objects if place == bucket and key.startswith(prefix))
        yield ListPage(objects=[ListedObject(key, 1, "e", 100.0) for key in keys], continuation=None)

    async def delete(self, bucket, key):
        del self.objects[bucket, key]


class Answer:
    def __init__(self, body):
        self.status = 404 if body is None else 200
        self._body = body

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None

    async def read(self):
        return self._body


@settings(max_examples=150, deadline=None)
@given(st.sets(KEYS), st.sampled_from([Collation.BYTES, Collation.PATH]), BOUND, BOUND, BOUND, st.booleans())
def test_a_range_holds_exactly_its_keys_from_the_file_and_from_the_store(
    tmp_path_factory, keys, collation, begin, end, after, tiny
):
    place = order_of(collation)
    path = tmp_path_factory.mktemp("r") / "f"
    found = written(path, keys, collation)
    with pytest.MonkeyPatch.context() as patch:
        if tiny:  # a mark and an object a line, marks dropped all the time
            patch.setattr("scheduler.scan.compare.index.FIRST_APART_BYTES", 1)
            patch.setattr("scheduler.scan.compare.index.MOST_MARKS", 5)
            patch.setattr("scheduler.scan.compare.published.PART_BYTES", 1)
            patch.setattr("scheduler.scan.compare.sorted_file._READ_BYTES", 8)
        local = open_local(path, collation, of="run 1")

        async def from_store():
            store = Store()
            await publish(store, "b", "run", found.digest, path, local.index)
            there = await open_published(store, "b", "run", found.digest, of="run 1")
            return await asyncio.to_thread(keys_of, there, begin, end, after)

        want = sorted(
            (
                key
                for key in keys
                if (begin is None or place(key) >= place(begin))
                and (end is None or place(key) < place(end))
                and (after is None or place(key) > place(after))
            ),
            key=place,
        )
        assert keys_of(local, begin, end, after) == want
        assert asyncio.run(from_store()) == want
        assert local.index.keys == len(keys)
        cuts = local.index.cuts(3, begin, end)
        assert all(cut in keys for cut in cuts)
        assert cuts == sorted(set(cuts), key=place)
        bounds = [begin, *cuts, end]
        parts = [key for pair in pairwise(bounds) for key in keys_of(local, *pair)]
        assert parts == keys_of(local, begin, end)


@pytest.mark.parametrize("family", FAMILIES)
def test_cuts_are_balanced_within_a_factor_of_two_by_count(tmp_path, family):
    keys = FAMILIES[family](20_000)
    written(tmp_path / "f", keys)
    index = open_local(tmp_path / "f", Collation.BYTES).index
    cuts = index.cuts(32)
    counts = shares(keys, cuts)
    assert len(cuts) == 31
    assert sum(counts) == len(keys)
    assert max(counts) < 2 * min(counts), counts
    middle = index.cuts(2, cuts[7], cuts[8])
    halves = shares([key for key in keys if cuts[7] <= key < cuts[8]], middle)
    assert max(halves) < 2 * min(halves), halves
    assert abs(index.count(cuts[7], cuts[8]) - counts[8]) <= 1


def test_the_index_stays_small_whatever_is_indexed_and_its_marks_are_exact():
    builder = IndexBuilder(begin_at=10)
    lines = b"".join([b"%010d\t\t\t\n" % number for number in range(100_000)])
    tracemalloc.start()
    for _ in range(40):  # 4 million lines
        builder.add(lines)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    index = builder.index(Collation.BYTES, "x")
    assert MOST_MARKS // 2 <= len(index.places) <= MOST_MARKS
    assert peak < 4 << 20
    assert index.keys == 4_000_000
    assert all(
        at == 10 + before * 14 and place == f"{before % 100_000:010d}"
        for place, at, before in zip(index.places, index.at, index.before, strict=True)
    )
    assert decoded(encoded(index)) == index


def test_an_index_of_another_file_is_made_anew_and_half_a_file_is_refused(tmp_path):
    path = tmp_path / "f"
    written(path, ["a", "b", "c"])
    open_local(path, Collation.BYTES)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["f", "f.index"]
    written(path, ["a", "b", "c", "d"])
    assert open_local(path, Collation.BYTES).index.keys == 4
    index_path(path).write_bytes(b"[]")
    assert keys_of(open_local(path, Collation.BYTES), "b", "d") == ["b", "c"]
    index_path(path).unlink()
    os.truncate(path, path.stat().st_size - 1)
    for collation, of in ((Collation.BYTES, None), (Collation.BYTES, "run 2"), (Collation.PATH, None)):
        with pytest.raises(NotThisFile):
            open_local(path, collation, of=of)
    with pytest.raises(NotThisFile, match="No such file"):
        open_local(tmp_path / "none", Collation.BYTES)


async def test_an_inventory_in_the_store_is_whole_or_refused_and_goes_away(tmp_path, monkeypatch):
    monkeypatch.setattr("scheduler.scan.compare.published.PART_BYTES", 1 << 18)
    keys = [f"k/{number:09d}" for number in range(100_000)]
    found = written(tmp_path / "f", keys)
    local, store = open_local(tmp_path / "f", Collation.BYTES), Store()
    assert await open_published(store, "b", "run", found.digest, of="run 1") is None
    for _ in range(2):  # the second finds it there
        await publish(store, "b", "run", found.digest, tmp_path / "f", local.index)
    there = await open_published(store, "b", "run", found.digest, of="run 1")
    assert len(there.sums) > 5
    store.reads.clear()
    assert await asyncio.to_thread(keys_of, there, "k/000050000", "k/000050010") == keys[50_000:50_010]
    assert len(store.reads) <= 2, "a small range reads the objects that it lies in"
    assert await asyncio.to_thread(keys_of, there) == keys
    with pytest.raises(NotThisFile, match="holds run 1, not run 2"):
        await open_published(store, "b", "run", found.digest, of="run 2")
    name = f"{there.place}00000003"
    whole = store.objects["b", name]
    store.objects["b", name] = whole[:-1] + b"x"
    with pytest.raises(NotThisFile, match="00000003: damaged"):
        await asyncio.to_thread(keys_of, there)
    del store.objects["b", name]
    with pytest.raises(NotThisFile, match="00000003: gone"):
        await asyncio.to_thread(keys_of, there)
    store.objects["b", ".ferryman/scans/run/absent/1.jsonl"] = b"names"
    assert await withdraw_stale(store, "b", but={"run"}, older_than_s=10, now=200) == 0
    assert await withdraw_stale(store, "b", but=set(), older_than_s=500, now=200) == 0
    assert await withdraw_stale(store, "b", but=set(), older_than_s=10, now=200) > 5
    assert list(store.objects) == [("b", ".ferryman/scans/run/absent/1.jsonl")]
    await publish(store, "b", "run", found.digest, tmp_path / "f", local.index)
    await withdraw(store, "b", "run")
    assert list(store.objects) == [("b", ".ferryman/scans/run/absent/1.jsonl")]
