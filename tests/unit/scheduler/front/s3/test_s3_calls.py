"""The S3 front's pure parts: operations, permissions, bodies, headers, listings."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.config.settings import AccessKey
from scheduler.front.s3.chunked import ChunkKeys, Unchunker
from scheduler.front.s3.headers import copy_source, for_client, for_store, spelled_source, without_chunks
from scheduler.front.s3.listing.document import may_name_own, only_buckets, without_own
from scheduler.front.s3.multi_delete import deleted_keys, not_deleted
from scheduler.front.s3.operation import carried, operation, parameters
from scheduler.front.s3.payload import BodyRefused, Promises
from scheduler.front.s3.permission import Grants


@pytest.mark.parametrize(
    ("of", "method", "query", "name", "permission"),
    [
        ("service", "GET", b"", "ListBuckets", "list"),
        ("service", "POST", b"", "OtherPostRequest", "manage"),
        ("bucket", "GET", b"list-type=2&prefix=a", "ListObjects", "list"),
        ("bucket", "GET", b"versions", "ListObjectVersions", "list"),
        ("bucket", "GET", b"uploads", "ListMultipartUploads", "list"),
        ("bucket", "GET", b"location", "GetBucketLocation", "list"),
        ("bucket", "GET", b"policy", "OtherGetPolicy", "manage"),
        ("bucket", "HEAD", b"", "HeadBucket", "list"),
        ("bucket", "PUT", b"", "CreateBucket", "manage"),
        ("bucket", "PUT", b"lifecycle", "OtherPutLifecycle", "manage"),
        ("bucket", "DELETE", b"", "DeleteBucket", "manage"),
        ("bucket", "POST", b"delete", "DeleteObjects", "delete"),
        ("object", "GET", b"", "GetObject", "read"),
        ("object", "GET", b"v=2", "GetObject", "read"),
        ("object", "GET", b"versionId=x&partNumber=1&x-id=GetObject", "GetObject", "read"),
        ("object", "GET", b"X-Amz-Algorithm=a&X-Amz-Signature=", "GetObject", "read"),
        ("object", "GET", b"response-content-type=text/x", "GetObject", "read"),
        ("object", "HEAD", b"", "HeadObject", "read"),
        ("object", "GET", b"tagging", "GetObjectTagging", "read"),
        ("object", "GET", b"%74agging", "GetObjectTagging", "read"),
        ("object", "GET", b"attributes", "GetObjectAttributes", "read"),
        ("object", "GET", b"never-heard-of", "OtherGetNever-heard-of", "manage"),
        ("object", "GET", b"uploadId=1", "ListParts", "write"),
        ("object", "PUT", b"", "PutObject", "write"),
        ("object", "PUT", b"acl", "OtherPutAcl", "manage"),
        ("object", "PUT", b"partNumber=1&uploadId=2", "UploadPart", "write"),
        ("object", "POST", b"uploads", "CreateMultipartUpload", "write"),
        ("object", "POST", b"uploadId=2", "CompleteMultipartUpload", "write"),
        ("object", "DELETE", b"", "DeleteObject", "delete"),
        ("object", "DELETE", b"versionId=1", "DeleteObject", "delete"),
        ("object", "DELETE", b"uploadId=1", "AbortMultipartUpload", "write"),
        ("object", "DELETE", b"tagging", "DeleteObjectTagging", "write"),
        ("object", "PATCH", b"", "OtherPatchRequest", "manage"),
    ],
)
def test_method_and_sub_resource_say_what_is_asked_for(of, method, query, name, permission):
    found = operation(method, query, of=of)
    assert (found.name, found.permission) == (name, permission)


def test_a_source_makes_a_copy_of_a_put_and_of_nothing_else():
    assert operation("PUT", b"", of="object", copies=True).name == "CopyObject"
    assert operation("PUT", b"uploadId=1&partNumber=1", of="object", copies=True).name == "UploadPartCopy"
    assert operation("PUT", b"tagging", of="object", copies=True).name == "PutObjectTagging"
    assert operation("GET", b"", of="object", copies=True).name == "GetObject"


def test_a_signature_in_the_query_ends_here_and_headers_that_stand_there_go_on():
    query = b"X-Amz-Signature=1&x-amz-meta-who=m%20e&versionId=a%2Bb&X-Amz-Date=2&tagging"
    assert parameters(query) == [(b"versionId", b"a+b"), (b"tagging", b"")]
    assert carried(query) == {"x-amz-meta-who": "m e"}
    assert parameters(b"AWSAccessKeyId=a&Signature=b&Expires=1&acl") == [(b"acl", b"")]
    assert carried(b"x-amz-meta-a=b%0d%0aevil:%20c") == {}


def test_a_key_may_what_it_says_in_the_buckets_that_it_names():
    keys = [
        AccessKey.model_validate({"id": "r", "secret": "s"}),
        AccessKey.model_validate({"id": "w", "secret": "s", "may": ["write"], "buckets": ["site", "new"]}),
        AccessKey.model_validate({"id": "m", "secret": "s", "may": ["manage"]}),
    ]
    buckets = {"site"}
    grants = Grants(keys, buckets=buckets)
    assert grants.refusal("r", "read", "site") is None
    assert "'write'" in grants.refusal("r", "write", "site").message
    assert grants.refusal("w", "write", "site") is None
    assert "'other'" in grants.refusal("w", "write", "other").message
    assert "'manage'" in grants.refusal("w", "write", "new").message
    assert grants.refusal("m", "manage", "anything") is None
    assert grants.refusal("nobody", "read", "site").code == "AccessDenied"
    assert [grants.sees(key, "site") for key in ("r", "w", "m")] == [True, True, True]
    assert [grants.sees(key, "new") for key in ("r", "w", "m")] == [False, False, True]
    buckets.add("new")  # a bucket that comes while the process runs
    assert grants.refusal("w", "write", "new") is None


# ---------------------------------------------------------------- bodies


def framed(chunks, keys=None, trailers=()):
    out = b""
    for chunk in [*chunks, b""]:
        extension = b""
        if keys is not None:
            digests = (hashlib.sha256(b"").hexdigest(), hashlib.sha256(chunk).hexdigest())
            keys.previous = keys.sign("PAYLOAD", *digests)
            extension = f";chunk-signature={keys.previous}".encode()
        out += f"{len(chunk):x}".encode() + extension + b"\r\n" + chunk + (b"\r\n" if chunk else b"")
    return out + b"".join(f"{n}:{v}\r\n".encode() for n, v in trailers) + b"\r\n"


def keys():
    return ChunkKeys(
        key=b"k", stamp="20261128T030000Z", scope="20261128/r/s3/aws4_request", previous="0" * 64
    )


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.lists(st.integers(1, 50)), st.booleans())
def test_a_chunked_body_is_the_same_however_it_is_cut(chunks, cuts, signed):
    wire = framed(chunks, keys() if signed else None, () if signed else [("x-amz-checksum-crc32", "v")])
    announced = ("x-amz-checksum-crc32",)
    reader = Unchunker(keys() if signed else None, trailer=not signed, announced=announced)
    got = b""
    for size in cuts:
        got += b"".join(reader.feed(wire[:size]))
        wire = wire[size:]
    got += b"".join(reader.feed(wire))
    reader.finish()
    assert got == b"".join(chunks)
    assert reader.trailers == ({} if signed else {"x-amz-checksum-crc32": "v"})


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"zz\r\n", "InvalidChunkSizeError"),
        (b"-1\r\n", "InvalidChunkSizeError"),
        (b"3\r\nabcd\r\n", "InvalidChunkSizeError"),
        (b"1" * 5000, "InvalidChunkSizeError"),
        (b"0\r\nno colon\r\n\r\n", "MalformedTrailerError"),
        (b"0\r\n" + b"a:b\r\n" * 20, "MalformedTrailerError"),
        (b"0\r\na:b\r\na:b\r\n\r\n", "MalformedTrailerError"),
        (b"0\r\nx-amz-checksum-sha1:b\r\n\r\n", "MalformedTrailerError"),  # nobody announced it
        (b"0\r\na:b\rx-evil: c\r\n\r\n", "MalformedTrailerError"),
        (b"0\r\na:b\0\r\n\r\n", "MalformedTrailerError"),
        (b"0\r\na:\xc3\xa9\r\n\r\n", "MalformedTrailerError"),
        (b"0\r\n\r\nmore", "IncompleteBody"),
        (b"3\r\nabc\r\n", "IncompleteBody"),
        (b"", "IncompleteBody"),
    ],
)
def test_a_broken_framing_is_refused_by_name(wire, code):
    reader = Unchunker(None, trailer=True, announced=("a",))
    with pytest.raises(BodyRefused) as refused:
        list(reader.feed(wire))
        reader.finish()
    assert refused.value.error.code == code


def test_a_chunk_without_its_signature_is_refused():
    with pytest.raises(BodyRefused, match="signature of a chunk"):
        list(Unchunker(keys(), trailer=False).feed(framed([b"abc"])))


@pytest.mark.parametrize(
    "order",
    [(1, 0, 2, 3), (0, 0, 1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 1, 3), (3,), (0, 1, 2)],
    ids=[
        "reordered",
        "replayed",
        "one left out",
        "cut short",
        "one for another",
        "emptied",
        "without its end",
    ],
)
def test_signed_chunks_are_taken_in_their_own_order_only_and_all_of_them(order):
    """Each signature covers the one before: of a recorded upload nobody makes another body."""
    signing, pieces = keys(), []
    for chunk in (b"one", b"two", b"six", b""):
        digests = (hashlib.sha256(b"").hexdigest(), hashlib.sha256(chunk).hexdigest())
        signing.previous = signing.sign("PAYLOAD", *digests)
        pieces.append(f"{len(chunk):x};chunk-signature={signing.previous}\r\n".encode() + chunk + b"\r\n")
    whole = Unchunker(keys(), trailer=False)
    assert b"".join(whole.feed(b"".join(pieces))) == b"onetwosix"
    whole.finish()
    reader = Unchunker(keys(), trailer=False)
    with pytest.raises(BodyRefused, match=r"signature of a chunk|before its last chunk"):
        list(reader.feed(b"".join(pieces[at] for at in order)))
        reader.finish()


def test_a_chunk_signed_body_with_one_byte_changed_is_refused_or_the_same():
    """Wherever the byte is: in a size, a signature, a line end, the data, a trailer."""
    signing, body = keys(), [b"one", b"twenty-two"]
    trailers = [("x-amz-checksum-crc32", "AAAAAA==")]
    wire = framed(body, signing).removesuffix(b"\r\n")
    digest = hashlib.sha256(b"".join(f"{n}:{v}\n".encode() for n, v in trailers)).hexdigest()
    wire += b"".join(f"{n}:{v}\r\n".encode() for n, v in trailers)
    wire += f"x-amz-trailer-signature:{signing.sign('TRAILER', digest)}\r\n\r\n".encode()
    taken = 0
    for at in range(len(wire)):
        for byte in {wire[at] ^ 0x20, wire[at] ^ 1, 0, 10, 13, 48} - {wire[at]}:
            changed = wire[:at] + bytes([byte]) + wire[at + 1 :]
            reader = Unchunker(keys(), trailer=True, announced=("x-amz-checksum-crc32",))
            try:
                got = b"".join(reader.feed(changed))
                reader.finish()
            except BodyRefused:
                continue
            assert (got, reader.trailers["x-amz-checksum-crc32"]) == (b"".join(body), "AAAAAA=="), (at, byte)
            taken += 1
    assert taken < len(wire) / 4  # another case of a name or a size, a bare LF


def test_signed_chunks_of_another_request_are_refused():
    signing = keys()
    wire = framed([b"abc"], signing)
    other = ChunkKeys(key=b"k", stamp="20261128T030001Z", scope=signing.scope, previous="0" * 64)
    with pytest.raises(BodyRefused, match="signature of a chunk"):
        list(Unchunker(other, trailer=False).feed(wire))


def promised(headers, body, *, payload="UNSIGNED-PAYLOAD", length=None):
    promises = Promises(headers, payload=payload, length=len(body) if length is None else length)
    promises.feed(body)
    promises.finish()


@pytest.mark.parametrize("algorithm", ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"])
def test_every_checksum_header_is_compared(algorithm):
    from workers.origin.integrity import digest

    name, running = f"x-amz-checksum-{algorithm}", digest.start(algorithm)
    running.update(b"body")
    value = base64.b64encode(bytes.fromhex(running.hexdigest())).decode()
    promised({name: value}, b"body")
    with pytest.raises(BodyRefused, match=name):
        promised({name: value}, b"bodz")
    with pytest.raises(BodyRefused, match="is not the Base64 of"):
        promised({name: "AA=="}, b"body")


def test_a_body_of_another_length_is_incomplete():
    for length in (3, 5):
        with pytest.raises(BodyRefused) as refused:
            promised({}, b"body", length=length)
        assert refused.value.error.code == "IncompleteBody"


# ---------------------------------------------------------------- headers and listings


def test_what_is_the_clients_with_us_does_not_reach_the_store():
    sent = [
        ("host", "h"),
        ("authorization", "AWS4 …"),
        ("x-amz-date", "d"),
        ("x-amz-security-token", "t"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-amz-meta-n", "é".encode().decode("latin-1")),
        ("content-type", "text/x"),
    ]
    assert for_store(sent) == {"x-amz-meta-n": "é", "content-type": "text/x"}
    with pytest.raises(BodyRefused, match="x-amz-meta-n is not UTF-8"):
        for_store([("x-amz-meta-n", "\xe9")])


def test_a_body_that_is_chunked_no_more_does_not_say_so():
    headers = {"content-encoding": "gzip, aws-chunked", "x-amz-sdk-checksum-algorithm": "CRC32"}
    without_chunks(headers, {})
    assert headers == {"content-encoding": "gzip"}
    headers = {"content-encoding": "aws-chunked", "x-amz-sdk-checksum-algorithm": "CRC32"}
    without_chunks(headers, {"x-amz-checksum-crc32": "v"})
    assert headers == {"x-amz-checksum-crc32": "v", "x-amz-sdk-checksum-algorithm": "CRC32"}


def test_the_stores_request_id_is_kept_beside_and_nothing_of_its_connection():
    back = for_client(
        [("X-Amz-Request-Id", "R"), ("Connection", "close"), ("ETag", '"e"'), ("Content-Length", "3")],
        show_own=False,
    )
    assert back == [(b"etag", b'"e"'), (b"x-ferryman-store-request-id", b"R")]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("/b/a%20b/c", ("b", "a b/c", "")),
        ("b/k?versionId=v", ("b", "k", "v")),
        ("b", None),
        ("/b/", None),
        ("b/k?acl", None),
        ("b/%ff", None),
    ],
)
def test_the_source_of_a_copy_is_read_and_spelled_in_one_way(value, found):
    assert copy_source(value) == found
    if found:
        assert copy_source(spelled_source(*found)) == found


def test_a_listing_loses_what_is_ours_and_nothing_else():
    space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    document = (
        f"<ListBucketResult {space}><Name>b</Name><KeyCount>3</KeyCount><EncodingType>url</EncodingType>"
        "<Contents><Key>.ferryman%2Fx</Key></Contents><Contents><Key>a.ferryman</Key></Contents>"
        "<CommonPrefixes><Prefix>.ferryman/</Prefix></CommonPrefixes></ListBucketResult>"
    ).encode()
    cleaned = without_own(document)
    assert b".ferryman%2Fx" not in cleaned
    assert b"<Prefix>" not in cleaned
    assert b"<Key>a.ferryman</Key>" in cleaned
    assert b"<KeyCount>1</KeyCount>" in cleaned
    plain = document.replace(b".ferryman", b".other")
    assert without_own(plain) is plain


@pytest.mark.parametrize(
    ("prefix", "may"), [("", True), (".", True), (".ferryman/x", True), ("a", False), (".fx", False)]
)
def test_only_listings_that_could_name_ours_are_looked_through(prefix, may):
    assert may_name_own(prefix) is may


def test_buckets_keys_and_errors_are_read_from_documents():
    listed = b"<R><Buckets><Bucket><Name>a</Name></Bucket><Bucket><Name>b</Name></Bucket></Buckets></R>"
    assert b"<Name>b</Name>" not in only_buckets(listed, lambda name: name == "a")
    deletes = b'<Delete xmlns="x"><Object><Key>a</Key></Object><Object><Key>b&amp;c</Key></Object></Delete>'
    assert deleted_keys(deletes) == ["a", "b&c"]
    assert deleted_keys(b"<Other/>") is None
    assert deleted_keys(b"<Delete>") is None
    answer = (
        b"<R><Deleted><Key>a</Key></Deleted><Error><Key>b</Key><Code>AccessDenied</Code></Error>"
        b"<Error><Key>c</Key><Code>InternalError</Code></Error></R>"
    )
    assert not_deleted(200, ["a", "b", "c"], answer) == ({"b"}, {"c"}), "of c nobody knows"
    assert not_deleted(503, ["a", "b"], b"<Error/>") == ((), ["a", "b"])
    assert not_deleted(404, ["a"], b"<Error/>") == (["a"], ()), "there is no such bucket"
    assert not_deleted(404, ["a"], None) == ((), ()), "there is no such key"
    assert not_deleted(403, ["a"], None) == (["a"], ())
    assert not_deleted(204, ["a"], None) == (set(), set())
