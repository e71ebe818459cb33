"""One received JSON document as misses and deletions: our own form, and those of other programs. PURE.

Owns recognition: CloudEvents, bucket notifications (`notifications`), MinIO audit, SeaweedFS audit, Ceph
operation logs, raw log lines inside a shipper's envelope (Vector, Fluent Bit), and flattened access-log
fields.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from scheduler.intake.notifications import notifications
from scheduler.logs.formats import caddy, cdn_json, envelope, envoy, generic_json, rgw, traefik
from scheduler.logs.formats.detect import detect
from scheduler.logs.formats.object_path import object_path
from scheduler.logs.formats.record import LogRecord, parse
from scheduler.logs.formats.values import parse_time, scheme_of, split_request, split_target, status_of
from scheduler.logs.syslog import strip_header
from scheduler.misses.event import MissEvent
from scheduler.misses.keys import checked_key, key_of_path
from scheduler.misses.refusals import Deletion, Ignored, Refused, Taken, Written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.logs.filters import MissFilter
    from scheduler.logs.formats.record import LineFormat

#: Envelopes inside envelopes that are opened.
_DEPTH = 4
#: What shippers call the raw line.
_RAW = envelope.FIELDS
#: Programs whose access log is an object of its own shape.
_PROGRAMS = (
    caddy.JSON,
    traefik.JSON,
    rgw.OPS_LOG,
    cdn_json.FASTLY,
    cdn_json.CLOUDFRONT,
    cdn_json.CLOUDFLARE,
    cdn_json.GOOGLE,
    cdn_json.AZURE,
    cdn_json.AKAMAI,
    envoy.JSON,
)
#: What MinIO and SeaweedFS call operations after which an origin may lack something.
_MINIO_WRITES = frozenset({
    "PutObject", "CopyObject", "CompleteMultipartUpload", "PutObjectTagging", "DeleteObjectTagging",
    "PostPolicyBucket",
})  # fmt: skip
_SEAWEED_WRITES = frozenset({"REST.PUT.OBJECT", "REST.COPY.OBJECT", "REST.POST.UPLOAD"})
#: What a time may be.
_NUMBERS = (int, float)
#: CloudEvents attributes that are required (1.0).
_CLOUD_REQUIRED = ("id", "source", "type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the request says about all of its records."""

    #: Of records that name no bucket.
    bucket: str = ""
    #: For records that are log lines, whole or in fields.
    filter: MissFilter
    #: For raw lines; None: told from each line.
    format: LineFormat | None = None


def take(document: Any, context: Context) -> list[Taken]:
    """Everything that one document says; a notification may say several things."""
    if type(document) is dict and "key" in document and "specversion" not in document:
        operation = document.get("operation")
        if operation is None:
            return [_native(document, context)]
    return _take(document, context, _DEPTH)


def _take(document: Any, context: Context, depth: int) -> list[Taken]:
    if not isinstance(document, dict):
        return [Refused(reason="not_an_object", detail=f"a JSON object is expected, not {_kind(document)}")]
    if depth == 0:
        return [Refused(reason="nested_too_deep")]
    if "specversion" in document:
        return _cloud_event(document, context, depth)
    notified = notifications(document)
    if notified is not None:
        return notified
    records = document.get("records")
    if isinstance(records, list):  # Azure's hubs
        return [one for record in records for one in _take(record, context, depth - 1)]
    api = document.get("api")
    if isinstance(api, dict) and ("deploymentid" in document or "trigger" in document):
        return _minio_audit(document, api, context)
    operation = document.get("operation")
    if isinstance(operation, str) and "bucket" in document:
        if "uri" in document and "http_status" in document:
            return [_ceph(document, context)]
        if operation.startswith(("REST.", "BATCH.")):
            return [_seaweed(document, operation, context)]
    if "key" in document:
        return [_native(document, context)]
    for name in _RAW:
        raw = document.get(name)
        if isinstance(raw, str) and raw:
            return _raw_line(raw, context, depth)
        if isinstance(raw, dict):
            return _take(raw, context, depth - 1)
    known = next((one for one in _PROGRAMS if one.fits(document)), generic_json.DEFAULT)
    record = known.record(document)
    if record is not None and record.path:
        return [_judge(record, context)]
    names = ", ".join(map(str, list(document)[:8])) or "nothing"
    return [Refused(reason="not_an_event", detail=f"no `key`, and no known record; found {names}")]


def take_line(line: bytes, context: Context) -> list[Taken]:
    """A raw log line (S3 server access log, a gateway's log) sent as text."""
    bare = strip_header(line)
    line_format = context.format
    if line_format is None:
        found = detect(bare)
        if found is None:
            return [Refused(reason="unknown_log_format", detail=_show(line))]
        line_format = found.format
    if line_format.is_comment(bare):
        return [Ignored(reason="comment")]
    record = parse(line_format, bare)
    if record is None:
        return [
            Refused(reason="not_of_the_format", detail=f"not in format {line_format.name}: {_show(line)}")
        ]
    return [_judge(record, context)]


