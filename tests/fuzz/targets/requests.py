"""What clients send ahead of a body: ranges, conditions, dates, addresses, queries, forwarded headers."""

# ruff: noqa: E501 -- inputs and words of a format read best unbroken

from __future__ import annotations

from urllib.parse import parse_qsl

from fuzz.target import Target, headers_of, latin_headers
from scheduler.front.http import conditional, object_headers, range_header
from scheduler.front.http.access import TrustedProxies, client_facts
from scheduler.front.http.bucket_address import BucketLookup
from scheduler.front.s3.call import Refused
from scheduler.front.s3.headers import copy_source, for_store, spelled_source
from scheduler.front.s3.listing.request import list_request
from scheduler.front.s3.operation import carried, operation, parameters
from scheduler.front.s3.payload import BodyRefused
from scheduler.rules.keys import (
    KeyRefused,
    client_path,
    encode_path,
    forwarded_query,
    has_dot_segment,
    is_reserved,
)
from workers.http.dates import http_seconds
from workers.plan import unlistable

_LOOKUP = BucketLookup(domains=["s3.example"], hosts={"img.example": "site"})
_TRUSTED = TrustedProxies(["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"])


def _range(data: bytes) -> None:
    text = data.decode("latin-1")
    specs = range_header.parse_range(text)
    for size in (0, 1, 10, 1 << 40):
        for part in range_header.resolve_all(specs or (), size) or ():
            assert 0 <= part.start < part.stop <= size
    one = range_header.single(specs)
    if one is not None:
        assert range_header.parse_range(range_header.header_value(one)) == (one,)
        range_header.is_answer(one, text)
    found = range_header.parse_content_range(text)
    if found is not None and found[0] is not None:
        assert found[0].length > 0
        assert found[1] is None or found[0].stop <= found[1]


def _conditions(data: bytes) -> None:
    headers = dict(latin_headers(data))
    for etag in (None, '"abc"', 'W/"abc"'):
        validators = conditional.Validators(etag=etag, last_modified=1795233395.0)
        conditional.evaluate(headers, validators)
        conditional.if_range_holds(headers.get("if-range", ""), validators)


def _date(data: bytes) -> None:
    for text in (data.decode("latin-1"), data.decode("utf-8", "surrogateescape")):
        seconds = http_seconds(text)
        assert seconds is None or abs(seconds) < 1e12


def _path(data: bytes) -> None:
    head, _, rest = data.partition(b"\n")
    address = _LOOKUP.find(head.decode("latin-1"), rest)
    assert address.resource.encode()
    key = client_path(address.object_path).key
    assert "\0" not in key
    assert len(key.encode()) <= 1024
    unlistable(key)
    is_reserved(key)
    has_dot_segment(key)
    assert client_path(b"/" + encode_path(key).encode()).key == key


def _query(data: bytes) -> None:
    text = data.decode("latin-1")
    assert len(forwarded_query(text)) <= len(text)
    pairs = [(name, value) for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=1000)]
    for name, value in object_headers.with_overrides([(b"content-type", b"a/b")], pairs) or ():
        assert not {0, 10, 13} & {*name, *value}
    assert "x-amz-signature" not in carried(data)
    parameters(data)
    for method in ("GET", "PUT", "POST", "DELETE", "BREW"):
        for of in ("service", "bucket", "object"):
            operation(method, data, of=of)


def _list_query(data: bytes) -> None:
    given = dict(parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1000))
    asked = list_request("site", given, secret="secret")
    assert 0 <= asked.most <= 1000
    assert asked.place >= asked.scope.prefix or not asked.after


def _client(data: bytes) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in latin_headers(data)]
    facts = client_facts({"client": ("127.0.0.1", 1), "headers": headers, "scheme": "http"}, _TRUSTED)
    assert facts.scheme in {"http", "https"}
    assert facts.host_name == facts.host_name.lower()


def _for_store(data: bytes) -> None:
    for value in for_store(latin_headers(data)).values():
        value.encode()
    for _, value in headers_of(data):
        source = copy_source(value.encode("utf-8", "surrogateescape").decode("latin-1"))
        if source is not None:
            assert copy_source(spelled_source(source[0], source[1], "")) == (source[0], source[1], "")


