"""Bucket notifications: what a store, or a cloud, says was written and deleted in a bucket. PURE.

Owns the forms of AWS (MinIO, Ceph and SeaweedFS speak it), Alibaba OSS and Tencent COS. An expiry by a
lifecycle rule is a deletion that is the store's own housekeeping: the key must not come back, and nobody
deletes it anywhere else for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

from scheduler.logs.formats.values import parse_time
from scheduler.misses.keys import checked_key
from scheduler.misses.refusals import Deletion, Ignored, Refused, Taken, Written

if TYPE_CHECKING:
    from collections.abc import Mapping

_DELETED: Final = "ObjectRemoved:"
_EXPIRED: Final = ("LifecycleExpiration:", "ObjectLifecycle:Expiration")
_WRITTEN: Final = ("ObjectCreated:", "ObjectTagging:", "ObjectModified:")
_IGNORED: Final = "notification"


def notifications(document: Mapping[str, Any]) -> list[Taken] | None:
    """What a notification says, one for each of its records; None when it is none."""
    records = document.get("Records")
    if isinstance(records, list):
        return [_record(record) for record in records] or [Ignored(reason="empty_notification")]
    events = document.get("events")
    if isinstance(events, list) and any(isinstance(one, dict) and "oss" in one for one in events):
        return [_oss(event) for event in events]
    return None


def _record(record: Any) -> Taken:
    """One record in the form of AWS, or of Tencent COS."""
    if isinstance(record, dict) and "cos" in record:
        return _cos(record)
    try:
        name = str(record["eventName"])
        bucket = record["s3"]["bucket"]["name"]
        key = record["s3"]["object"]["key"]
    except (KeyError, TypeError):
        return _bad("eventName, s3.bucket.name or s3.object.key is missing")
    if isinstance(key, str):
        key = unquote_plus(key, errors="surrogateescape")
    return _taken(name.removeprefix("s3:"), bucket, key, str(record.get("eventTime", "")))


def _oss(event: Any) -> Taken:
    """One event of Alibaba OSS; its key is as it is."""
    try:
        name = str(event["eventName"])
        bucket = event["oss"]["bucket"]["name"]
        key = event["oss"]["object"]["key"]
    except (KeyError, TypeError):
        return _bad("eventName, oss.bucket.name or oss.object.key is missing")
    return _taken(name, bucket, key, str(event.get("eventTime", "")))


def _cos(record: Mapping[str, Any]) -> Taken:
    """One record of Tencent COS; its key is `/<appid>/<bucket>/<key>`."""
    try:
        name = str(record["event"]["eventName"]).removeprefix("cos:")
        bucket = record["cos"]["cosBucket"]["name"]
        whole = record["cos"]["cosObject"]["key"]
        at = record["event"].get("eventTime", 0)
    except (KeyError, TypeError, AttributeError):
        return _bad("event.eventName, cos.cosBucket.name or cos.cosObject.key is missing")
    parts = whole.split("/", 3) if isinstance(whole, str) else []
    key = parts[3] if len(parts) == 4 and parts[0] == "" and parts[2] == bucket else whole
    return _taken(name.replace("ObjectRemove:", _DELETED), bucket, key, str(at))


def _taken(name: str, bucket: Any, key: Any, at: str) -> Taken:
    if not isinstance(key, str) or not isinstance(bucket, str):
        return _bad("bucket and key must be strings")
    deleted, expired = name.startswith(_DELETED), name.startswith(_EXPIRED)
    if not (deleted or expired or name.startswith(_WRITTEN)):
        return Ignored(reason=_IGNORED)
    checked = checked_key(key)
    if isinstance(checked, Refused):
        return checked
    if deleted or expired:
        return Deletion(bucket=bucket, key=checked, at=parse_time(at), expired=expired)
    return Written(bucket=bucket, key=checked, otherwise=_IGNORED)


def _bad(detail: str) -> Refused:
    return Refused(reason="bad_notification", detail=detail)
