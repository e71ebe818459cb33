"""Filters that prune a walk, and names of places."""

from __future__ import annotations

import pytest

from scheduler.scan.inventory.walk import Unread, Walk, covers, shown


@pytest.mark.parametrize(
    ("pattern", "folder", "surely"),
    [
        ("^private/", "private/", True),
        ("^private/.*$", "private/", True),
        ("^private/.+", "private/", True),
        ("^private/.*", "private/sub/", True),
        ("private", "a/private/b/", True),
        ("(^|/)tmp/", "x/tmp/", True),
        (r"\.tmp$", "x.tmp/", False),
        ("^private/a", "private/", False),
        ("^private/$", "private/", False),
        (r"^private/(?!keep)", "private/", False),
        (r"^v1\.", "v1/", False),
        (r"^[a-z]+/[0-9]+$", "a/", False),
        (r"^private/\b", "private/", False),
    ],
)
def test_a_pattern_leaves_a_folder_out_only_when_it_matches_every_key_below(pattern, folder, surely):
    assert covers(pattern, folder) is surely


@pytest.mark.parametrize(
    ("folder", "skipped"),
    [("a/", False), ("a/b/", False), ("a/b/c/", False), ("a/bc/", False), ("a/c/", True), ("b/", True)],
)
def test_a_prefix_keeps_the_walk_out_of_what_is_beside_it(folder, skipped):
    walk = Walk(prefix="a/b")
    assert (walk.skips(folder), walk.left_out) == (skipped, int(skipped))


def test_a_place_is_missed_once():
    walk = Walk()
    walk.miss("http://h/a/", "status 403")
    walk.miss("http://h/a/", "status 404")
    assert (walk.unread, walk.missed) == ([Unread("http://h/a/", "status 403")], 1)


def test_a_name_that_is_not_utf8_is_shown_with_its_bytes():
    assert shown(b"a/X\xff\xe9.txt".decode("utf-8", "surrogateescape")) == "a/X%FF%E9.txt"
    assert shown("中%41") == "中%41"
