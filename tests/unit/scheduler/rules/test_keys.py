"""Keys, paths and queries: sections 3.1 to 3.3."""

from __future__ import annotations

import pytest

from scheduler.rules.keys import (
    KeyRefused,
    client_key,
    client_path,
    encode_path,
    forwarded_query,
    has_dot_segment,
    is_reserved,
)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"/", "InvalidURI"),
        (b"", "InvalidURI"),
        (b"///", "InvalidURI"),
        (b"/%2F", "InvalidURI"),
        (b"/a%00b", "InvalidURI"),
        (b"/%ff", "InvalidURI"),
        (b"/\xff", "InvalidURI"),
        (b"/" + b"a" * 1025, "KeyTooLongError"),
        (b"/" + b"%E4%B8%AD" * 342, "KeyTooLongError"),
    ],
    ids=[
        "empty",
        "nothing",
        "slashes",
        "encoded-slash",
        "NUL",
        "not-utf8",
        "raw-not-utf8",
        "L8-ascii",
        "L8-cjk",
    ],
)
def test_a_path_that_names_no_object_is_refused(raw: bytes, code: str) -> None:
    with pytest.raises(KeyRefused) as caught:
        client_key(raw)
    assert caught.value.code == code


def test_a_key_of_1024_bytes_is_taken() -> None:
    """L8."""
    assert len(client_key(b"/" + b"a" * 1024)) == 1024


@pytest.mark.parametrize(
    ("raw", "key", "slashes"),
    [
        (b"/bucket/a/b", "a/b", 0),
        (b"/bucket//a", "a", 1),
        (b"/bucket/%2Fa", "a", 1),
        (b"/bucket/a%2Fb", "a/b", 0),
    ],
)
def test_in_path_style_the_first_segment_is_the_bucket(raw: bytes, key: str, slashes: int) -> None:
    found = client_path(raw, strip_bucket=True)
    assert (found.key, found.leading_slashes) == (key, slashes)


@pytest.mark.parametrize(
    "key", ["..", ".", "a/..", "../a", "a/../b", "a/./b", "./a", "a\\..\\b", "..\\a", "a/..\\b"]
)
def test_a_dot_segment_is_seen(key: str) -> None:
    assert has_dot_segment(key)


@pytest.mark.parametrize("key", ["...", "a..b", ".a", "a.", "..a/b", "a/...", ".well-known/x", "%2e%2e/x"])
def test_dots_within_a_segment_are_none(key: str) -> None:
    assert not has_dot_segment(key)


@pytest.mark.parametrize(
    ("query", "forwarded"),
    [
        ("", ""),
        ("a=b", "a=b"),
        ("a=b&&c", "a=b&&c"),
        ("x-oss-process=image&w=1", "w=1"),
        ("X-AMZ-Date=1", ""),
        ("x%2Damz-date=1&a=1", "a=1"),
        ("q-ak=1&query=2", "query=2"),
        ("security-token=1&x-cos-security-token=2&t=3", "t=3"),
        ("response-content-type=a&versionId=3&partNumber=1&v=%E4", "v=%E4"),
        ("Expires=1&Signature=2", "Expires=1&Signature=2"),
        ("OSSAccessKeyId=k&Expires=1&Signature=2&v=1", "v=1"),
        ("AWSAccessKeyId=k&Expires=1&Signature=2&v=1", "v=1"),
    ],
)
def test_only_signatures_and_controls_are_cut_from_the_query(query: str, forwarded: str) -> None:
    """Section 3.3; the order and the spelling of the rest are kept."""
    assert forwarded_query(query) == forwarded


def test_encoding_keeps_what_the_document_lists_and_nothing_else() -> None:
    """Section 3.2."""
    assert encode_path("AZaz09-._~/") == "AZaz09-._~/"
    assert encode_path("\x01 !\"#$%&'()*+,:;<=>?@[\\]^`{|}") == (
        "%01%20%21%22%23%24%25%26%27%28%29%2A%2B%2C%3A%3B%3C%3D%3E%3F%40%5B%5C%5D%5E%60%7B%7C%7D"
    )


@pytest.mark.parametrize(
    ("key", "reserved"),
    [
        (".ferryman/report.json", True),
        (".ferryman", True),
        (".ferryman/", True),
        (".ferryman//x", True),
        ("\\.ferryman\\x", True),
        ("/.ferryman/x", True),
        ("a/../.ferryman/x", True),
        ("./.ferryman/x", True),
        ("../../.ferryman/x", True),
        (".ferrymanx/report.json", False),
        ("a/.ferryman/x", False),
        (".well-known/x", False),
        ("a", False),
    ],
)
def test_ferrymans_own_keys_are_known_however_they_are_spelled(key, reserved):
    assert is_reserved(key) is reserved
