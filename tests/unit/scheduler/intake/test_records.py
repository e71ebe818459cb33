"""What senders really send, as events."""

# ruff: noqa: E501 -- tables of real records read best unbroken

from __future__ import annotations

import base64
import gzip

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.intake.body import MAX_DOCUMENT_BYTES, MAX_LINE_BYTES, BadBody, Splitter, Unpacker, kind_of
from scheduler.intake.records import Context, take, take_line
from scheduler.logs.filters import MissFilter
from scheduler.logs.place import Place
from scheduler.misses.event import MissEvent
from scheduler.misses.refusals import Deletion, Ignored, Refused, Written
from support.logs.lines import WRITERS, Wanted

CONTEXT = Context(
    filter=MissFilter(
        methods=frozenset({"GET", "HEAD"}),
        place=Place(hosts={"img.example": "site"}, path_style=frozenset({"site"})),
    )
)

MINIO_AUDIT = {
    "version": "1", "deploymentid": "b1", "time": "2026-11-21T03:56:35.1Z", "event": "", "trigger": "incoming",
    "api": {"name": "GetObject", "bucket": "site", "object": "d/a b+c%20.txt", "status": "Not Found", "statusCode": 404},
    "remotehost": "127.0.0.1", "requestID": "17A", "userAgent": "curl", "requestPath": "/site/d/a%20b+c%2520.txt",
    "requestHost": "localhost:9000",
}  # fmt: skip
NOTIFICATION = {
    "EventName": "s3:ObjectRemoved:Delete", "Key": "site/d/a b.txt",
    "Records": [{
        "eventVersion": "2.0", "eventSource": "minio:s3", "eventTime": "2026-11-21T03:56:35.1Z",
        "eventName": "s3:ObjectRemoved:Delete",
        "s3": {"bucket": {"name": "site"}, "object": {"key": "d%2Fa+b%2Bc.txt", "sequencer": "1"}},
    }],
}  # fmt: skip
SEAWEED = {
    "bucket": "site", "time": 1795233395, "remote_ip": "1.2.3.4", "request_id": "r1", "operation": "REST.GET.OBJECT",
    "key": "/d/a b%20.txt", "error_code": "NoSuchKey", "host_header": "localhost:8333", "user_agent": "x", "status": 404,
}  # fmt: skip
CEPH = {
    "bucket": "site", "time": "2026-11-21 03:56:35.123456Z", "time_local": "2026-11-21 03:56:35.1", "remote_addr": "1.2.3.4",
    "user": "u", "operation": "get_obj", "uri": "GET /site/d/a%20b HTTP/1.1", "http_status": "404",
    "error_code": "NoSuchKey", "bytes_sent": 1, "user_agent": "x", "referrer": "", "trans_id": "tx1",
}  # fmt: skip
VECTOR = {
    "file": "/var/log/nginx/access.log", "host": "h1", "source_type": "file", "timestamp": "2026-11-21T03:56:35Z",
    "message": WRITERS["nginx"](Wanted(target=b"/site/a%20b")).decode(),
}  # fmt: skip
FLUENT_RAW = {"date": 1795233395.5, "log": WRITERS["nginx"](Wanted(target=b"/site/a%20b")).decode() + "\n"}
FLUENT_PARSED = {
    "date": 1795233395.0, "remote": "1.2.3.4", "host": "img.example", "user": "-", "method": "GET", "path": "/a%20b",
    "code": "404", "size": "153", "referer": "-", "agent": "curl",
}  # fmt: skip
CLOUD = {
    "specversion": "1.0", "id": "7", "source": "/gw", "type": "miss", "time": "2026-11-21T03:56:35Z",
    "data": {"bucket": "site", "key": "a b"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("document", "key", "at", "event_id"),
    [
        ({"bucket": "site", "key": "a b"}, "a b", 0, ""),
        ({"bucket": "site", "key": "/a b", "id": "e1", "at": "2026-11-21T03:56:35Z"}, "a b", 1795233395, "e1"),
        ({"bucket": "site", "key": "a%20b", "at": 5, "status": "404"}, "a%20b", 5, ""),
        (CLOUD, "a b", 1795233395, "/gw 7"),
        ({**CLOUD, "data": None, "data_base64": base64.b64encode(b'{"bucket":"site","key":"k"}').decode()}, "k", 1795233395, "/gw 7"),
        ({**CLOUD, "data": '{"bucket":"site","key":"k"}'}, "k", 1795233395, "/gw 7"),
        ({**CLOUD, "data": MINIO_AUDIT}, "d/a b+c%20.txt", 1795233395, "/gw 7"),
        (MINIO_AUDIT, "d/a b+c%20.txt", 1795233395, "17A"),
        (SEAWEED, "d/a b%20.txt", 1795233395, "r1"),
        (CEPH, "d/a b", 1795233395, "tx1"),
        (VECTOR, "a b", 1795233395, ""),
        (FLUENT_RAW, "a b", 1795233395, ""),
        ({"log": orjson.dumps({"bucket": "site", "key": "inside"}).decode()}, "inside", 0, ""),
        (FLUENT_PARSED, "a b", 1795233395, ""),
        (orjson.loads(WRITERS["caddy"](Wanted(target=b"/a%20b"))), "a b", 1795233395, ""),
    ],
    ids=[
        "native", "native_slash", "native_not_decoded", "cloudevent", "cloudevent_base64", "cloudevent_string",
        "cloudevent_of_audit", "minio_audit", "seaweedfs", "ceph", "vector", "fluent_bit_raw", "fluent_bit_json_in_log",
        "fluent_bit_parsed", "caddy_object",
    ],
)  # fmt: skip
def test_a_miss_is_taken_from_what_the_sender_sends(document, key, at, event_id):
    (event,) = take(document, CONTEXT)
    assert isinstance(event, MissEvent), event
    assert (event.bucket, event.key, int(event.at), event.id) == ("site", key, at, event_id)


@pytest.mark.parametrize(
    ("document", "keys"),
    [
        (NOTIFICATION, ["d/a b+c.txt"]),
        ({"Records": [NOTIFICATION["Records"][0] | {"eventName": "ObjectRemoved:DeleteMarkerCreated"}]}, ["d/a b+c.txt"]),
        ({"Records": [NOTIFICATION["Records"][0] | {"eventName": "s3:LifecycleExpiration:Delete"}]}, ["d/a b+c.txt"]),
        ({**MINIO_AUDIT, "api": {"name": "DeleteObject", "bucket": "site", "object": "k", "statusCode": 204}}, ["k"]),
        (
            {**MINIO_AUDIT, "api": {"name": "DeleteMultipleObjects", "bucket": "site",
                                    "objects": [{"objectName": "x y"}, {"objectName": "z"}], "statusCode": 200}},
            ["x y", "z"],
        ),
        ({**SEAWEED, "operation": "REST.DELETE.OBJECT", "status": 204}, ["d/a b%20.txt"]),
        ({**CEPH, "operation": "delete_obj", "uri": "DELETE /site/k HTTP/1.1", "http_status": "204"}, ["k"]),
        ({"bucket": "site", "key": "k", "method": "DELETE"}, ["k"]),
        ({**CLOUD, "data": NOTIFICATION}, ["d/a b+c.txt"]),
    ],
)  # fmt: skip
def test_a_deletion_becomes_a_tombstone(document, keys):
    """S15."""
    found = take(document, CONTEXT)
    assert all(isinstance(one, Deletion) for one in found), found
    assert [one.key for one in found] == keys


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (
            {**MINIO_AUDIT, "api": {"name": "PutObject", "bucket": "site", "object": "k", "statusCode": 403}},
            "method",
        ),
        (
            {**MINIO_AUDIT, "api": {"name": "GetObject", "bucket": "site", "object": "k", "statusCode": 200}},
            "status",
        ),
        ({"Records": [NOTIFICATION["Records"][0] | {"eventName": "s3:ObjectAccessed:Get"}]}, "notification"),
        ({**SEAWEED, "operation": "REST.PUT.OBJECT", "status": 403}, "method"),
        ({**CEPH, "operation": "put_obj"}, "method"),
        ({**CEPH, "http_status": "200"}, "status"),
        ({**FLUENT_PARSED, "code": "200"}, "status"),
        ({"bucket": "site", "key": "k", "method": "PUT"}, "method"),
        ({**FLUENT_PARSED, "host": "elsewhere", "path": "/other/a"}, None),
    ],
)
def test_what_is_no_miss_is_ignored_and_not_refused(document, reason):
    (found,) = take(document, CONTEXT)
    if reason is not None:
        assert found == Ignored(reason=reason)


