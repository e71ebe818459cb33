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


OWNER = "<Owner><ID>i</ID><DisplayName>d</DisplayName></Owner>"
SHAPES = {
    "s3": "<Contents><Key>{0}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>"  # noqa: E501  # the formatter joins it
    "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><Size>7</Size><StorageClass>STANDARD</StorageClass>"
    "</Contents>",
    "seaweedfs": "<Contents><Key>{0}</Key><ETag>&#34;e&#34;</ETag><Size>7</Size>"
    + OWNER
    + "<StorageClass>STANDARD"
    "</StorageClass><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>",
    "spread over lines": '<Contents>\n<Size>7</Size><Key>{0}</Key>\n<ETag>"e"</ETag><LastModified>'
    "2026-01-01T00:00:00Z</LastModified></Contents>\n",
    "with what we do not know": "<Contents><Key>{0}</Key><New>1</New><LastModified>2026-01-01T00:00:00Z"
    "</LastModified><ETag>e</ETag><Size>7</Size></Contents>",
}


@pytest.mark.parametrize("first", SHAPES)
@pytest.mark.parametrize("second", SHAPES)
def test_every_way_to_write_an_entry_reads_the_same_also_on_one_page(first, second):
    body = f"<ListBucketResult{NS}><EncodingType>url</EncodingType>"
    body += SHAPES[first].format("a%2Fb") + SHAPES[second].format("c+d")
    got = page(f"{body}<IsTruncated>false</IsTruncated></ListBucketResult>")
    assert [tuple(one) for one in got.objects] == [
        ("a/b", 7, "e", 1767225600.0),
        ("c d", 7, "e", 1767225600.0),
    ]
    assert list(got.objects[1:]) == [got.objects[1]]


@pytest.mark.parametrize("shape", ["s3", "seaweedfs"])
def test_p31_a_page_cut_anywhere_is_never_read(shape):
    whole = f"<ListBucketResult{NS}>{SHAPES[shape].format('a')}{SHAPES[shape].format('b')}</ListBucketResult>"
    assert len(page(whole).objects) == 2
    for at in range(1, len(whole) - 1):
        with pytest.raises((StoreUnavailable, StoreRejected)):
            page(whole[:at])
