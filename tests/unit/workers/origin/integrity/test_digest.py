"""Digests that an origin offers, and checking bytes against them."""

import base64
import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import DigestMismatch, ListingMismatch
from workers.origin.integrity import digest
from workers.origin.integrity.digest import Offered, Verifier, from_listing, offered, start

BODY = b"123456789" * 1000
MD5 = hashlib.md5(BODY).digest()
SHA256 = hashlib.sha256(BODY).digest()


def b64(raw):
    return base64.b64encode(raw).decode()


def crc(name):
    running = start(name)
    running.update(BODY)
    return bytes.fromhex(running.hexdigest())


RIGHT = [
    (("Content-MD5", b64(MD5)), "md5"),
    (("content-md5", MD5.hex().upper()), "md5"),
    (("Digest", f"SHA-256={b64(SHA256)}"), "sha256"),
    (("Digest", f"sha-256={b64(SHA256)},md5={b64(MD5)},unixsum=30637"), "sha256 md5"),
    (("Digest", f"SHA={b64(hashlib.sha1(BODY).digest())}"), "sha1"),
    (("Digest", f"SHA-512={b64(hashlib.sha512(BODY).digest())}"), "sha512"),
    (("Repr-Digest", f"sha-256=:{b64(SHA256)}:"), "sha256"),
    (("Content-Digest", f"sha-512=:{b64(hashlib.sha512(BODY).digest())}:;q=1"), "sha512"),
    (("x-goog-hash", f"crc32c={b64(crc('crc32c'))}"), "crc32c"),
    (("x-goog-hash", f"crc32c={b64(crc('crc32c'))}, md5={b64(MD5)}"), "crc32c md5"),
    (("x-amz-checksum-sha256", b64(SHA256)), "sha256"),
    (("x-amz-checksum-sha1", b64(hashlib.sha1(BODY).digest())), "sha1"),
    (("x-amz-checksum-crc32", b64(zlib.crc32(BODY).to_bytes(4, "big"))), "crc32"),
    (("x-amz-checksum-crc32c", b64(crc("crc32c"))), "crc32c"),
    (("x-amz-checksum-crc64nvme", b64(crc("crc64nvme"))), "crc64nvme"),
    (("x-oss-hash-crc64ecma", str(int.from_bytes(crc("crc64ecma"), "big"))), "crc64ecma"),
    (("x-cos-hash-crc64ecma", str(int.from_bytes(crc("crc64ecma"), "big"))), "crc64ecma"),
]


@pytest.mark.parametrize(("header", "algorithms"), RIGHT, ids=lambda value: str(value)[:60])
def test_every_kind_of_digest_is_read_and_agrees_with_the_right_bytes(header, algorithms):
    found = offered((("Content-Type", "text/plain"), header))
    assert [one.algorithm for one in found] == algorithms.split()
    verifier = Verifier(found, origin="o")
    for place in range(0, len(BODY), 1000):
        verifier.update(BODY[place : place + 1000])
    verifier.finish()


@pytest.mark.parametrize(("header", "algorithms"), RIGHT, ids=lambda value: str(value)[:60])
def test_every_kind_of_digest_refuses_one_wrong_byte(header, algorithms):
    verifier = Verifier(offered((header,)), origin="o")
    verifier.update(b"?" + BODY[1:])
    with pytest.raises(DigestMismatch) as caught:
        verifier.finish()
    assert caught.value.algorithm in algorithms.split()
    assert caught.value.expected != caught.value.actual