OSS_EVENT = {
    "eventName": "ObjectCreated:PutObject",
    "eventTime": "2026-11-01T10:00:00.000Z",
    "oss": {"bucket": {"name": "site"}, "object": {"key": "d/a b+c.txt"}},
}
COS_RECORD = {
    "event": {"eventName": "cos:ObjectCreated:Put", "eventTime": 1790000000},
    "cos": {"cosBucket": {"name": "site", "appid": "125"}, "cosObject": {"key": "/125/site/d/a b+c.txt"}},
}


@pytest.mark.parametrize(
    ("document", "otherwise"),
    [
        ({"Records": [NOTIFICATION["Records"][0] | {"eventName": "s3:ObjectCreated:Put"}]}, "notification"),
        ({"Records": [NOTIFICATION["Records"][0] | {"eventName": "ObjectTagging:Put"}]}, "notification"),
        ({"events": [OSS_EVENT]}, "notification"),
        ({"Records": [COS_RECORD]}, "notification"),
        (
            {
                **MINIO_AUDIT,
                "api": {"name": "CopyObject", "bucket": "site", "object": "d/a b+c.txt", "statusCode": 200},
            },
            "method",
        ),
        ({**SEAWEED, "operation": "REST.PUT.OBJECT", "status": 200, "key": "/d/a b+c.txt"}, "method"),
    ],
)
def test_a_write_at_the_store_is_told_apart_from_what_means_nothing(document, otherwise):
    assert take(document, CONTEXT) == [Written(bucket="site", key="d/a b+c.txt", otherwise=otherwise)]


