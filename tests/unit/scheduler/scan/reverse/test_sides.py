"""Both sides of the way back: where a key lies at its origin, and whether two objects are alike."""

from __future__ import annotations

import pytest

from scheduler.scan.inventory.entry import Entry
from scheduler.scan.reverse.sides import here, keeps_order, place_behind, same
from workers.back_routes import BackRoute
from workers.store.model import ListedObject

PLAIN = BackRoute(rule="r")
MOVED = BackRoute(rule="r", prefix="img/", cut_front="img/", front="pictures/")
ENDED = BackRoute(rule="r", end=".v1")

MD5 = ["0" * 32, "1" * 32]


@pytest.mark.parametrize(
    ("route", "key", "place", "follows"),
    [
        (PLAIN, "a", "a", True),
        (MOVED, "img/a", "pictures/a", True),
        (MOVED, "img/", "pictures/", True),
        (MOVED, "img.\U0010fffd", None, True),
        (MOVED, "a", None, True),
        (MOVED, "zzz", None, False),
        (MOVED, "img0", None, False),
    ],
)
def test_what_lies_behind_a_key_is_asked_for_at_its_place(route, key, place, follows):
    assert place_behind(route, key) == (place, follows)


@pytest.mark.parametrize("key", ["img/a", "img/", "img/a/b.png"])
def test_a_key_is_told_again_from_its_place(key):
    assert here(MOVED, MOVED.path(key)) == key


def test_what_is_not_of_the_route_is_no_key_of_ours():
    assert here(MOVED, "img/a") is None
    assert here(ENDED, "a") is None
    assert here(BackRoute(rule="r", front="ab", end="bc"), "abc") is None, "both ends are the same sign"


def test_places_come_in_the_order_of_keys_unless_the_ends_of_keys_are_changed():
    assert [keeps_order(route) for route in (PLAIN, MOVED, ENDED, BackRoute(rule="r", cut_end=".x"))] == [
        True, True, False, False,
    ]  # fmt: skip


ALL = ("size", "digest", "mtime")


@pytest.mark.parametrize(
    ("size", "etags", "newer", "compare", "expected"),
    [
        (2, MD5, False, ("size",), False),
        (1, MD5, True, ("size",), True),
        (1, MD5, False, ALL, False),
        (1, [MD5[0], MD5[0]], True, ALL, True),
        (1, [f"{MD5[0]}-2", MD5[1]], True, ALL, False),
        (1, [f"{MD5[0]}-2", MD5[1]], False, ALL, True),
        (2, MD5, True, ("digest",), False),
        (2, [f"{MD5[0]}-2", MD5[1]], True, ("digest",), True),
        (2, MD5, True, ("mtime",), False),
        (2, MD5, True, (), True),
    ],
)
def test_what_is_compared_says_whether_two_objects_are_alike(size, etags, newer, compare, expected):
    ours = ListedObject(key="k", size=size, etag=etags[0], last_modified=20.0 if newer else 10.0)
    assert same(ours, Entry("k", 1, etags[1], 10.0), compare) is expected
