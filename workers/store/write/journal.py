"""Which multipart uploads are ours: the note that lets a later process end what a killed one began.

Owns the notes under `.ferryman/uploads/` of the bucket itself, so that they survive with what they describe
and need no other service. A note is written before each try to create the upload, and removed after that was
completed or aborted::

    .ferryman/uploads/<attempt>.<random>   {"key": …, "at": unix seconds}

S3 lists open uploads with key and start time, not with metadata; so an upload is ours when its key is that of
a note and it was started within a minute of the note (`sweep`). Both times are the store's: that of the note
is when it was last modified. `at` is by the clock of the process that wrote it; earlier versions go by it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from workers.store.journal import UploadNote
from workers.store.wire.addressing import OWN_PREFIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workers.store.access import StoreAccess

log = structlog.get_logger(__name__)

UPLOADS_PREFIX = f"{OWN_PREFIX}uploads/"


class StoreJournal:
    """Notes as small objects in the bucket."""

    __slots__ = ("_store",)

    def __init__(self, store: StoreAccess) -> None:
        self._store = store

    async def opened(self, bucket: str, key: str, attempt: str) -> None:
        body = orjson.dumps({"key": key, "at": time.time()})
        await self._store.put_small(
            bucket, f"{UPLOADS_PREFIX}{attempt}", body, content_type="application/json"
        )

    async def closed(self, bucket: str, attempt: str) -> None:
        await self._store.delete(bucket, f"{UPLOADS_PREFIX}{attempt}")

    async def notes(self, bucket: str, *, attempt: str = "") -> AsyncIterator[UploadNote]:
        prefix = f"{UPLOADS_PREFIX}{attempt}." if attempt else UPLOADS_PREFIX
        async for page in self._store.list(bucket, prefix):
            for listed in page.objects:
                async with await self._store.get(bucket, listed.key) as response:
                    if response.status != 200:
                        continue
                    body = await response.read()
                try:
                    note: Any = orjson.loads(body)
                    key = str(note["key"])
                except (ValueError, KeyError, TypeError):
                    # Somebody else's: it must not stand in the way of the others.
                    log.warning("upload_note_unreadable", bucket=bucket, key=listed.key)
                    continue
                name = listed.key.removeprefix(UPLOADS_PREFIX)
                yield UploadNote(attempt=name, key=key, at=listed.last_modified)