@pytest.mark.parametrize(
    "document",
    [
        {"events": [{**OSS_EVENT, "eventName": "ObjectRemoved:DeleteObject"}]},
        {"Records": [{**COS_RECORD, "event": {"eventName": "cos:ObjectRemove:Delete"}}]},
    ],
)
def test_a_deletion_that_a_cloud_tells_of_becomes_a_tombstone(document):
    (found,) = take(document, CONTEXT)
    assert isinstance(found, Deletion)
    assert (found.bucket, found.key, found.expired) == ("site", "d/a b+c.txt", False)


def test_an_expiry_is_told_apart_from_a_deletion():
    record = NOTIFICATION["Records"][0] | {"eventName": "s3:LifecycleExpiration:Delete"}
    (found,) = take({"Records": [record]}, CONTEXT)
    assert isinstance(found, Deletion)
    assert found.expired


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (5, "not_an_object"), ("x", "not_an_object"), (None, "not_an_object"), ([], "not_an_object"), ({}, "not_an_event"),
        ({"bucket": "site"}, "not_an_event"), ({"key": "k"}, "no_bucket"), ({"bucket": 5, "key": "k"}, "no_bucket"),
        ({"bucket": "site", "key": 5}, "bad_field"), ({"bucket": "site", "key": None}, "bad_field"),
        ({"bucket": "site", "key": ""}, "empty_key"), ({"bucket": "site", "key": "///"}, "empty_key"),
        ({"bucket": "site", "key": "a\nb"}, "control_character"), ({"bucket": "site", "key": "a\x00"}, "control_character"),
        ({"bucket": "site", "key": "k" * 1025}, "key_too_long"), ({"bucket": "site", "key": "中" * 342}, "key_too_long"),
        ({"bucket": "site", "key": "k", "status": "many"}, "bad_field"), ({"bucket": "site", "key": "k", "at": []}, "bad_field"),
        ({"bucket": "site", "key": "k", "headers": ["a"]}, "bad_field"), ({"bucket": "site", "key": "k", "scheme": "ftp"}, "bad_field"),
        ({"bucket": "site", "key": "k", "headers": {"a": "b\r\nc"}}, "bad_field"), ({"bucket": "site", "key": "k", "status": True}, "bad_field"),
        ({"specversion": "1.0", "id": "1", "data": {}}, "bad_cloud_event"), ({**CLOUD, "specversion": "2.0"}, "bad_cloud_event"),
        ({**CLOUD, "data": None}, "bad_cloud_event"), ({**CLOUD, "data": None, "data_base64": "%"}, "bad_cloud_event"),
        ({**CLOUD, "data": {**CLOUD, "data": {**CLOUD, "data": {**CLOUD, "data": CLOUD}}}}, "nested_too_deep"),
        ({"Records": [{}]}, "bad_notification"), ({"Records": [3]}, "bad_notification"),
        ({"message": "no log line at all"}, "unknown_log_format"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused_with_its_reason(document, reason):
    found = take(document, CONTEXT)
    assert [one.reason for one in found if isinstance(one, Refused)] == [reason], found


def test_headers_of_an_event_come_as_an_object_or_as_pairs():
    for headers in ({"X-A": "1", "X-B": ["2", "3"]}, [["X-A", "1"], ["X-B", "2"], ["X-B", "3"]]):
        (event,) = take({"bucket": "site", "key": "k", "headers": headers}, CONTEXT)
        assert event.headers == (("X-A", "1"), ("X-B", "2"), ("X-B", "3"))


def test_raw_s3_log_lines_are_taken():
    (event,) = take_line(WRITERS["s3"](Wanted(key="a b", target=b"/a%20b")), CONTEXT)
    assert (event.bucket, event.key) == ("site", "a b")


@given(document=st.recursive(
    st.none() | st.booleans() | st.integers(-10, 1000) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from([
            "bucket", "key", "id", "at", "status", "headers", "specversion", "data", "data_base64", "source", "type", "time",
            "Records", "eventName", "s3", "object", "name", "api", "deploymentid", "objects", "operation", "uri",
            "http_status", "message", "log", "method", "path", "code", "request", "referer", "host", "query",
        ]), inner, max_size=6),
    max_leaves=25,
))  # fmt: skip
def test_no_document_is_an_exception(document):
    for one in take(document, CONTEXT):
        assert isinstance(one, (MissEvent, Deletion, Ignored, Refused))