def _judge(record: LogRecord, context: Context) -> Taken:
    if context.bucket and not record.bucket and context.filter.place.bucket is None:
        key = key_of_path(record.path, decoded=record.decoded)
        if isinstance(key, Refused):
            return key
        place = replace(context.filter.place, bucket=context.bucket)
        return replace(context.filter, place=place).judge(record)
    return context.filter.judge(record)


def _native(document: Mapping[str, Any], context: Context) -> Taken:
    """Our own form; see `MissEvent`."""
    get = document.get
    bucket = get("bucket") or context.bucket
    key = document["key"]
    if type(bucket) is not str or not bucket:
        return Refused(reason="no_bucket", detail="`bucket` is missing, and the request names none")
    if type(key) is not str:
        return Refused(reason="bad_field", detail=f"`key` must be a string, not {_kind(key)}")
    checked = checked_key(key)
    if isinstance(checked, Refused):
        return checked
    if len(document) == 2 and "bucket" in document:
        return MissEvent(bucket=bucket, key=checked)  # the short form, which floods are made of
    method = get("method", "GET")
    status = get("status", 404)
    if type(status) is str:
        status = status_of(status) or status
    at = get("at", 0.0)
    if type(at) is str:
        at = parse_time(at)
    event_id, query, host = get("id", ""), get("query", ""), get("host", "")
    referer, agent = get("referer", ""), get("user_agent", "")
    # In one test, because floods are made of these as well.
    if not (
        type(method) is type(event_id) is type(query) is type(host) is type(referer) is type(agent) is str
        and type(status) is int
        and type(at) in _NUMBERS
    ):
        named = {
            "method": method, "status": status, "at": at, "id": event_id, "query": query, "host": host,
            "referer": referer, "user_agent": agent,
        }  # fmt: skip
        return _bad_field(named)
    scheme = get("scheme")
    if scheme is not None and (not isinstance(scheme, str) or scheme_of(scheme) is None):
        return Refused(reason="bad_field", detail=f"`scheme`: http or https, found {str(scheme)[:60]!r}")
    given = get("headers")
    headers = () if given is None else _headers(given)
    if headers is None:
        return Refused(reason="bad_field", detail="`headers`: an object of strings, or a list of pairs")
    method = method.upper()
    if method == "DELETE":
        return Deletion(bucket=bucket, key=checked, at=float(at))
    if method not in {"GET", "HEAD"}:
        return Ignored(reason="method")
    return MissEvent(
        bucket=bucket,
        key=checked,
        id=event_id,
        at=float(at),
        method=method,
        status=status,
        scheme=scheme_of(scheme) if scheme else None,
        query=query.removeprefix("?"),
        headers=headers,
        referer=referer,
        user_agent=agent,
        host=host.lower(),
    )


def _bad_field(named: Mapping[str, Any]) -> Refused:
    """The first field that is not of its type."""
    types: dict[str, tuple[type, ...]] = {"status": (int,), "at": _NUMBERS}
    name, value = next((n, v) for n, v in named.items() if type(v) not in types.get(n, (str,)))
    return Refused(reason="bad_field", detail=f"`{name}`: found {_kind(value)} {str(value)[:60]!r}")


def _headers(value: Any) -> tuple[tuple[str, str], ...] | None:
    """Headers of an event as pairs; None when they are of no form that we read."""
    pairs: list[tuple[str, str]] = []
    entries = value.items() if isinstance(value, dict) else value if isinstance(value, list) else None
    if entries is None:
        return None
    for entry in entries:
        if not isinstance(entry, (tuple, list)) or len(entry) != 2:
            return None
        name, held = entry
        for one in held if isinstance(held, list) else [held]:
            if not isinstance(name, str) or not isinstance(one, str) or "\n" in one or "\r" in one:
                return None
            pairs.append((name, one))
    return tuple(pairs)


def _cloud_event(document: Mapping[str, Any], context: Context, depth: int) -> list[Taken]:
    """CloudEvents 1.0, structured: the event is `data`, its id is `source` and `id` together."""
    missing = [name for name in _CLOUD_REQUIRED if not isinstance(document.get(name), str)]
    if missing or not str(document["specversion"]).startswith("1."):
        what = f"`{missing[0]}` is missing" if missing else f"specversion {document['specversion']!r}"
        return [Refused(reason="bad_cloud_event", detail=what)]
    data = document.get("data")
    if data is None and isinstance(document.get("data_base64"), str):
        try:
            data = orjson.loads(base64.b64decode(document["data_base64"], validate=True))
        except ValueError as error:
            return [Refused(reason="bad_cloud_event", detail=f"data_base64: {error}")]
    if isinstance(data, str):
        try:
            data = orjson.loads(data)
        except orjson.JSONDecodeError:
            return with_cloud_id(take_line(data.encode(), context), document["source"], document["id"])
    if data is None:
        return [Refused(reason="bad_cloud_event", detail="no `data`")]
    if isinstance(data, dict) and "time" in document and "at" not in data and "key" in data:
        data = {**data, "at": document["time"]}
    return with_cloud_id(_take(data, context, depth - 1), document["source"], document["id"])


