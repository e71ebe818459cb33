"""JSON lines with a field map: ours for well-known programs, the operator's for all others.

Owns how our field names find theirs: a dotted path, also where a key itself has dots; the first that is there
counts. Knows no program. PURE.

Field names: `request` (request line), `method`, `target` (path and query, raw), `path` (raw), `upath`
(decoded), `query`, `status`, `host`, `scheme`, `time`, `referer`, `agent`, `id`, `bucket`, `key` (decoded
object name).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from scheduler.logs.formats.record import LogRecord
from scheduler.logs.formats.values import bare_host, parse_time, scheme_of, split_request, split_target
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from scheduler.logs.formats.prefilter import Needle
    from scheduler.logs.formats.record import LineFormat

FIELDS = frozenset({
    "request", "method", "target", "path", "upath", "query", "status", "host", "scheme", "time", "referer",
    "agent", "id", "bucket", "key",
})  # fmt: skip
_WHERE = ("request", "target", "path", "upath", "key")
#: How a place begins that is no request line.
_PLACES = ("/", "http://", "https://")

#: What programs without a format of their own mostly call them.
DEFAULT_FIELDS: dict[str, tuple[str, ...]] = {
    "request": ("request", "request_line", "http_request"),
    "method": (
        "method", "request_method", "verb", "http_method", "http.request.method", "req.method",
        "attributes.http.request.method", "attributes.http.method", "requestmethod", "requestMethod",
    ),
    "target": (
        "request_uri", "target", "uri", "url", "req.url", "http.target", "url.original", "requestUri",
        "attributes.http.target", "attributes.url.full",
    ),
    "path": ("path", "request_path", "url.path", "http.path", "attributes.url.path"),
    "query": ("query", "query_string", "args", "url.query", "attributes.url.query", "uri_param"),
    "status": (
        "status", "status_code", "code", "response_code", "http_status", "statusCode", "response",
        "http.response.status_code", "res.statusCode", "attributes.http.response.status_code",
        "attributes.http.status_code", "http_code",
    ),
    "host": (
        "host", "http_host", "vhost", "hostname", "server_name", "authority", "req.headers.host",
        "url.domain", "domain", "attributes.server.address",
    ),
    "scheme": ("scheme", "request_scheme", "url.scheme"),
    "time": ("time", "timestamp", "@timestamp", "ts", "date", "time_iso8601", "time_local"),
    "referer": ("referer", "http_referer", "referrer"),
    "agent": ("user_agent", "http_user_agent", "agent", "userAgent"),
    "id": ("request_id", "req_id", "trace_id"),
    "bucket": ("bucket",),
    "key": ("key", "object"),
}  # fmt: skip


class JsonFormat:
    """JSON lines; `fields` says for each of ours which of theirs, in order of preference."""

    heading = b""

    def __init__(
        self, name: str, fields: Mapping[str, str | Sequence[str]], *, require: Sequence[str] = ()
    ) -> None:
        unknown = sorted(set(fields) - FIELDS)
        if unknown:
            raise ConfigError(
                f"log format {name!r}: unknown field {unknown[0]!r}; known: {', '.join(sorted(FIELDS))}"
            )
        self._paths = {
            ours: tuple(_path(one) for one in ([theirs] if isinstance(theirs, str) else theirs))
            for ours, theirs in fields.items()
        }
        if "status" not in fields:
            raise ConfigError(f"log format {name!r}: no field for the status")
        if not any(field in fields for field in _WHERE):
            raise ConfigError(f"log format {name!r}: no field for the request path or the key")
        self.name = name
        self.delete_needle = b"DELETE"
        #: Top-level names without which a line is of another program.
        self._require = tuple(require)

    def needle(self, statuses: tuple[int, ...]) -> Needle:
        paths = self._paths["status"]
        numbers = b"|".join(b"%d" % status for status in statuses)
        if len(paths) == 1:
            leaf = re.escape(paths[0][-1].encode())
            return re.compile(b'"' + leaf + rb'"\s*:\s*"?(?:' + numbers + rb")\b")
        return re.compile(numbers)

    def match(self, line: bytes) -> tuple[Hashable, dict[str, Any]] | None:
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError:
            if line.isascii():
                return None
            try:  # one field that is not UTF-8 must not hide the others
                document = orjson.loads(line.decode("utf-8", "replace"))
            except orjson.JSONDecodeError:
                return None
        if not isinstance(document, dict) or not self.fits(document):
            return None
        identity = tuple(
            str(self.get(document, field))
            for field in (*_WHERE, "query", "method", "bucket", "host", "status")
        )
        return identity, document

    def fits(self, document: Mapping[str, Any]) -> bool:
        """Whether a document is of this program: it has the names that only it has, and a status."""
        if any(name not in document for name in self._require):
            return False
        return self.get(document, "status") is not None

    def is_comment(self, line: bytes) -> bool:
        return not line.strip()

    def headed(self, line: bytes) -> LineFormat | None:
        del line
        return None

    def get(self, document: Mapping[str, Any], field: str) -> Any:
        """The value of one of our fields, or None; an object is none, its parts may be."""
        for path in self._paths.get(field, ()):
            value = _dig(document, path)
            if value is not None and not isinstance(value, dict):
                return value
        return None

    def record(self, handle: Mapping[str, Any]) -> LogRecord | None:
        """The record of a document, also of one that came by HTTP."""
        method, target, found = self._string(handle, "method"), self._string(handle, "target"), None
        request = self._string(handle, "request")
        if request:
            found = split_request(_raw(request))
            if found is None and not target and request.startswith(_PLACES):
                target = request  # `"method": "GET", "request": "/a.txt"`
            if found is None and not target and not method:
                return None
        raw = found[1] if found is not None else _raw(target)
        path, query, host, scheme = split_target(raw)
        decoded = False
        if not path:
            path, inner, _, _ = split_target(_raw(self._string(handle, "path")))
            query = query or inner
        for field in ("upath", "key"):
            value = self._string(handle, field)
            if not path and value:
                path, decoded = _raw(value), True
        status = self.get(handle, "status")
        try:
            number = int(status)
        except (TypeError, ValueError):
            return None
        return LogRecord(
            method=(method or (found[0].decode("latin-1") if found else "GET")).upper(),
            status=number,
            path=path,
            decoded=decoded,
            query=query or self._string(handle, "query").removeprefix("?"),
            at=parse_time(self._string(handle, "time")),
            host=bare_host(self._string(handle, "host")) or host,
            scheme=scheme_of(self._string(handle, "scheme")) or scheme,
            bucket=self._string(handle, "bucket"),
            referer=self._string(handle, "referer"),
            user_agent=self._string(handle, "agent"),
            id=self._string(handle, "id"),
        )

    def _string(self, document: Mapping[str, Any], field: str) -> str:
        value = self.get(document, field)
        if isinstance(value, list) and value:
            value = value[0]
        if value is None or isinstance(value, (dict, list)):
            return ""
        text = value if isinstance(value, str) else str(value)
        return "" if text == "-" else text


def _raw(value: str) -> bytes:
    """The bytes that were logged.

    What a logger or we had to replace is made not UTF-8 again: the name is lost, and a wrong one must not be
    asked for.
    """
    raw = value.encode("utf-8", "surrogatepass")
    return raw.replace(b"\xef\xbf\xbd", b"\xff") if "\ufffd" in value else raw


def _path(dotted: str) -> tuple[str, ...]:
    return tuple(dotted.split("."))


def _dig(document: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    if len(path) == 1:
        return document.get(path[0])
    flat = document.get(".".join(path))
    if flat is not None:
        return flat
    inner = document.get(path[0])
    return _dig(inner, path[1:]) if isinstance(inner, dict) else None


def from_field_map(fields: Mapping[str, str]) -> JsonFormat:
    """The operator's map over the usual names: what the map names is looked for nowhere else.

    Raises:
        ConfigError: an unknown field, or none that says what was asked for.
    """
    return JsonFormat("json", {**DEFAULT_FIELDS, **fields})


DEFAULT = from_field_map({})
