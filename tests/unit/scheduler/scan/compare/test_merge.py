"""Pairing two sorted streams."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.scan.compare.merge import Block, OutOfOrder, merge
from scheduler.scan.inventory.entry import Collation, order_of

KEYS = st.text(st.sampled_from("ab/-é中"), min_size=1, max_size=6)


def blocks(keys, collation, size):
    keys, place = list(keys), order_of(collation)
    for at in range(0, len(keys), size):
        some = keys[at : at + size]
        yield Block([place(key) for key in some], some)


def pairs(left, right, collation=Collation.BYTES, duplicates=None, sizes=(2, 3)):
    told = [] if duplicates is None else duplicates
    return [
        tuple(pair)
        for pair in merge(
            blocks(left, collation, sizes[0]),
            blocks(right, collation, sizes[1]),
            on_duplicate=lambda side, key: told.append((side, key)),
        )
    ]


@pytest.mark.parametrize(
    ("what", "left", "right", "want"),
    [
        ("both empty", [], [], []),
        ("all missing", ["a", "b"], [], [("a", None), ("b", None)]),
        ("all extra", [], ["a"], [(None, "a")]),
        ("both", ["a"], ["a"], [("a", "a")]),
        ("mixed", ["a", "c"], ["b", "c", "d"], [("a", None), (None, "b"), ("c", "c"), (None, "d")]),
    ],
)
def test_pairs(what, left, right, want):
    assert pairs(left, right) == want, what


@given(
    st.sets(KEYS),
    st.sets(KEYS),
    st.sampled_from(Collation),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_every_key_comes_once_on_the_sides_that_have_it(left, right, collation, sizes):
    place = order_of(collation)
    found = pairs(sorted(left, key=place), sorted(right, key=place), collation, sizes=sizes)
    assert [place(one or other) for one, other in found] == sorted(map(place, left | right))
    assert {one for one, other in found if one is not None and other is None} == left - right
    assert {other for one, other in found if one is None} == right - left
    assert len(found) == len(left | right)


def test_p32_a_stream_out_of_order_stops_and_names_the_two_keys():
    with pytest.raises(OutOfOrder, match=r"listing: 'a' came after 'b'"):
        pairs(["c"], ["b", "a"])


def test_seaweedfs_order_is_by_component_and_bytes_order_is_refused_there():
    listing = ["k/a/1", "k/a/2", "k/a-1"]
    assert pairs(listing, listing, Collation.PATH) == [(key, key) for key in listing]
    with pytest.raises(OutOfOrder):
        pairs([], listing, Collation.BYTES)


def test_a_repeated_key_is_told_and_counted_once():
    told = []
    assert pairs(["a", "a", "b"], ["a", "b", "b"], duplicates=told) == [("a", "a"), ("b", "b")]
    assert told == [("inventory", "a"), ("listing", "b")]


@given(st.lists(KEYS), st.sampled_from(Collation))
def test_the_order_of_code_points_is_that_of_utf8_bytes(keys, collation):
    if collation is not Collation.PATH:
        assert sorted(keys, key=order_of(collation)) == sorted(keys, key=lambda key: key.encode())
    else:
        assert sorted(keys, key=order_of(collation)) == sorted(
            keys, key=lambda key: [part.encode() for part in key.split("/")]
        )


def test_p30_memory_is_flat_whatever_is_joined():
    """P30: ten times the keys, the same peak; nothing of a listing is held but its blocks."""

    def peak(count):
        tracemalloc.start()
        try:
            joined = merge(
                stream(count, step=1), stream(count, step=2), on_duplicate=lambda _side, _key: None
            )
            assert sum(1 for _ in joined) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def stream(count, step, size=1000):
        for at in range(0, count, size):
            some = [f"{number:09}" for number in range(at, at + size, step)]
            yield Block(some, some)

    assert peak(200_000) < 1.5 * peak(20_000) < 8 << 20
