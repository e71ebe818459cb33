"""Entries of a page by regular expressions: what the general ones and the XML parser say, or nothing."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import StoreError, StoreUnavailable
from workers.store import entries
from workers.store.listing import read_page
from workers.store.model import StoreAnswer

TEXT = st.text(st.sampled_from("ab/%+ é中\"'0\x01"), max_size=6)
HOSTILE = st.sampled_from(
    ["&amp;", "&#1;", "&", "<", ">", "&quot;", "<Key>x</Key>", "</Contents><Contents>", "<!--", "]]>",
     "<!DOCTYPE x>", "&#34;", "\ufffd", "</Key><Size>1</Size>", "<Contents>"]
)  # fmt: skip
SIZE = st.integers(0, 10**12).map(str) | st.sampled_from(["", "-1", " 7", "1_0", "٣", "007", "x"])
QUOTES = st.sampled_from(["&quot;", "&#34;", '"', ""])


@st.composite
def page(draw):
    """A page whose entries mostly look alike, and what a store, a proxy or an enemy makes of it."""
    order = draw(st.sampled_from([
        ("Key", "LastModified", "ETag", "Size"), ("Key", "ETag", "Size", "LastModified"), ("Key", "Size"),
    ]))  # fmt: skip
    quote, other = draw(QUOTES), draw(QUOTES)
    extra = draw(st.sampled_from(["", "<StorageClass>S</StorageClass>", "<Owner><ID>i</ID></Owner>"]))
    rare = draw(st.sampled_from([extra, "<ChecksumAlgorithm>X</ChecksumAlgorithm>", "<Tier>1</Tier>"]))
    lines = []
    for _ in range(draw(st.integers(0, 5))):
        odd = draw(st.integers(0, 9)) == 0
        mark = other if odd else quote
        texts = {
            "Key": "k" + draw(TEXT).replace('"', draw(st.sampled_from(['"', ""]))),
            "LastModified": "2026-01-01T00:00:00.000Z",
            "ETag": f"{mark}{draw(TEXT) if odd else 'e1'}{mark}",
            "Size": draw(SIZE) if odd else str(draw(st.integers(0, 99))),
        }
        if odd and draw(st.booleans()):
            name = draw(st.sampled_from(order))
            texts[name] += draw(HOSTILE)
        body = "".join(f"<{name}>{texts[name]}</{name}>" for name in order)
        lines.append(f"<Contents>{body}{rare if odd else extra}</Contents>")
    head = "<ListBucketResult>" + draw(
        st.sampled_from(["", "<EncodingType>url</EncodingType>", "<Prefix>&#1;</Prefix>"])
    )
    text = head + draw(st.sampled_from(["", "\n"])).join(lines) + "</ListBucketResult>"
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(HOSTILE | st.just("")) + text[at + draw(st.integers(0, 3)) :]
    return text.encode()


def by_general_expressions(body):
    """What is meant, without the shape of the first entry."""
    text = body.decode()
    for pattern, order in entries._ENTRIES:
        parts = pattern.split(text)
        if len(parts) > 1 and not any(parts[5:-1:5]):
            envelope = parts[0] + parts[-1]
            if "Contents" in envelope or "<!" in envelope:
                return None
            return envelope.encode(), [parts[1 + at : -1 : 5] for at in order]
    return None


@settings(max_examples=600, deadline=None)
@given(page())
def test_the_shape_of_the_first_entry_finds_what_the_general_expressions_find(body):
    assert entries.split(body) == by_general_expressions(body)


def read(body):
    try:
        found = read_page(StoreAnswer(status=200, headers={}, body=body), what="LIST b")
    except StoreError as error:
        return type(error)
    return list(found.objects), found.continuation, found.unreadable


@settings(max_examples=400, deadline=None)
@given(page())
def test_a_page_that_is_read_fast_is_what_the_parser_makes_of_it(body):
    fast = read(body)
    with mock.patch("workers.store.listing.split", return_value=None):
        slow = read(body)
    # A sign that XML cannot hold is a key that the parser cannot name, or a page that it refuses; the quick
    # reader takes both as they are meant.
    may_differ = b"\x01" in body or (b"]]>" in body and slow is StoreUnavailable)
    assert fast == slow or entries.split(body) is None or may_differ


@pytest.mark.parametrize("size", ["x", "", "1.5", "0x10"])
def test_a_size_that_is_no_number_is_a_page_that_cannot_be_read(size):
    body = f"<ListBucketResult><Contents><Key>a</Key><Size>{size}</Size></Contents></ListBucketResult>"
    assert issubclass(read(body.encode()), StoreError)


def test_shapes_that_are_remembered_are_few_and_none_is_long():
    for number in range(200):
        owner = "<Owner>" + "<ID>i</ID>" * number + "</Owner>"
        entry = f"<Contents><Key>a</Key><LastModified>t</LastModified><ETag>e</ETag><Size>1</Size>{owner}"
        entry += "</Contents>"
        body = f"<ListBucketResult>{entry * 2}</ListBucketResult>".encode()
        assert entries.split(body)[1][0] == ["a", "a"]
    assert len(entries._shapes) <= entries._MOST_SHAPES
    assert max(map(len, entries._shapes)) <= entries._LONGEST_SHAPE
