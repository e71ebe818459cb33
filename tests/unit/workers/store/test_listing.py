"""Listing XML: exact keys, and nothing unreadable that looks like the end."""

from __future__ import annotations

import pytest

from workers.errors import StoreRejected, StoreUnavailable
from workers.store.listing import list_objects, read_page
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


def test_keys_that_are_not_utf8_stay_apart_and_out_of_the_listing():
    body = "<ListBucketResult><EncodingType>url</EncodingType>"
    body += "".join(ENTRY.format(key) for key in ("a", "X%FF", "X%FE", "z%C3%A9"))
    got = page(f"{body}</ListBucketResult>")
    assert [one.key for one in got.objects] == ["a", "zé"]
    assert got.objects[1] == ("zé", 7, "e", 1767225600.0)
    assert got.unreadable == ("X%FF", "X%FE")


@pytest.mark.parametrize(
    ("truncated", "rest", "goes_on"),
    [
        ("", "<NextContinuationToken>t</NextContinuationToken>", "t"),
        ("true", "<NextContinuationToken>t</NextContinuationToken>", "t"),
        ("false", "<NextContinuationToken>t</NextContinuationToken>", None),
        ("", "", None),
        ("true", "<NextMarker>b%2Bc</NextMarker>", "ferryman-marker:b+c"),
        ("", "<NextMarker>b</NextMarker>", "ferryman-marker:b"),
        ("true", "", "ferryman-marker:a b"),
    ],
)
def test_a_page_says_how_to_go_on_in_one_of_many_ways(truncated, rest, goes_on):
    body = "<ListBucketResult><EncodingType>url</EncodingType>"
    body += f"<IsTruncated>{truncated}</IsTruncated>" if truncated else ""
    assert page(f"{body}{ENTRY.format('a+b')}{rest}</ListBucketResult>").continuation == goes_on


class Store:
    """Answers listings from keys, in some way that a store may have."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.keys = [f"k{number}" for number in range(7)]
        self.queries: list[dict[str, str]] = []

    async def pause(self, error, attempt):
        raise error

    async def exchange(self, method, bucket, *, headers, query):
        asked = dict(query)
        self.queries.append(asked)
        if self.kind == "v1 refuses v2" and "list-type" in asked:
            raise StoreRejected("LIST b: 400 InvalidArgument", status=400)
        after = asked.get("marker", "") if "marker" in self.kind or "v1" in self.kind else ""
        if self.kind == "ignores the marker":
            after = ""
        entries = [key for key in self.keys if key > after][:2]
        more = entries[-1:] != self.keys[-1:]
        rest = f"<Marker>{after}</Marker><IsTruncated>{str(more).lower()}</IsTruncated>"
        if self.kind == "cycle":
            token = "B" if asked.get("continuation-token") == "A" else "A"
            rest = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
        body = "<ListBucketResult>" + "".join(map(ENTRY.format, entries)) + rest + "</ListBucketResult>"
        return StoreAnswer(status=200, headers={}, body=body.encode())


async def listed(store, **options):
    given = {"continuation": None, "start_after": None, "headers": {}, "plus_is_space": True, **options}
    return [page async for page in list_objects(store, "b", "", **given)]


@pytest.mark.parametrize("kind", ["v1", "v1 refuses v2"])
async def test_a_store_that_knows_only_v1_is_listed_by_marker(kind):
    store = Store(kind)
    pages = await listed(store)
    assert [one.key for page in pages for one in page.objects] == store.keys
    assert "list-type" not in store.queries[-1]
    resumed = await listed(store, continuation=pages[1].continuation)
    assert [one.key for page in resumed for one in page.objects] == store.keys[4:]


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("cycle", "the same continuation token twice \\('A'\\)"),
        (
            "ignores the marker",
            "comes back to the marker 'k1': .* does not obey the marker of ListObjects V1",
        ),
    ],
)
async def test_a_listing_that_goes_round_in_circles_ends_with_an_error_that_names_it(kind, what):
    with pytest.raises(StoreRejected, match=what):
        await listed(Store(kind))


@pytest.mark.parametrize("lost", ["a&#x1;b", "a&#27;b", "a&#X0B;b", "a\ufffdb"])
@pytest.mark.parametrize("unusual", ["", "<Contents><Size>1</Size><Key>other</Key></Contents>"])
def test_a_key_that_xml_cannot_hold_is_unreadable_and_ends_no_listing(lost, unusual):
    """A store without encoding-type; any visitor may cause such a key at an origin that knows every name."""
    got = page(
        f"<ListBucketResult>{ENTRY.format('kept&#10;')}{ENTRY.format(lost)}{unusual}</ListBucketResult>"
    )
    assert "kept\n" in [one.key for one in got.objects]
    assert len(got.objects) == 1 + bool(unusual)
    assert len(got.unreadable) == 1


def test_a_raw_control_character_ends_no_listing_either():
    unusual = "<Contents><Size>1</Size><Key>b\x01c</Key></Contents>"
    got = page(f"<ListBucketResult>{ENTRY.format('a')}{unusual}</ListBucketResult>")
    assert ([one.key for one in got.objects], len(got.unreadable)) == (["a"], 1)
