"""Bodies of `POST /v1/miss-events`: our own events, notifications and audit logs of stores, shippers' lines."""

# ruff: noqa: E501 -- inputs and words of a format read best unbroken

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import orjson

from fuzz.target import Target
from scheduler.intake.body import BadBody, Splitter, Unpacker, kind_of
from scheduler.intake.records import Context, take, take_line
from scheduler.logs.filters import MissFilter
from scheduler.logs.place import Place
from scheduler.misses.event import MissEvent
from scheduler.misses.refusals import Deletion, Written
from support.logs.lines import WRITERS, Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.intake.body import Row

_FILTER = MissFilter(place=Place(hosts={"img.example": "site"}, path_style=frozenset({"site"})))
_CONTEXTS = (Context(filter=_FILTER), Context(filter=_FILTER, bucket="site"))


def _taken(rows: Sequence[Row]) -> None:
    for row in rows:
        for context in _CONTEXTS:
            for one in take_line(row.raw, context) if row.raw else take(row.document, context):
                if isinstance(one, MissEvent | Deletion | Written):
                    orjson.dumps([one.bucket, one.key])
                    assert one.key
                if isinstance(one, MissEvent):
                    orjson.dumps(
                        [one.id, one.at, one.method, one.status, one.scheme, one.query, one.referer, one.host]
                    )
                    orjson.dumps(one.user_agent)


def _rows(kind: str, encoding: str, pieces: Sequence[bytes]) -> list[Row] | str:
    unpacker, splitter = Unpacker(encoding), Splitter(kind_of(kind))
    found: list[Row] = []
    try:
        for piece in pieces:
            for plain in unpacker.feed(piece):
                assert len(plain) <= 1 << 20
                found += splitter.feed(plain)
        unpacker.end()
        found += splitter.end()
    except BadBody as error:
        return error.reason
    return found


def _body(data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    kind, _, encoding = head.decode("latin-1").partition("\n")
    whole = _rows(kind, encoding, [body])
    if isinstance(whole, list):
        _taken(whole)
    if body and encoding == "":
        # However it is cut on the wire, it is the same rows.
        again = _rows(kind, encoding, [body[place : place + 9] for place in range(0, len(body), 9)])
        assert again == whole


def _document(data: bytes) -> None:
    document = orjson.loads(data)
    for context in _CONTEXTS:
        for one in take(document, context):
            if isinstance(one, MissEvent | Deletion | Written):
                orjson.dumps([one.bucket, one.key])
            if isinstance(one, MissEvent):
                orjson.dumps(
                    [
                        one.id,
                        one.at,
                        one.method,
                        one.status,
                        one.scheme,
                        one.query,
                        one.referer,
                        one.user_agent,
                    ]
                )


def _json(document: object) -> bytes:
    return orjson.dumps(document)


_RECORD = {
    "eventVersion": "2.1", "eventSource": "aws:s3", "eventTime": "2026-11-21T03:56:35.1Z", "eventName": "ObjectRemoved:Delete",
    "s3": {"bucket": {"name": "site"}, "object": {"key": "d%2Fa+b%2Bc.txt", "sequencer": "1", "size": 3}},
}  # fmt: skip
_DOCUMENTS = (
    {"bucket": "site", "key": "a", "id": "1", "at": "2026-11-21T03:56:35Z", "method": "GET", "status": 404, "query": "a=b",
     "scheme": "https", "headers": {"host": "a", "referer": "b", "user-agent": "c"}},
    {"Records": [_RECORD]},
    {"EventName": "s3:ObjectCreated:Put", "Key": "site/a", "Records": [_RECORD | {"eventName": "s3:ObjectCreated:Put"}]},
    {"Type": "Notification", "MessageId": "m", "Message": orjson.dumps({"Records": [_RECORD]}).decode()},
    {"events": [{"eventName": "ObjectRemoved:DeleteObject", "eventSource": "acs:oss", "eventTime": "2026-11-21T03:56:35.000Z",
                 "oss": {"bucket": {"name": "site"}, "object": {"key": "a", "size": 1}}}]},
    {"Records": [{"cos": {"cosBucket": {"name": "site", "appid": "1"}, "cosObject": {"key": "/1/site/a b"}},
                  "event": {"eventName": "cos:ObjectRemove:Delete", "eventTime": 1795233395}}]},
    {"specversion": "1.0", "id": "1", "source": "s", "type": "com.amazonaws.s3", "data": _RECORD},
    {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": "eyJrZXkiOiJhIn0="},
    {"version": "1", "deploymentid": "b", "time": "2026-11-21T03:56:35.1Z", "trigger": "incoming",
     "api": {"name": "GetObject", "bucket": "site", "object": "a", "status": "Not Found", "statusCode": 404},
     "requestPath": "/site/a"},
    {"bucket": "site", "time": 1795233395, "operation": "REST.GET.OBJECT", "key": "/a", "error_code": "NoSuchKey", "status": 404},
    {"bucket": "site", "time": "2026-11-21 03:56:35.123456Z", "operation": "get_obj", "uri": "GET /site/a HTTP/1.1",
     "http_status": "404"},
    {"records": [{"time": "2026-11-21T03:56:35Z", "category": "x", "properties": {"httpMethod": "GET", "requestUri": "https://a/b",
                                                                                  "httpStatusCode": "404"}}]},
    {"message": WRITERS["nginx"](Wanted(target=b"/site/a")).decode()},
    {"event_type": "delete", "key": "/buckets/site/a", "message": {"old_entry": {"name": "a"}, "new_parent_path": ""}},
)  # fmt: skip
_WORDS = (
    b'"Records":[', b'"s3":{', b'"key":', b'"bucket":', b'"eventName":', b'"data_base64":"', b'"Message":"', b'"api":{', b'"message":',
    b'"uri":', b"{}", b"[]", b"null", b"1e400", b"-0.0", b'"\\ud83d\\ude00"', b'{"message":', b'"records":[', b'"at":', b'"status":',
    b'"time":', b'"headers":', b'"oss":{', b'"cos":{', b'"cosObject":{"key":', b'"requestUri":"https://', b'"operation":"REST.',
)  # fmt: skip
_LINES = b"\n".join(map(_json, _DOCUMENTS[:4]))
TARGETS = (
    Target(
        name="event-documents",
        read=_document,
        seeds=tuple(map(_json, _DOCUMENTS)),
        words=_WORDS,
        refuses=(orjson.JSONDecodeError,),
    ),
    Target(
        name="event-bodies",
        read=_body,
        seeds=(
            b"application/json\n\n" + _json(_DOCUMENTS[0]),
            b"application/json\n\n" + _json(list(_DOCUMENTS[:3])),
            b"application/x-ndjson\n\n" + _LINES,
            b"application/json-seq\n\n\x1e" + _json(_DOCUMENTS[0]) + b"\n\x1e{}",
            b"text/plain\n\n" + WRITERS["s3"](Wanted()) + b"\n" + WRITERS["nginx"](Wanted()),
            b"application/json\ngzip\n\n" + gzip.compress(_LINES, mtime=0),
        ),
        words=(*_WORDS, b"application/x-ndjson\n\n", b"application/cloudevents-batch+json\n", b"gzip\n\n", b"deflate\n\n", b"\x1e", b",\n"),
        refuses=(BadBody,),
    ),
)  # fmt: skip