TARGETS = (
    Target(
        name="range",
        read=_range,
        seeds=(
            b"bytes=0-4",
            b"bytes=0-0,-1",
            b"bytes=5-,0-2",
            b"bytes 0-4/10",
            b"bytes */10",
            b"bytes 0-4/*",
        ),
        words=(b"bytes=", b"bytes ", b"-", b"*/", b"18446744073709551615"),
        max_bytes=512,
    ),
    Target(
        name="conditions",
        read=_conditions,
        seeds=(
            b'if-match: "abc", W/"d"\nif-none-match: *\nif-range: "abc"',
            b'if-modified-since: Sat, 21 Nov 2026 03:56:35 GMT\nif-unmodified-since: x\nif-range: W/"abc"',
        ),
        words=(b"if-match:", b"if-none-match:", b"if-range:", b"if-unmodified-since:", b'W/"', b"GMT"),
        max_bytes=1024,
    ),
    Target(
        name="dates",
        read=_date,
        seeds=(
            b"Sat, 21 Nov 2026 03:56:35 GMT",
            b"Saturday, 21-Nov-26 03:56:35 GMT",
            b"Sat Nov 21 03:56:35 2026",
            b"21 Nov 2026 03:56 +0200",
        ),
        words=(b"GMT", b"-0000", b"+9999", b"0000", b"9999", b"Dec", b"EST", b"(", b"\\"),
        max_bytes=256,
    ),
    Target(
        name="paths",
        read=_path,
        seeds=(
            b"img.example\n/a/b%20c.jpg",
            b"site.s3.example:80\n//a//b",
            b"[::1]:8080\n/site/a/../b/%2e%2e/c%00",
            b"site.cos.ap-x.example\n/%C3%A9/%2F/+",
        ),
        words=(b"%2e", b"%2E%2E", b"%2F", b"%25", b"%252e", b"/../", b"/./", b".ferryman/", b".s3.example"),
        refuses=(KeyRefused,),
        max_bytes=2048,
    ),
    Target(
        name="queries",
        read=_query,
        seeds=(
            b"response-content-disposition=attachment%3B%20filename%3D%22a.txt%22&response-content-type=text/plain",
            b"uploadId=1&partNumber=2",
            b"tagging",
            b"X-Amz-Signature=a&x-amz-acl=private&versionId=3",
            b"AWSAccessKeyId=a&Signature=b&Expires=1",
        ),
        words=(b"response-expires=", b"%0d%0a", b"x-amz-", b"uploads", b"acl", b"delete", b"select-type=2"),
        refuses=(ValueError,),
        max_bytes=2048,
    ),
    Target(
        name="list-queries",
        read=_list_query,
        seeds=(
            b"list-type=2&prefix=a/&delimiter=/&max-keys=10&start-after=a/b",
            b"marker=a&encoding-type=url&prefix=%C3%A9",
            b"list-type=2&continuation-token=AAAA&fetch-owner=true",
        ),
        words=(
            b"list-type=2&",
            b"continuation-token=",
            b"max-keys=",
            b"delimiter=",
            b"%F4%8F%BF%BF",
            b"%ED%9F%BF",
        ),
        refuses=(Refused, ValueError),
        max_bytes=2048,
    ),
    Target(
        name="forwarded",
        read=_client,
        seeds=(
            b"host: a.example:80\nx-forwarded-for: 1.2.3.4, 10.0.0.1\nx-forwarded-proto: https",
            b"x-forwarded-for: [2001:db8::1]:80, unknown\nx-forwarded-host: b.example, c.example\nhost: [::1]",
        ),
        words=(
            b"x-forwarded-for:",
            b"x-forwarded-proto:",
            b"x-forwarded-host:",
            b"::ffff:10.0.0.1",
            b"fe80::1%25eth0",
        ),
        max_bytes=1024,
    ),
    Target(
        name="s3-headers",
        read=_for_store,
        seeds=(b"x-amz-copy-source: /site/a%20b?versionId=3\nx-amz-meta-a: \xc3\xa9\ncontent-type: a/b",),
        words=(b"x-amz-copy-source:", b"x-amz-meta-", b"versionId=", b"%2F", b"%FF"),
        refuses=(BodyRefused,),
        max_bytes=1024,
    ),
)
