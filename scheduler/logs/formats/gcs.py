"""Google Cloud Storage usage log: quoted CSV with a header line. PURE."""

from __future__ import annotations

import csv
from functools import lru_cache
from typing import TYPE_CHECKING

from scheduler.logs.formats.prefilter import Needle, status_needle
from scheduler.logs.formats.record import LogRecord
from scheduler.logs.formats.values import bare_host, parse_time, split_target, status_of
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Hashable

DEFAULT_FIELDS = (
    "time_micros", "c_ip", "c_ip_type", "c_ip_region", "cs_method", "cs_uri", "sc_status", "cs_bytes",
    "sc_bytes", "time_taken_micros", "cs_host", "cs_referer", "cs_user_agent", "s_request_id", "cs_operation",
    "cs_bucket", "cs_object",
)  # fmt: skip
_HOST = "storage.googleapis.com"
#: Columns that a record is made of.
_READ = frozenset({
    "time_micros", "cs_method", "cs_uri", "sc_status", "cs_referer", "cs_user_agent", "s_request_id",
    "cs_bucket", "cs_object", "cs_host",
})  # fmt: skip


class GcsFormat:
    """Usage log with given columns."""

    name = "gcs"
    delete_needle = b"DELETE"
    heading = b'"time_micros"'

    def __init__(self, fields: tuple[str, ...] = DEFAULT_FIELDS) -> None:
        self._fields = fields

    def needle(self, statuses: tuple[int, ...]) -> Needle:
        return status_needle(b'"', statuses, b'"')

    def is_comment(self, line: bytes) -> bool:
        return not line.strip() or line.startswith(b'"time_micros"')

    def headed(self, line: bytes) -> GcsFormat | None:
        if not line.startswith(self.heading):
            return None
        found = from_head(line)
        if found is None:
            raise ConfigError(f"usage log: its header lacks one of {', '.join(sorted(_READ))}")
        return found

    def match(self, line: bytes) -> tuple[Hashable, dict[str, str]] | None:
        if not line.startswith(b'"'):
            return None
        try:
            # As Latin-1, each byte is a sign: what is not UTF-8 stays what it is.
            values = next(csv.reader([line.decode("latin-1")], strict=True))
        except (csv.Error, StopIteration):
            return None
        if len(values) < len(self._fields) or not values[0].isdecimal():
            return None
        row = dict(zip(self._fields, values, strict=False))
        return (row["cs_method"], row["cs_bucket"], row["cs_uri"], row["cs_object"], row["sc_status"]), row

    def record(self, handle: dict[str, str]) -> LogRecord | None:
        row = handle
        path, query, _, _ = split_target(row["cs_uri"].encode("latin-1"))
        host = bare_host(_text(row["cs_host"]))
        bucket = _text(row["cs_bucket"])
        found = _key(path, host=host, bucket=bucket)
        decoded = found is None
        if found is None:
            found = row["cs_object"].encode("latin-1")
        return LogRecord(
            method=row["cs_method"].upper(),
            status=status_of(row["sc_status"]),
            path=found,
            decoded=decoded,
            query=query,
            at=parse_time(row["time_micros"]),
            host=host,
            bucket=bucket,
            referer=_text(row["cs_referer"]),
            user_agent=_text(row["cs_user_agent"]),
            id=_text(row["s_request_id"]),
        )


def _text(cell: str) -> str:
    return cell.encode("latin-1").decode("utf-8", "replace")


def _key(path: bytes, *, host: str, bucket: str) -> bytes | None:
    """The key, percent-encoded, where the URI tells it: XML API in both styles, and the JSON API."""
    name = bucket.encode()
    for api in (b"/download/storage/v1/b/", b"/storage/v1/b/"):
        if path.startswith(api):
            _, separator, key = path.partition(b"/o/")
            return key if separator else None
    if host == f"{bucket}.{_HOST}":
        return path.removeprefix(b"/")
    if host == _HOST or path.startswith(b"/" + name + b"/"):
        found = path.removeprefix(b"/" + name + b"/")
        return None if found == path else found
    return path.removeprefix(b"/") or None


def from_head(head: bytes) -> GcsFormat | None:
    """The format that the header line names; None without one, and where it lacks a column that is read."""
    first = head.split(b"\n", 1)[0]
    if not first.startswith(b'"time_micros"'):
        return None
    try:
        names = tuple(next(csv.reader([first.decode("utf-8", "replace").strip()], strict=True)))
    except (csv.Error, StopIteration):
        return None
    return _with_columns(names) if _READ.issubset(names) else None


@lru_cache(maxsize=64)
def _with_columns(names: tuple[str, ...]) -> GcsFormat:
    """The same for every file with these columns."""
    return GcsFormat(names)


USAGE = GcsFormat()
