"""Ceph RGW's operations log (`rgw_ops_log_file_path`, or read from `rgw_ops_log_socket_path`). PURE.

One JSON record a line. What comes over the socket is one endless array: the first record of a connection
begins with `[`, and all end with a comma. Source: Ceph's `src/rgw/rgw_log.cc`, seen with 16.2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scheduler.logs.formats.generic_json import JsonFormat
from scheduler.logs.formats.object_path import object_path

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from scheduler.logs.formats.record import LogRecord

_AROUND = b"[], \t\r\n"


def bare_record(line: bytes) -> bytes:
    """A record of an array that is written as it grows, without what belongs to the array."""
    return line.strip(_AROUND)


class RgwFormat(JsonFormat):
    """JSON lines whose path holds the bucket, unless the host did."""

    def match(self, line: bytes) -> tuple[Hashable, dict[str, Any]] | None:
        return super().match(bare_record(line))

    def is_comment(self, line: bytes) -> bool:
        return not bare_record(line)

    def record(self, handle: Mapping[str, Any]) -> LogRecord | None:
        found = super().record(handle)
        if found is None or not found.bucket:
            return found
        return replace(found, path=object_path(found.bucket, found.path, host=found.host, key_field=b""))


OPS_LOG = RgwFormat(
    "rgw",
    {
        "request": "uri",
        "status": "http_status",
        "time": "time",
        "bucket": "bucket",
        "referer": "referrer",
        "agent": "user_agent",
        "id": "trans_id",
    },
    require=("http_status", "operation", "uri", "trans_id"),
)
