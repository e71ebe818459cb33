"""How many parts of an object are on their way at once."""

from __future__ import annotations

import pytest

from workers.store.part_turns import PartTurns


@pytest.mark.parametrize(
    ("of_one", "objects", "each"),
    [
        (2, 0, 2),
        (2, 1, 2),
        (2, 2, 2),
        (2, 3, 1),
        (2, 4, 1),
        (2, 100, 1),
        (8, 2, 8),
        (8, 3, 5),
        (8, 4, 4),
        (8, 16, 1),
        (1, 1, 1),
        (1, 9, 1),
    ],
)
def test_one_or_two_objects_have_all_their_parts_and_more_share_them(of_one, objects, each):
    turns = PartTurns(of_one)
    for _ in range(objects):
        turns.enter()
    assert turns.each == each


def test_who_is_left_has_all_of_them_again():
    turns = PartTurns(2)
    for _ in range(4):
        turns.enter()
    for _ in range(3):
        turns.leave()
    assert turns.each == 2
