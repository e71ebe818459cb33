"""What is written beside the body: rows S3 to S10 and S16 of SEMANTICS.md."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.plan import FetchPlan, Origin, OriginGroup, StorePolicy
from workers.store import metadata
from workers.store.metadata import (
    MAX_USER_META_BYTES,
    decode_value,
    encode_value,
    is_mirrored,
    minimal,
    object_meta,
    replay_headers,
    tag_value,
)
from workers.store.model import ObjectInfo, ObjectMeta

PLAN = FetchPlan(bucket="b", rule="images", groups=(OriginGroup(primary=Origin(host="o.example")),))
URL = "http://o.example/k"


def build(headers=(), *, key="k", url=URL, **policy) -> ObjectMeta:
    plan = replace(PLAN, store=StorePolicy(**policy))
    return object_meta(headers, plan, key=key, url=url, attempt="a1", fetched_at="2026-01-01T00:00:00Z")


def with_digest(meta: ObjectMeta) -> ObjectMeta:
    """As the upload writes it at its end."""
    if not meta.digest_fits:
        return meta
    return replace(meta, user_meta=(*meta.user_meta, ("ferryman-sha256", "f" * 64)))


def meta_bytes(meta: ObjectMeta) -> int:
    return sum(len("x-amz-meta-") + len(name) + len(value) for name, value in meta.user_meta)


def stored(meta: ObjectMeta) -> ObjectInfo:
    """What a store gives back."""
    return ObjectInfo(
        key="k",
        size=1,
        etag="e",
        last_modified=0.0,
        headers=meta.headers,
        user_meta=dict(meta.user_meta),
    )


@pytest.mark.parametrize(
    ("row", "url", "form", "expected"),
    [
        (
            "S7 U2",
            "http://www.example-domain.com/dir1/image/example_object.jpg",
            "encoded",
            "MIRROR http%3a%2f%2fwww.example-domain.com%2fdir1%2fimage%2fexample_object.jpg",
        ),
        ("S7 U22", "http://o.example/a%20b.txt", "encoded", "MIRROR http%3a%2f%2fo.example%2fa%2520b.txt"),
        (
            "S7 query",
            "http://o.example/a?x=1&y=_~",
            "encoded",
            "MIRROR http%3a%2f%2fo.example%2fa%3fx%3d1%26y%3d_~",
        ),
        ("S8", "http://o.example/a%20b.txt", "decoded", "MIRROR http://o.example/a b.txt"),
        (
            "S8 not ASCII",
            "http://o.example/%E4%B8%AD",
            "decoded",
            "MIRROR http%3a%2f%2fo.example%2f%25E4%25B8%25AD",
        ),
        ("S8 control", "http://o.example/a%0Ab", "decoded", "MIRROR http%3a%2f%2fo.example%2fa%250Ab"),
        ("S8", URL, "plain", "MIRROR"),
        ("S8", URL, "off", None),
    ],
)
def test_tag_is_the_first_url_in_the_asked_form(row, url, form, expected):
    assert tag_value(url, form) == expected, row
    assert dict(build(url=url, tag=form).user_meta).get("x-oss-tag") == expected


def test_system_headers_are_kept_unchanged_and_a_missing_type_stays_missing():
    """S3."""
    headers = [
        ("content-type", "text/html; charset=GB2312"),
        ("Content-Encoding", "gzip"),
        ("Content-Disposition", 'attachment; filename="a.txt"'),
        ("Cache-Control", "max-age=1"),
        ("cache-control", "public"),
        ("Content-Language", "de, en"),
        ("Server", "nginx"),
        ("Set-Cookie", "a=b"),
    ]
    assert dict(build(headers).headers) == {
        "Content-Type": "text/html; charset=GB2312",
        "Content-Encoding": "gzip",
        "Content-Disposition": 'attachment; filename="a.txt"',
        "Cache-Control": "max-age=1, public",
        "Content-Language": "de, en",
    }
    assert build([("Server", "nginx")]).headers == ()


@pytest.mark.parametrize(
    ("value", "native"),
    [
        ("Thu, 01 Dec 1994 16:00:00 GMT", True),
        # SeaweedFS refuses the older forms, and days that do not exist.
        ("Thursday, 01-Dec-94 16:00:00 GMT", False),
        ("Thu Dec  1 16:00:00 1994", False),
        ("Thu, 1 Dec 1994 16:00:00 GMT", False),
        ("Thu, 31 Feb 2032 16:00:00 GMT", False),
        ("0", False),
        ("-1", False),
        ("never", False),
        ("", False),
    ],
)
def test_p38_expires_is_native_when_it_is_a_date_and_replayed_as_sent_else(value, native):
    """P38, S4."""
    meta = build([("Expires", value)])
    assert (("Expires", value) in meta.headers) is native
    assert (("Expires", value) in replay_headers(stored(meta))) is not native


def test_allowed_origin_is_kept_in_metadata_and_replayed():
    """S5, S6."""
    meta = build([("Access-Control-Allow-Origin", "https://a.example")])
    assert dict(meta.user_meta)["ferryman-acao"] == "https://a.example"
    assert dict(replay_headers(stored(meta))) == {
        "x-oss-tag": "MIRROR http%3a%2f%2fo.example%2fk",
        "Access-Control-Allow-Origin": "https://a.example",
    }


def test_object_that_somebody_overwrote_replays_nothing():
    """S6: until the object is overwritten."""
    theirs = ObjectInfo(key="k", size=1, etag="e", last_modified=0.0, user_meta={"x-oss-tag": "MIRROR"})
    assert not is_mirrored(theirs)
    assert replay_headers(theirs) == []
    assert is_mirrored(stored(build()))


def test_provenance_says_attempt_key_rule_and_validators():
    """S9."""
    meta = dict(
        with_digest(
            build([("ETag", '"e1"'), ("Last-Modified", "Tue, 01 Apr 2025 10:00:00 GMT")], key="中"),
        ).user_meta,
    )
    assert meta == {
        "ferryman-v": "1",
        "ferryman-attempt": "a1",
        "ferryman-key-sha256": hashlib.sha256("中".encode()).hexdigest(),
        "ferryman-rule": "images",
        "ferryman-source-etag": '"e1"',
        "ferryman-source-last-modified": "Tue, 01 Apr 2025 10:00:00 GMT",
        "ferryman-fetched-at": "2026-01-01T00:00:00Z",
        "ferryman-sha256": "f" * 64,
        "ferryman-no-content-type": "1",
        "x-oss-tag": "MIRROR http%3a%2f%2fo.example%2fk",
    }


def test_last_modified_is_replayed_only_where_the_rule_says_so():
    """F45."""
    headers = [("Last-Modified", "Tue, 01 Apr 2025 10:00:00 GMT")]
    assert "Last-Modified" not in dict(replay_headers(stored(build(headers))))
    replayed = dict(replay_headers(stored(build(headers, last_modified=True))))
    assert replayed["Last-Modified"] == "Tue, 01 Apr 2025 10:00:00 GMT"


def test_the_etag_is_replayed_only_where_the_rule_says_so():
    """F62."""
    headers = [("ETag", 'W/"é"')]
    assert "ETag" not in dict(replay_headers(stored(build(headers))))
    assert dict(replay_headers(stored(build(headers, etag="origin"))))["ETag"] == 'W/"é"'
    assert "ETag" not in dict(replay_headers(stored(build([], etag="origin"))))


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (["gzip"], "gzip"),
        (["aws-chunked"], None),
        (["aws-chunked,gzip"], "gzip"),
        (["gzip, AWS-Chunked, br"], "gzip, br"),
        (["aws-chunked", "gzip"], "gzip"),
    ],
)
def test_the_framing_of_an_upload_is_no_content_encoding(values, kept):
    """S3."""
    meta = build([("Content-Encoding", value) for value in values])
    assert dict(meta.headers).get("Content-Encoding") == kept


@pytest.mark.parametrize(("headers", "marked"), [([], True), ([("Content-Type", "")], True),
                                                 ([("Content-Type", "text/plain")], False)])  # fmt: skip
def test_an_object_without_a_content_type_is_marked(headers, marked):
    """S3: a store makes one up, and hits do not show it."""
    meta = build(headers)
    assert ("ferryman-no-content-type" in dict(meta.user_meta)) is marked
    assert ("Content-Type" in dict(meta.headers)) is not marked


@pytest.mark.parametrize("prefix", ["x-oss-meta-", "X-Cos-Meta-", "x-amz-meta-"])
def test_user_metadata_of_every_vendor_is_kept_where_the_rule_says_so(prefix):
    """F44."""
    assert dict(build([(f"{prefix}Color", "red")]).user_meta)["color"] == "red"
    assert "color" not in dict(build([(f"{prefix}Color", "red")], user_meta=False).user_meta)


def test_origin_cannot_forge_our_provenance():
    meta = build([("x-amz-meta-ferryman-attempt", "forged"), ("x-oss-meta-x-oss-tag", "forged")])
    assert "forged" not in dict(meta.user_meta).values()
    assert set(meta.cut) == {"ferryman-attempt", "x-oss-tag"}


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "",
        "ü",
        "中文.txt",
        "tab\tin it",
        "=?UTF-8?B?w7w=?=",
        "a =?x?= b",
        "raw \udcff byte",
        "\x01",
        "  spaces ",
    ],
)
def test_value_comes_back_as_it_was(value):
    """S16, P38."""
    encoded = encode_value(value)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert decode_value(encoded) == value


@given(st.text())
def test_any_text_survives_the_store(value):
    """S16."""
    if any(0xD800 <= ord(char) <= 0xDFFF for char in value):
        return
    assert decode_value(encode_value(value)) == value


def test_words_that_a_store_encoded_itself_are_read_too():
    assert decode_value("=?UTF-8?Q?K=C3=B6ln_am?= =?UTF-8?B?UmhlaW4=?=") == "Köln amRhein"


def test_p38_raw_bytes_in_disposition_are_stored_encoded_and_replayed_decoded():
    """P38, S16."""
    meta = build([("Content-Disposition", 'attachment; filename="ü.txt"')])
    assert dict(meta.headers)["Content-Disposition"].startswith("=?UTF-8?B?")
    assert dict(replay_headers(stored(meta)))["Content-Disposition"] == 'attachment; filename="ü.txt"'


def test_p39_metadata_over_the_limit_is_cut_in_the_agreed_order():
    """P39, S10, L13: tag, then provenance, then the origin's metadata in name order."""
    long_url = "http://o.example/" + "%E4%B8%AD" * 340
    first = build(url=long_url)
    assert dict(first.user_meta)["x-oss-tag"] == "MIRROR"
    assert first.cut == ("x-oss-tag",)
    assert "ferryman-rule" in dict(first.user_meta)

    second = build([("x-amz-meta-a", "x" * 1700)], url=long_url)
    names = dict(second.user_meta)
    assert "a" in names
    assert "ferryman-rule" not in names
    assert {"ferryman-v", "ferryman-attempt", "x-oss-tag"} <= names.keys()
    assert "ferryman-rule" in second.cut

    third = build([("ETag", '"e"'), ("x-amz-meta-b", "x" * 900), ("x-amz-meta-a", "y" * 1500)], url=long_url)
    names = dict(third.user_meta)
    assert "b" in names
    assert "a" not in names
    assert names["ferryman-source-etag"] == '"e"'
    assert "a" in names["ferryman-meta-cut"].split(",")
    for meta in (first, second, third):
        assert meta_bytes(meta) <= MAX_USER_META_BYTES


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["x-amz-meta-a", "x-oss-meta-b", "ETag", "Expires", "Access-Control-Allow-Origin"]
            ),
            st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=3000),
        ),
        max_size=8,
    ),
    st.integers(min_value=0, max_value=3000),
)
def test_metadata_never_passes_the_limit_and_is_always_printable(headers, length):
    """S10, S16, with the digest that the upload adds."""
    meta = with_digest(build(headers, url="http://o.example/" + "k" * length))
    assert meta_bytes(meta) <= MAX_USER_META_BYTES
    assert all(value.isascii() and value.isprintable() for _, value in (*meta.user_meta, *meta.headers))
    assert dict(meta.user_meta)["ferryman-attempt"] == "a1"


