"""Cutting a bucket that nobody has counted: whatever its keys look like, the parts hold about as many."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.scan.shards.probing import Probed, cuts, halved, seen_in
from support.scan.key_families import FAMILIES, shares


def probing(keys):
    asked = []

    async def probe(after):
        asked.append(after)
        return seen_in(keys, after)

    return probe, asked


@pytest.mark.parametrize("shards", [4, 32])
@pytest.mark.parametrize("family", sorted(FAMILIES))
async def test_no_part_of_a_family_of_keys_is_twice_as_large_as_it_should_be(family, shards):
    keys = sorted(FAMILIES[family](60_000))
    probe, asked = probing(keys)
    found = await cuts(probe, shards)
    parts = shares(keys, found.points)
    assert len(parts) == shards
    assert max(parts) <= 2 * len(keys) / shards, parts
    assert len(asked) <= 200 + 10 * shards + 1, "no more pages than it may ask for"


async def test_few_keys_are_cut_exactly():
    keys = [f"{n:03}" for n in range(100)]
    probe, asked = probing(keys)
    found = await cuts(probe, 4)
    assert (found.points, found.keys, len(asked)) == (["025", "050", "075"], 100, 1)


@given(st.lists(st.text(min_size=1, max_size=4), unique=True), st.integers(1, 9))
async def test_points_are_in_order_and_fewer_than_shards(keys, shards):
    probe, _ = probing(sorted(keys))
    found = await cuts(probe, shards)
    assert found.points == sorted(set(found.points))
    assert len(found.points) < shards
    assert found.keys == len(keys)


async def test_a_split_halves_what_is_behind_the_checkpoint_and_before_the_end():
    keys = [f"{n:06}" for n in range(40_000)]
    probe, _ = probing(keys)
    at, behind = await halved(probe, keys[10_000], keys[30_000])
    assert at is not None
    assert keys[14_000] < at < keys[26_000]
    assert 7_000 < behind < 13_000


@pytest.mark.parametrize(
    ("begin", "end"), [(30_000, 90_000), (0, None), (60_000, 119_999), (90_000, 110_000)]
)
@pytest.mark.parametrize("family", sorted(FAMILIES))
async def test_a_split_leaves_either_side_a_fifth_for_a_few_pages(family, begin, end):
    keys = sorted(FAMILIES[family](120_000))
    probe, asked = probing(keys)
    at, _ = await halved(probe, keys[begin], None if end is None else keys[end])
    assert at is not None
    share = (bisect_left(keys, at) - begin) / ((end or len(keys)) - begin)
    assert 0.2 < share < 0.8, share
    assert len(asked) <= 73, "no more pages than it may ask for"


@pytest.mark.parametrize("family", ["flat_random", "uuids", "non_ascii", "padded"])
async def test_what_is_clear_after_a_few_pages_is_not_asked_for_further(family):
    keys = sorted(FAMILIES[family](120_000))
    probe, asked = probing(keys)
    await halved(probe, keys[30_000], keys[90_000])
    assert len(asked) <= 35


async def test_what_is_left_of_a_small_range_is_not_split():
    probe, _ = probing([f"{n:06}" for n in range(3_000)])
    assert await halved(probe, "000100", None) == (None, 0)


async def test_a_page_that_cannot_be_read_is_an_error_and_no_end():
    async def probe(after):
        if after is not None:
            raise OSError("the store is away")
        return Probed([f"{n:06}" for n in range(1_000)], ended=False)

    with pytest.raises(OSError, match="the store is away"):
        await cuts(probe, 8)
