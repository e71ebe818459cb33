"""What origins answer: redirects, digests, metadata, waiting times, error pages, addresses."""

# ruff: noqa: E501 -- inputs and words of a format read best unbroken

from __future__ import annotations

from datetime import UTC, datetime

from fuzz.target import Target, headers_of
from scheduler.front.http import object_headers
from workers.errors import OriginError, RedirectRefused
from workers.origin.fetch.failover import parse_retry_after
from workers.origin.integrity import digest, soft404
from workers.origin.wire import redirects
from workers.origin.wire.guard import Guard
from workers.plan import FetchPlan, Origin, OriginGroup, RedirectPolicy, StorePolicy
from workers.store import metadata

_NOW = datetime(2026, 11, 21, 3, 56, 35, tzinfo=UTC)
_GUARD = Guard.of(["10.1.0.0/16"], [("0.0.0.0", 8080), ("127.0.0.1", 8081)])


def _redirect(data: bytes) -> None:
    here, _, location = data.partition(b"\n")
    current = "https://o.example/" + "".join(char for char in here.decode("latin-1") if "!" <= char <= "~")
    text = location.decode("utf-8", "surrogateescape")
    for policy in (RedirectPolicy(), RedirectPolicy(decode_location=True, allow_downgrade=True)):
        try:
            url = redirects.follow(current, text, policy, (current,))
        except RedirectRefused:
            continue
        assert url.isascii()
        assert url.isprintable()
        assert " " not in url
        target = redirects.split_url(url)
        assert target.url == url
        assert not set(target.authority) & set("/?#@\\ ")
        redirects.keeps_identity(current, url)


def _digests(data: bytes) -> None:
    pairs = tuple(headers_of(data))
    for trust in (False, True):
        for one in digest.offered(pairs, trust_etag=trust):
            assert one.hex == one.hex.lower()
            verifier = digest.Verifier([one])
            verifier.update(b"abc")
            verifier.finish()
    for _, value in pairs:
        digest.from_listing(value)


def _metadata(data: bytes) -> None:
    pairs = headers_of(data)
    for policy in (StorePolicy(), StorePolicy(user_meta=True, last_modified=True, etag="origin")):
        plan = FetchPlan(
            bucket="site", rule="r", groups=(OriginGroup(primary=Origin(host="o.example")),), store=policy
        )
        meta = metadata.object_meta(
            pairs, plan, key="a", url="http://o.example/a", attempt="x", fetched_at="2026-11-21T03:56:35Z"
        )
        for name, value in (*meta.headers, *meta.user_meta):
            assert f"{name}{value}".isascii(), (name, value)
            assert f"{name}{value}".isprintable(), (name, value)
        for name, value in object_headers.from_origin(pairs, meta, user_meta=policy.user_meta, vary=True):
            assert not {0, 10, 13} & {*name, *value}
        object_headers.origin_validators(pairs)


def _words(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    decoded = metadata.decode_value(text)
    encoded = metadata.encode_value(text)
    assert encoded.isascii()
    assert metadata.decode_value(encoded) == text or text == decoded or "=?" in text or not text.isprintable()
    seconds = parse_retry_after(text, _NOW)
    assert seconds is None or 0 <= seconds < float("inf")


def _soft404(data: bytes) -> None:
    path, _, body = data.partition(b"\n")
    name = path.decode("latin-1")
    pages = [
        soft404.fingerprint(status=200, content_type=kind, body=body, name=name, length=length, landed="")
        for kind, length in (("text/html", None), ("image/png", len(body)))
    ]
    soft404.look_alike(*pages)
    soft404.html_where_no_html_belongs(name, "text/html", body)
    soft404.random_name(name)


def _address(data: bytes) -> None:
    text = data.decode("latin-1")
    refusal = _GUARD.refusal(text, 80, configured=False)
    if refusal is None:
        assert _GUARD.refusal(text, 80, configured=True) is None


TARGETS = (
    Target(
        name="redirects",
        read=_redirect,
        seeds=(
            b"a/b?c\nhttps://p.example:443/d?e#f", b"a\n../x/./y", b"a\n//q.example/z", b"a\n?q=1", b"a\n/%2e%2e/\xc3\xa9 x",
            b"a\nhttp://[::1]:81/", b"a\nHTTPS://P.EXAMPLE/",
        ),
        words=(b"http://", b"https://", b"//", b"@", b"\\", b":65536", b":0", b"[::1", b"%5c", b"#", b"javascript:", b"/..//", b"%0d%0a"),
        max_bytes=1024,
    ),
    Target(
        name="digests",
        read=_digests,
        seeds=(
            b'Content-MD5: kAFQmDzST7DWlj99KOF/cg==\nETag: "900150983cd24fb0d6963f7d28e17f72"',
            b"Repr-Digest: sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:\nDigest: md5=kAFQmDzST7DWlj99KOF/cg==",
            b"x-goog-hash: crc32c=Nks/tw==,md5=kAFQmDzST7DWlj99KOF/cg==\nx-amz-checksum-crc32: NSRBwg==",
            b"x-oss-hash-crc64ecma: 3231342946509354535\nx-cos-hash-crc64ecma: 1",
        ),
        words=(b"sha-256=:", b"md5=", b"crc32c=", b"ETag: W/", b'-2"', b"x-amz-checksum-sha256: ", b"x-goog-stored-content-encoding: gzip"),
        refuses=(OriginError,),
        max_bytes=1024,
    ),
    Target(
        name="metadata",
        read=_metadata,
        seeds=(
            b"Content-Type: text/html\nContent-Encoding: gzip, aws-chunked\nExpires: 0\nETag: abc\nCache-Control: a\nCache-Control: b",
            b"x-amz-meta-a: \xc3\xa9\nx-oss-meta-b: =?utf-8?q?a?=\nx-cos-meta-ferryman-v: 1\nLast-Modified: Sat, 21 Nov 2026 03:56:35 GMT",
            b'Access-Control-Allow-Origin: *\nContent-Disposition: attachment; filename="\xff.txt"',
        ),
        words=(b"x-amz-meta-", b"x-oss-meta-", b"=?utf-8?b?", b"?=", b"Expires: ", b"Content-Type: ", b"ferryman-", b"Content-Encoding: "),
    ),
    Target(
        name="encoded-words",
        read=_words,
        seeds=(b"=?utf-8?q?a=20b?=", b"=?UTF-8?B?w6k=?= =?utf-8?b?YQ==?=", b"plain", b"120", b"Sat, 21 Nov 2026 03:57:35 GMT"),
        words=(b"=?", b"?=", b"?b?", b"?q?", b"=C3", b"=?x-binary?", b"_"),
        max_bytes=512,
    ),
    Target(
        name="error-pages",
        read=_soft404,
        seeds=(b"/a/b.jpg\n<!DOCTYPE html><html><title>404</title>a/b.jpg</html>", b"/x\n\x89PNG"),
        words=(b"<html", b"<!doctype html", b"<body", b".jpg", b"%2F", b"404"),
        max_bytes=1024,
    ),
    Target(
        name="addresses",
        read=_address,
        seeds=(b"127.0.0.1", b"::ffff:169.254.169.254", b"2002:7f00:1::", b"64:ff9b::a00:1", b"fe80::1%eth0", b"93.184.216.34", b"::"),
        words=(b"::", b"ffff:", b"127.0.0.1", b"0x7f", b"%", b"64:ff9b:1:"),
        refuses=(ValueError,),
        max_bytes=64,
    ),
)  # fmt: skip
