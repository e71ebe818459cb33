"""Preconditions against the validators of one representation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.front.http.conditional import (
    Validators,
    Verdict,
    evaluate,
    has_conditions,
    if_range_holds,
    precondition_holds,
)

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
STAMP = 784111777.0
OBJECT = Validators(etag='"abc"', last_modified=STAMP)


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({}, Verdict.PROCEED),
        ({"if-none-match": '"abc"'}, Verdict.NOT_MODIFIED),
        ({"if-none-match": 'W/"abc"'}, Verdict.NOT_MODIFIED),
        ({"if-none-match": '"x", "abc"'}, Verdict.NOT_MODIFIED),
        ({"if-none-match": "abc"}, Verdict.NOT_MODIFIED),
        ({"if-none-match": "*"}, Verdict.NOT_MODIFIED),
        ({"if-none-match": '"x"'}, Verdict.PROCEED),
        ({"if-none-match": '"x"', "if-modified-since": LATER}, Verdict.PROCEED),
        ({"if-modified-since": DATE}, Verdict.NOT_MODIFIED),
        ({"if-modified-since": LATER}, Verdict.NOT_MODIFIED),
        ({"if-modified-since": EARLIER}, Verdict.PROCEED),
        ({"if-modified-since": "yesterday"}, Verdict.PROCEED),
        ({"if-match": '"abc"'}, Verdict.PROCEED),
        ({"if-match": "*"}, Verdict.PROCEED),
        ({"if-match": '"x"'}, Verdict.FAILED),
        ({"if-match": 'W/"abc"'}, Verdict.FAILED),
        ({"if-match": '"abc"', "if-none-match": '"abc"'}, Verdict.NOT_MODIFIED),
        ({"if-unmodified-since": DATE}, Verdict.PROCEED),
        ({"if-unmodified-since": EARLIER}, Verdict.FAILED),
        ({"if-unmodified-since": "never"}, Verdict.PROCEED),
        ({"if-match": '"abc"', "if-unmodified-since": EARLIER}, Verdict.PROCEED),
    ],
)
def test_preconditions_are_judged_in_the_order_of_rfc_9110(headers, verdict):
    assert evaluate(headers, OBJECT) is verdict


@pytest.mark.parametrize("headers", [{"if-match": '"abc"'}, {"if-unmodified-since": DATE}])
def test_a_missing_validator_fails_a_precondition_a21(headers):
    assert not precondition_holds(headers, Validators())


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ('"abc"', True), ('W/"abc"', False), ('"x"', False), (DATE, True), (LATER, False), (EARLIER, False),
        ("junk", False),
    ],
)  # fmt: skip
def test_if_range_needs_the_very_same_representation(value, holds):
    assert if_range_holds(value, OBJECT) is holds


def test_if_range_never_holds_for_a_weak_etag():
    assert not if_range_holds('W/"abc"', Validators(etag='W/"abc"'))


def test_if_range_is_no_precondition():
    assert not has_conditions({"if-range": '"abc"', "range": "bytes=0-"})
    assert has_conditions({"if-match": "*"})


@given(st.text(max_size=60))
def test_no_header_breaks_the_judgement(value):
    for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"):
        assert evaluate({name: value}, OBJECT) in set(Verdict)
    if_range_holds(value, OBJECT)