def with_cloud_id(taken: list[Taken], source: str, event_id: str) -> list[Taken]:
    """The same, each miss with the id that makes a CloudEvent unique."""
    name = f"{source} {event_id}"
    return [
        replace(one, id=name if len(taken) == 1 else f"{name} {at}") if isinstance(one, MissEvent) else one
        for at, one in enumerate(taken)
    ]


def _minio_audit(document: Mapping[str, Any], api: Mapping[str, Any], context: Context) -> list[Taken]:
    """MinIO's audit webhook; object names are decoded in it."""
    name = str(api.get("name", ""))
    bucket = str(api.get("bucket", ""))
    if name == "DeleteMultipleObjects":
        found: list[Taken] = []
        for one in api.get("objects") or []:
            key = checked_key(str(one.get("objectName", "")) if isinstance(one, dict) else "")
            found.append(key if isinstance(key, Refused) else Deletion(bucket=bucket, key=key))
        return found or [Ignored(reason="method")]
    method = {"GetObject": "GET", "HeadObject": "HEAD", "DeleteObject": "DELETE"}.get(name)
    status = api.get("statusCode")
    if method is None:
        if name in _MINIO_WRITES and status == 200:
            return [_written(bucket, str(api.get("object", "")))]
        return [Ignored(reason="method")]
    return [
        _judge(
            LogRecord(
                method=method,
                status=status if isinstance(status, int) else 0,
                path=str(api.get("object", "")).encode("utf-8", "surrogatepass"),
                decoded=True,
                at=parse_time(str(document.get("time", ""))),
                host=str(document.get("requestHost", "")).partition(":")[0].lower(),
                bucket=bucket,
                user_agent=str(document.get("userAgent", "")),
                id=str(document.get("requestID", "")),
            ),
            context,
        )
    ]


def _seaweed(document: Mapping[str, Any], operation: str, context: Context) -> Taken:
    """SeaweedFS's S3 audit record; the key is decoded in it and begins with a slash."""
    method = {
        "REST.GET.OBJECT": "GET",
        "REST.HEAD.OBJECT": "HEAD",
        "REST.DELETE.OBJECT": "DELETE",
    }.get(operation)
    status = document.get("status", document.get("http_status", 0))
    if method is None:
        if operation in _SEAWEED_WRITES and str(status) in {"200", "204"}:
            return _written(str(document["bucket"]), str(document.get("key", "")).removeprefix("/"))
        return Ignored(reason="method")
    return _judge(
        LogRecord(
            method=method,
            status=status_of(str(status)),
            path=str(document.get("key", "")).encode("utf-8", "surrogatepass"),
            decoded=True,
            at=parse_time(str(document.get("time", ""))),
            host=str(document.get("host_header", "")).partition(":")[0].lower(),
            bucket=str(document["bucket"]),
            user_agent=str(document.get("user_agent", "")),
            id=str(document.get("request_id", "")),
        ),
        context,
    )


def _written(bucket: str, key: str) -> Taken:
    checked = checked_key(key)
    return (
        checked if isinstance(checked, Refused) else Written(bucket=bucket, key=checked, otherwise="method")
    )


def _ceph(document: Mapping[str, Any], context: Context) -> Taken:
    """A record of Ceph's operation log; `uri` is the request line as the client sent it."""
    if document["operation"] not in {"get_obj", "head_obj", "delete_obj", "stat_obj"}:
        return Ignored(reason="method")
    request = split_request(str(document["uri"]).encode("utf-8", "surrogatepass"))
    if request is None:
        return Refused(reason="bad_field", detail=f"`uri`: {str(document['uri'])[:80]!r} is no request line")
    path, query, host, _ = split_target(request[1])
    bucket = str(document["bucket"]).rpartition("/")[2]  # tenant/bucket
    status = str(document["http_status"])
    return _judge(
        LogRecord(
            method=request[0].decode("latin-1").upper(),
            status=status_of(status),
            path=object_path(bucket, path, host=host, key_field=b""),
            query=query,
            at=parse_time(str(document.get("time", "")).removesuffix("Z").replace(" ", "T") + "+00:00"),
            bucket=bucket,
            user_agent=str(document.get("user_agent", "")),
            referer=str(document.get("referrer", "")),
            id=str(document.get("trans_id", "")),
        ),
        context,
    )


def _raw_line(raw: str, context: Context, depth: int) -> list[Taken]:
    text = raw.rstrip("\r\n")
    if text.lstrip().startswith("{") and context.format is None:
        try:
            return _take(orjson.loads(text), context, depth - 1)
        except orjson.JSONDecodeError as error:
            return [Refused(reason="not_json", detail=f"in the message: {error}")]
    return take_line(text.encode("utf-8", "surrogatepass"), context)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), "a boolean")


def _show(line: bytes) -> str:
    return line[:120].decode("utf-8", "backslashreplace")
