"""What stores answer: listings, headers of objects, errors; and what Ferryman itself wrote, damaged."""

# ruff: noqa: E501, ISC004 -- inputs and words of a format read best unbroken

from __future__ import annotations

import orjson
from multidict import CIMultiDict, CIMultiDictProxy

from fuzz.target import Target, headers_of
from scheduler.front.http import object_headers
from scheduler.front.s3.headers import for_client
from workers.errors import StoreError, WireError
from workers.plan import Batch, FetchItem, FetchPlan, Origin, OriginGroup, decode_batch, encode_batch
from workers.store.listing import read_page
from workers.store.model import StoreAnswer
from workers.store.wire.answers import error_code, failure, object_info


def _answer(data: bytes, status: int) -> StoreAnswer:
    return StoreAnswer(status=status, headers=CIMultiDictProxy(CIMultiDict({"Retry-After": "1"})), body=data)


def _listing(data: bytes) -> None:
    page = read_page(_answer(data, 200), what="LIST site/")
    for entry in page.objects:
        assert entry.size >= 0
        entry.key.encode()
        assert isinstance(entry.etag, str)


def _failure(data: bytes) -> None:
    for status in (301, 404, 409, 412, 503):
        assert isinstance(failure(_answer(data, status), what="PUT site/a"), StoreError)
    error_code(data)


def _object(data: bytes) -> None:
    pairs = headers_of(data)
    info = object_info("a", pairs)
    assert info.size >= 0
    for headers in (object_headers.from_store(info), for_client(pairs, show_own=False)):
        object_headers.store_validators(headers)
        for name, value in headers:
            assert not {0, 10, 13} & {*name, *value}


def _batch(data: bytes) -> None:
    decode_batch(orjson.loads(data))


_ENTRY = (
    b"<Contents><Key>a%20b</Key><LastModified>2026-11-21T03:56:35.000Z</LastModified><ETag>&quot;900150983cd24fb0d6963f7d28e17f72"
    b"&quot;</ETag><Size>3</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
_LIST = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>site</Name>'
    b"<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
)
_WIRE = encode_batch(
    Batch(
        plan=FetchPlan(bucket="site", rule="r", groups=(OriginGroup(primary=Origin(host="o.example")),)),
        items=(FetchItem(key="a", path="a"),),
    )
)

TARGETS = (
    Target(
        name="listings",
        read=_listing,
        seeds=(
            _LIST + _ENTRY * 2 + b"</ListBucketResult>",
            _LIST.replace(b"url", b"") + _ENTRY + b"</ListBucketResult>",
            b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a&#x1;</Key><ETag>x</ETag><Size>1</Size>"
            b"<LastModified>x</LastModified></Contents></ListBucketResult>",
        ),
        words=(
            b"<Contents>",
            b"<Key>",
            b"<Size>",
            b"</Size>",
            b"<ETag>",
            b"%FF",
            b"&#x0;",
            b"&#55296;",
            b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
            b"&b;",
            b"<!--",
            b"<![CDATA[",
            b"<NextMarker>",
            b"<EncodingType>url</EncodingType>",
            b"encoding='utf-16'",
            b"<?a?>",
            b"1 ",
            b"\xc2\xb2",
        ),
        refuses=(StoreError,),
    ),
    Target(
        name="store-errors",
        read=_failure,
        seeds=(
            b"<Error><Code>SlowDown</Code><Message>later</Message></Error>",
            b"<html>",
            b"<?xml version='1.0'?><Error/>",
        ),
        words=(b"<Error>", b"<Code>", b"<Message>", b"<!DOCTYPE a>", b"<!--", b"<?a?>"),
        max_bytes=1024,
    ),
    Target(
        name="store-objects",
        read=_object,
        seeds=(
            b'Content-Length: 3\nETag: "abc"\nLast-Modified: Sat, 21 Nov 2026 03:56:35 GMT\nContent-Range: bytes 0-2/10\nContent-Type: a/b',
            b"Content-Length: 0\nx-amz-meta-ferryman: 1\nx-amz-meta-ferryman-v: 1\nx-amz-meta-a: =?utf-8?q?=C3=A9?=\nContent-Encoding: aws-chunked",
        ),
        words=(
            b"Content-Length: ",
            b"x-amz-meta-",
            b"=?utf-8?b?",
            b"Last-Modified: ",
            b"Content-Range: bytes */",
            b"Content-Encoding: ",
        ),
    ),
    Target(
        name="queue-messages",
        read=_batch,
        seeds=(orjson.dumps(_WIRE),),
        words=(b'"v":', b'"plan":', b'"items":', b"null", b"[]", b"{}", b'"hosts":'),
        refuses=(WireError, orjson.JSONDecodeError),
    ),
)
