"""What changes between two rule sets."""

from __future__ import annotations

from dataclasses import replace

from scheduler.rules.trying.difference import MAX_LINES, difference
from scheduler.rules.yaml import document


def rules(*names: str, host: str = "a.example.com"):
    listed = "".join(
        f"  - {{name: {name}, prefix: {name}/, origins: ['https://{host}']}}\n" for name in names
    )
    return document.parse(f"rules:\n{listed}")[0]


def test_the_same_rules_differ_in_nothing():
    found = difference(rules("a", "b"), rules("a", "b"))
    assert (found.added, found.removed, found.changed, found.reordered, found.lines) == (
        (),
        (),
        (),
        False,
        (),
    )


def test_new_gone_and_changed_rules_are_named():
    found = difference(rules("a", "b"), rules("b", "c", host="b.example.com"))
    assert (found.added, found.removed, found.changed) == (("c",), ("a",), ("b",))


def test_another_order_is_a_change_of_its_own():
    found = difference(rules("a", "b"), rules("b", "a"))
    assert (found.changed, found.reordered) == ((), True)
    assert found.lines


def test_no_rules_before_or_after_are_all_new_or_all_gone():
    assert {line.sign for line in difference(None, rules("a")).lines} == {"+"}
    gone = difference(rules("a"), None)
    assert ({line.sign for line in gone.lines}, gone.removed) == ({"-"}, ("a",))


def test_lines_that_stay_are_left_out_and_counted():
    many = [f"r{n}" for n in range(30)]
    found = difference(rules(*many), rules(*many, "last"))
    skipped = [line.text for line in found.lines if line.sign == "@"]
    lines = document.render(rules(*many)).splitlines()
    assert skipped == [f"{len(lines) - 3} lines that stay"]
    assert [line.sign for line in found.lines].count(" ") == 3


def test_a_difference_without_end_is_cut_and_says_so():
    few = rules("a")
    found = difference(None, replace(few, rules=few.rules * 600))
    assert len(found.lines) == MAX_LINES + 1
    assert found.lines[-1].text.endswith("more lines")