def rows(kind, *pieces):
    splitter = Splitter(kind)
    out = []
    for piece in pieces:
        out += splitter.feed(piece)
    return out + splitter.end()


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("json", b'{"a":1}', [(1, {"a": 1})]),
        ("json", b'\xef\xbb\xbf \n{"a":1}\n', [(2, {"a": 1})]),
        ("json", b'{\n "a": 1\n}', [(1, {"a": 1})]),
        ("json", b'[{"a":1}, {"a":2}]', [(1, {"a": 1}), (2, {"a": 2})]),
        ("json", b'{"a":1}\n{"a":2}\n', [(1, {"a": 1}), (2, {"a": 2})]),
        ("lines", b'{"a":1}\n\n{"a":2}', [(1, {"a": 1}), (3, {"a": 2})]),
        ("lines", b'{"a":1}\r\n{"a":2},\r\n', [(1, {"a": 1}), (2, {"a": 2})]),
        ("lines", b'\x1e{"a":1}\n', [(1, {"a": 1})]),
        ("json", b"", []), ("lines", b"\n \n", []), ("json", b"[]", []),
    ],
)  # fmt: skip
def test_a_body_is_cut_into_records_with_their_line_numbers(kind, body, expected):
    assert [(row.number, row.document) for row in rows(kind, body)] == expected
    one_by_one = [body[at : at + 1] for at in range(len(body))]
    assert [(row.number, row.document) for row in rows(kind, *one_by_one)] == expected


