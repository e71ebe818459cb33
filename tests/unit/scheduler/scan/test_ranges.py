"""Ranges of keys: together exactly the key space, whatever they are cut and split at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.scan.inventory.entry import Collation, order_of
from scheduler.scan.ranges import NotInside, before, cut, flaw, split, within
from scheduler.scan.record.shard import WHOLE, KeyRange

keys = st.text(alphabet="a-.0/é中~", min_size=1, max_size=6)
collations = st.sampled_from([Collation.BYTES, Collation.PATH])


@given(st.lists(keys, max_size=8), st.lists(keys, max_size=8), collations)
def test_every_key_is_in_exactly_one_range_of_a_cut(points, some, collation):
    ranges = cut(points, collation)
    assert flaw(ranges, collation) == ""
    for key in [*some, *points]:
        assert sum(within(one, key, collation) for one in ranges) == 1


@given(st.lists(keys, max_size=8), st.lists(keys, min_size=1, max_size=8), collations)
def test_ranges_that_are_split_again_and_again_stay_exactly_the_key_space(points, splits, collation):
    ranges = list(cut(points, collation))
    for at in splits:
        (number,) = [number for number, one in enumerate(ranges) if within(one, at, collation)]
        order = order_of(collation)
        if order(ranges[number].begin) == order(at):
            with pytest.raises(NotInside):
                split(ranges[number], at, collation)
            continue
        ranges += split(ranges.pop(number), at, collation)
    assert flaw(ranges, collation) == ""


@given(st.lists(keys, min_size=1, max_size=8, unique=True), st.data(), collations)
def test_a_range_that_is_missing_or_there_twice_is_a_flaw(points, data, collation):
    ranges = list(cut(points, collation))
    number = data.draw(st.integers(0, len(ranges) - 1))
    without = [*ranges[:number], *ranges[number + 1 :]]
    if number == len(ranges) - 1:
        assert (
            flaw(without, collation) == f"nothing covers what follows {ranges[number].begin!r}" or not without
        )
    else:
        assert flaw(without, collation).startswith("a gap between")
    assert flaw([*ranges, ranges[number]], collation) != ""


@pytest.mark.parametrize(
    ("ranges", "found"),
    [
        ([], "nothing covers what follows ''"),
        ([WHOLE], ""),
        ([KeyRange(end="m"), KeyRange(begin="n")], "a gap between 'm' and 'n'"),
        ([KeyRange(end="n"), KeyRange(begin="m")], "an overlap between 'n' and 'm'"),
        ([KeyRange(end="m"), KeyRange(begin="m", end="z")], "nothing covers what follows 'z'"),
        ([KeyRange(begin="a")], "a gap between '' and 'a'"),
        ([WHOLE, KeyRange(begin="m")], "['m', end) lies behind the end"),
        ([KeyRange(end="m"), KeyRange(begin="m", end="m"), KeyRange(begin="m")], "['m', 'm') holds no key"),
    ],
)
def test_a_flaw_says_where_it_is(ranges, found):
    assert flaw(ranges, Collation.BYTES) == found


def test_the_order_of_paths_has_other_ranges_than_that_of_bytes():
    first, second = cut(["a-"], Collation.PATH)
    assert within(first, "a/1", Collation.PATH)
    assert within(second, "a/1", Collation.BYTES)


@given(keys)
def test_to_list_behind_the_place_before_a_key_lists_the_key(key):
    place = before(key)
    assert place is not None
    assert place < key


def test_the_beginning_is_listed_from_the_beginning():
    assert before("") is None
    assert before("\ue000") == "\ud7ff\U0010fffd"
