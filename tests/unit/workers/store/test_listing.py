"""Listing XML: exact keys, and nothing unreadable that looks like the end."""

from __future__ import annotations

import pytest

from workers.errors import StoreRejected, StoreUnavailable
from workers.store.listing import read_page
from workers.store.model import StoreAnswer

NS = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
    "<Size>7</Size></Contents>"
)


def page(body: str):
    return read_page(StoreAnswer(status=200, headers={}, body=body.encode()), what="LIST b")


@pytest.mark.parametrize("space", ["", NS])
def test_keys_sizes_etags_and_times_are_read_with_and_without_a_namespace(space):
    body = f"<ListBucketResult{space}><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
    body += "<NextContinuationToken>t</NextContinuationToken>"
    body += "".join(ENTRY.format(key) for key in ("a+b", "a%2Bb", "a%252Bb", "d//x/", "%01", "%E4%B8%AD"))
    got = page(f"{body}</ListBucketResult>")
    assert [one.key for one in got.objects] == ["a b", "a+b", "a%2Bb", "d//x/", "\x01", "中"]
    assert {(one.size, one.etag, one.last_modified) for one in got.objects} == {(7, "e", 1767225600.0)}
    assert got.continuation == "t"


def test_keys_of_a_store_that_does_not_encode_are_left_alone():
    got = page(f"<ListBucketResult>{ENTRY.format('a+b%20')}</ListBucketResult>")
    assert [one.key for one in got.objects] == ["a+b%20"]
    assert got.continuation is None


def test_missing_optional_columns_do_not_shift_the_others():
    body = "<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents>" + ENTRY.format("b")
    got = page(f"{body}</ListBucketResult>")
    assert [(one.key, one.etag) for one in got.objects] == [("a", ""), ("b", "e")]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("<ListBucketResult><Contents><Key>a</Key>", StoreUnavailable),
        ("", StoreUnavailable),
        ("<html><body>gateway</body></html>", StoreUnavailable),
        ("<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>", StoreUnavailable),
        ("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", StoreRejected),
    ],
)
def test_p31_page_that_cannot_be_read_never_looks_like_the_end(body, error):
    """P31."""
    with pytest.raises(error):
        page(body)
