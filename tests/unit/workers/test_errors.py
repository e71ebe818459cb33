"""What errors say."""

from __future__ import annotations

import inspect
import re

import pytest

from workers import errors
from workers.errors import FerrymanError, described


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no digits"), "ValueError: no digits"),
        (TimeoutError(), "TimeoutError"),
        (ConnectionResetError(104, "reset"), "ConnectionResetError: [Errno 104] reset"),
    ],
)
def test_a_foreign_error_is_told_without_a_colon_that_nothing_follows(error, text):
    assert described(error) == text


def test_the_tree_in_the_docstring_is_the_tree():
    drawn: dict[str, str] = {}
    above = [FerrymanError.__name__]
    for depth, name in re.findall(r"^ {4}((?:│   |    )*)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE):
        level = len(depth) // 4 + 1
        drawn[name] = above[level - 1]
        above[level:] = [name]
    classes = [
        one for _, one in inspect.getmembers(errors, inspect.isclass) if one.__module__ == errors.__name__
    ]
    assert drawn == {one.__name__: one.__base__.__name__ for one in classes if one is not FerrymanError}