@pytest.mark.parametrize(
    ("what", "headers"),
    [
        ("nothing", (("ETag", '"abc"'),)),
        ("not base64", (("Content-MD5", "?"),)),
        ("wrong size", (("Content-MD5", b64(SHA256)),)),
        ("unknown algorithm", (("Digest", "blake3=AAAA"),)),
        ("structured field without colons", (("Repr-Digest", f"sha-256={b64(SHA256)}"),)),
        ("composite checksum", (("x-amz-checksum-sha256", b64(SHA256) + "-4"),)),
        (
            "composite by type",
            (("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-checksum-type", "COMPOSITE")),
        ),
        ("crc64 beyond 64 bits", (("x-oss-hash-crc64ecma", str(1 << 64)),)),
        (
            "decompressed by the store on the way",
            (("x-goog-hash", f"md5={b64(MD5)}"), ("x-goog-stored-content-encoding", "gzip")),
        ),
        ("etag that nobody trusts", (("ETag", f'"{MD5.hex()}"'),)),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_speaks_of_other_bytes_or_makes_no_sense_offers_nothing(what, headers):
    assert offered(headers) == ()


def test_a_stored_encoding_that_is_sent_as_it_is_keeps_its_hash():
    headers = (
        ("x-goog-hash", f"md5={b64(MD5)}"),
        ("x-goog-stored-content-encoding", "gzip"),
        ("Content-Encoding", "gzip"),
    )
    assert len(offered(headers)) == 1


@pytest.mark.parametrize(
    ("etag", "extra", "counts"),
    [
        (f'"{MD5.hex()}"', (), True),
        (f'"{MD5.hex().upper()}"', (), True),
        (f'"{MD5.hex()}-3"', (), False),
        (f'W/"{MD5.hex()}"', (), False),
        (f'"{MD5.hex()}"', (("x-amz-server-side-encryption", "AES256"),), True),
        (f'"{MD5.hex()}"', (("x-amz-server-side-encryption", "aws:kms"),), False),
    ],
)
def test_an_md5_shaped_etag_counts_where_the_rule_trusts_it(etag, extra, counts):
    """F54."""
    assert bool(offered((("ETag", etag), *extra), trust_etag=True)) is counts


def test_a_listing_that_disagrees_is_no_fault_of_the_host():
    verifier = Verifier(from_listing(f"sha256:{'0' * 64}"), origin="o")
    verifier.update(BODY)
    with pytest.raises(ListingMismatch) as caught:
        verifier.finish()
    assert not caught.value.health_failure


def test_the_origins_own_word_weighs_more_than_the_listings():
    expected = (*from_listing(f"sha256:{'0' * 64}"), Offered("content-md5", "md5", "0" * 32))
    verifier = Verifier(expected, origin="o")
    verifier.update(BODY)
    with pytest.raises(DigestMismatch) as caught:
        verifier.finish()
    assert not isinstance(caught.value, ListingMismatch)


@pytest.mark.parametrize("text", [None, "", "md5", "md5:zz", "whirlpool:00", "sha256:abcd"])
def test_a_listing_without_a_usable_digest_promises_nothing(text):
    assert from_listing(text) == ()


def crc64_by_bits(data):
    """CRC-64/XZ after its definition: polynomial 42F0E1EBA9EA3693 reflected, all ones before and after."""
    value = (1 << 64) - 1
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0xC96C5795D7870F42 if value & 1 else 0)
    return value ^ ((1 << 64) - 1)


def test_crc64ecma_has_the_published_check_value():
    running = start("crc64ecma")
    running.update(b"123456789")
    assert running.hexdigest() == "995dc9bbdf1939fa"


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_crc64_of_pieces_is_crc64_of_the_whole(one, other):
    running = start("crc64ecma")
    running.update(one)
    running.update(other)
    assert int(running.hexdigest(), 16) == crc64_by_bits(one + other)


def test_names_that_offer_nothing_are_remembered_up_to_a_bound_and_offers_are_still_seen(monkeypatch):
    monkeypatch.setattr(digest, "_DULL", set())
    monkeypatch.setattr(digest, "_MOST_DULL", 2)
    md5 = hashlib.md5(b"x").hexdigest()
    headers = [*((f"X-Strange-{n}", "v") for n in range(5)), ("ETag", f'"{md5}"')]
    for _ in range(2):
        assert offered(headers) == ()
        assert offered(headers, trust_etag=True) == (Offered("etag", "md5", md5),)
    assert {"X-Strange-0", "X-Strange-1"} == digest._DULL