def test_a_bad_line_is_a_row_with_its_number_and_the_others_go_on():
    found = rows("lines", b'{"a":1}\n{"a":\n{"a":3}\n')
    assert [(row.number, bool(row.problem)) for row in found] == [(1, False), (2, True), (3, False)]


def test_an_endless_line_is_one_bad_row_and_costs_no_memory():
    splitter = Splitter("lines")
    for _ in range(3 * MAX_LINE_BYTES // 65_536):
        assert splitter.feed(b"x" * 65_536) == []
        assert len(splitter._buffer) <= MAX_LINE_BYTES + 65_536
    found = splitter.feed(b'end\n{"a":1}\n')
    assert [bool(row.problem) for row in found] == [True, False]


@pytest.mark.parametrize(
    ("work", "status"),
    [
        (lambda: rows("json", b"[1,"), 400), (lambda: rows("json", b"{"), 400), (lambda: kind_of("image/png"), 415),
        (lambda: kind_of("multipart/form-data"), 415), (lambda: Unpacker("br"), 415),
        (lambda: list(Unpacker("gzip").feed(b"no gzip")), 400),
        (lambda: rows("json", b"[" + b" " * MAX_DOCUMENT_BYTES, b" "), 413),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_read_has_a_status(work, status):
    with pytest.raises(BadBody) as caught:
        work()
    assert caught.value.status == status


def test_packed_bodies_are_unpacked_in_any_pieces_and_members():
    packed = gzip.compress(b"a" * 10_000) + gzip.compress(b"b")
    for size in (1, 7, 100_000):
        unpacker = Unpacker("gzip")
        out = b"".join(b"".join(unpacker.feed(packed[at : at + size])) for at in range(0, len(packed), size))
        unpacker.end()
        assert out == b"a" * 10_000 + b"b"
    cut = Unpacker("gzip")
    list(cut.feed(packed[:20]))
    with pytest.raises(BadBody, match="cut short"):
        cut.end()


def test_a_gzip_bomb_comes_in_small_pieces():
    unpacker = Unpacker("gzip")
    assert max(len(piece) for piece in unpacker.feed(gzip.compress(b"\0" * (64 << 20)))) <= 1 << 20


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("", "json"), ("application/json; charset=utf-8", "json"), ("application/cloudevents-batch+json", "json"),
        ("application/x-ndjson", "lines"), ("Application/JSONL", "lines"), ("text/plain", "text"),
        ("application/vnd.any+json", "json"),
    ],
)  # fmt: skip
def test_types_that_senders_use_are_known(content_type, kind):
    assert kind_of(content_type) == kind


@pytest.mark.parametrize("name", ["cloudflare", "google-cloud", "azure", "akamai", "fastly"])
def test_a_cdns_record_is_taken_as_it_comes_also_in_an_azure_hubs_batch(name):
    wanted = Wanted(target=b"/d/a%20b?x=1")
    document = orjson.loads(WRITERS[name](wanted))
    for sent in (document, {"records": [document]}):
        (taken,) = take(sent, CONTEXT)
        assert isinstance(taken, MissEvent), taken
        assert (taken.bucket, taken.key, int(taken.at)) == ("site", "d/a b", wanted.at)
