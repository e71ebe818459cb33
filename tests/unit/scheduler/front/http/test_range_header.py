"""The `Range` header, read and resolved (SEMANTICS.md A15 to A19)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.front.http.range_header import (
    FARTHEST,
    MAX_RANGES,
    RangeSpec,
    Slice,
    header_value,
    is_answer,
    parse_content_range,
    parse_range,
    resolve,
    resolve_all,
    single,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", (RangeSpec(0, 0),)),
        ("bytes=5-", (RangeSpec(5, None),)),
        ("bytes=-7", (RangeSpec(None, 7),)),
        ("BYTES=1-2", (RangeSpec(1, 2),)),
        ("bytes=1-2, 5-", (RangeSpec(1, 2), RangeSpec(5, None))),
        ("bytes= 1-2 ,, -3", (RangeSpec(1, 2), RangeSpec(None, 3))),
        ("bytes=0-18446744073709551615", (RangeSpec(0, FARTHEST),)),
        ("bytes=" + "9" * 9000 + "-", (RangeSpec(FARTHEST, None),)),
        ("bytes=-" + "0" * 9000 + "7", (RangeSpec(None, 7),)),
    ],
)
def test_a_range_is_read_as_rfc_9110_writes_it(value, expected):
    assert parse_range(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=2-1", "items=0-1", "bytes=1-2-3",
        "0-1", "bytes=+1-2", "bytes=1.0-2", "bytes=0x1-2", "bytes=\u0661-\u0662",
        "bytes=1 - 2",
        "bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)),
    ],
)  # fmt: skip
def test_bad_syntax_and_other_units_are_ignored_a19(value):
    assert parse_range(value) is None


def test_only_a_single_range_counts_on_a_miss_a19():
    assert single(parse_range("bytes=1-2")) == RangeSpec(1, 2)
    assert single(parse_range("bytes=1-2,3-4")) is None
    assert single(None) is None


@pytest.mark.parametrize(
    ("spec", "size", "expected"),
    [
        (RangeSpec(0, 0), 10, Slice(0, 1)),
        (RangeSpec(0, None), 10, Slice(0, 10)),
        (RangeSpec(9, 99), 10, Slice(9, 10)),
        (RangeSpec(10, 11), 10, None),
        (RangeSpec(None, 3), 10, Slice(7, 10)),
        (RangeSpec(None, 99), 10, Slice(0, 10)),
        (RangeSpec(None, 0), 10, None),
        (RangeSpec(0, 0), 0, None),
        (RangeSpec(None, 5), 0, None),
    ],
)
def test_p27_a_range_means_exactly_these_bytes(spec, size, expected):
    assert resolve(spec, size) == expected


def test_overlapping_ranges_that_ask_for_more_than_there_is_are_ignored():
    specs = parse_range("bytes=0-,0-,0-")
    assert specs is not None
    assert resolve_all(specs, 10) is None
    assert resolve_all(parse_range("bytes=0-1,4-5") or (), 10) == [Slice(0, 2), Slice(4, 6)]
    assert resolve_all(parse_range("bytes=20-,30-40") or (), 10) == []


@given(
    first=st.one_of(st.none(), st.integers(0, 10**17)),
    last=st.one_of(st.none(), st.integers(0, 10**17)),
    size=st.integers(0, 10**17),
)
def test_a_parsed_range_survives_being_rebuilt_and_never_leaves_the_object(first, last, size):
    if first is None and last is None:
        return
    if first is not None and last is not None and last < first:
        first, last = last, first
    spec = RangeSpec(first, last)
    assert parse_range(header_value(spec)) == (spec,)
    part = resolve(spec, size)
    if part is not None:
        assert 0 <= part.start < part.stop <= size
        assert parse_content_range(part.content_range(size)) == (part, size)


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(value):
    for text in (value, f"bytes={value}"):
        specs = parse_range(text)
        assert specs is None or all(spec.first is not None or spec.last is not None for spec in specs)
        parse_content_range(value)


@given(st.binary(min_size=1, max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_a_slice_is_what_python_would_cut(body, first, length):
    part = resolve(RangeSpec(first, first + length), len(body))
    expected = body[first : first + length + 1]
    assert (body[part.start : part.stop] if part else b"") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes 0-4/10", (Slice(0, 5), 10)),
        ("bytes 0-4/*", (Slice(0, 5), None)),
        ("bytes */10", (None, 10)),
        ("bytes 5-4/10", None),
        ("bytes 0-10/10", None),
        ("bytes 0-4", None),
        ("items 0-4/10", None),
    ],
)
def test_content_range_is_read_or_refused(value, expected):
    assert parse_content_range(value) == expected


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        (RangeSpec(5, 14), "bytes 5-14/100", True),
        (RangeSpec(5, 14), "bytes 5-10/100", True),
        (RangeSpec(5, 14), "bytes 6-15/100", False),
        (RangeSpec(5, 14), "bytes 5-20/100", False),
        (RangeSpec(5, None), "bytes 5-99/100", True),
        (RangeSpec(5, None), "bytes 0-99/100", False),
        (RangeSpec(90, 120), "bytes 90-99/100", True),
        (RangeSpec(None, 10), "bytes 90-99/100", True),
        (RangeSpec(None, 10), "bytes 0-9/100", False),
        (RangeSpec(5, 14), "bytes 5-14/*", True),
        (RangeSpec(5, 14), "bytes 4-14/*", False),
        (RangeSpec(5, None), "bytes 5-14/*", True),
        (RangeSpec(None, 10), "bytes 7-16/*", True),
        (RangeSpec(5, 14), "bytes */100", False),
        (RangeSpec(5, 14), "lines 5-14/100", False),
        (RangeSpec(5, 14), None, False),
    ],
)
def test_a206_answers_when_it_begins_where_it_was_asked_to_p27(spec, value, expected):
    assert is_answer(spec, value) is expected