def test_smallest_metadata_keeps_what_recognises_the_attempt():
    meta = minimal(build([("x-amz-meta-a", "b"), ("ETag", '"e"')]))
    assert set(dict(meta.user_meta)) == {
        "ferryman-v",
        "ferryman-attempt",
        "ferryman-key-sha256",
        "ferryman-source-etag",
        "x-oss-tag",
        "ferryman-meta-cut",
    }
    assert minimal(meta) == meta or "ferryman-meta-cut" in dict(minimal(meta).user_meta)


@given(st.text(alphabet=st.characters(min_codepoint=1, max_codepoint=300), max_size=40))
def test_s07_the_tag_escapes_every_byte_of_a_url_that_is_not_unreserved(text):
    plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    expected = "".join(chr(byte) if chr(byte) in plain else f"%{byte:02x}" for byte in text.encode())
    assert tag_value(text, "encoded") == f"MIRROR {expected}"


def test_a_name_that_was_met_where_nothing_is_kept_of_it_is_looked_at_again_where_something_is(monkeypatch):
    monkeypatch.setattr(metadata, "_DULL", set())
    monkeypatch.setattr(metadata, "_MOST_DULL", 2)
    headers = [("X-Amz-Meta-A", "1"), *((f"X-Strange-{n}", "v") for n in range(5)), ("ETAG", '"e"')]
    for wanted in (False, True, False, True):
        found = dict(build(headers, user_meta=wanted).user_meta)
        assert found.get("a") == ("1" if wanted else None)
        assert found["ferryman-source-etag"] == '"e"'
    assert len(metadata._DULL) == 2
