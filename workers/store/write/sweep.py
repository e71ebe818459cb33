"""Multipart uploads that a killed process left open: found by our notes, aborted, forgotten.

Owns which upload is ours and old enough. Uploads of anybody else are never touched: there is no note of them.
Trials of the self-test have no note (a versioned bucket would keep it); their place is nobody else's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from workers.errors import StoreError
from workers.store.listing import list_uploads
from workers.store.wire import multipart
from workers.store.wire.addressing import PROBE_PREFIX

if TYPE_CHECKING:
    from workers.store.access import StoreAccess
    from workers.store.journal import UploadNote
    from workers.store.model import OpenUpload

log = structlog.get_logger(__name__)

#: Seconds between a note and the creation of its upload.
NEAR_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep did."""

    #: Uploads aborted, and notes removed.
    aborted: int
    forgotten: int
    #: Notes that are too young to be stale.
    young: int
    #: Uploads that could not be aborted now.
    failed: int


def is_ours(note: UploadNote, upload: OpenUpload) -> bool:
    """Whether an open upload is the one that a note announced: its very key, begun near its time. Pure."""
    return upload.key == note.key and abs(upload.initiated - note.at) <= NEAR_S


async def abort_noted(store: StoreAccess, bucket: str, note: UploadNote) -> int:
    """Abort every open upload that a note announced; how many there were.

    Raises:
        StoreError: the open uploads cannot be listed, or one cannot be aborted.
    """
    aborted = 0
    async for upload in list_uploads(store.transport, bucket, note.key, headers=store.common_headers):
        if is_ours(note, upload):
            begun = multipart.Begun(bucket=bucket, key=upload.key, id=upload.upload_id)
            await multipart.abort(store.transport, begun, headers=store.common_headers)
            aborted += 1
    return aborted


async def end_earlier(store: StoreAccess, bucket: str, attempt: str) -> int:
    """Abort what killed deliveries of this very attempt have left open; how many uploads.

    What fails here is left to the sweep.
    """
    ended = 0
    try:
        async for note in store.journal.notes(bucket, attempt=attempt):
            ended += await abort_noted(store, bucket, note)
            await store.journal.closed(bucket, note.attempt)
    except StoreError as error:
        log.warning("upload_left_to_sweep", bucket=bucket, attempt=attempt, error=str(error))
    return ended


async def sweep(store: StoreAccess, bucket: str, *, older_than_s: float, now: float | None = None) -> Swept:
    """Abort our uploads that began more than `older_than_s` seconds ago and were never ended.

    Give it more than the longest transfer takes: an upload that still moves would be aborted too (and its
    object listed or retried, never damaged).

    Raises:
        StoreError: the notes or the open uploads cannot be listed.
    """
    at = time.time() if now is None else now
    aborted = forgotten = young = failed = 0
    async for note in store.journal.notes(bucket):
        if at - note.at < older_than_s:
            young += 1
            continue
        try:
            aborted += await abort_noted(store, bucket, note)
            await store.journal.closed(bucket, note.attempt)
            forgotten += 1
        except StoreError as error:
            failed += 1
            log.warning("sweep_failed", bucket=bucket, key=note.key, error=str(error))
    headers = store.common_headers
    async for upload in list_uploads(store.transport, bucket, PROBE_PREFIX, headers=headers):
        if upload.key.startswith(PROBE_PREFIX) and at - upload.initiated >= older_than_s:
            begun = multipart.Begun(bucket=bucket, key=upload.key, id=upload.upload_id)
            try:
                await multipart.abort(store.transport, begun, headers=headers)
                aborted += 1
            except StoreError as error:
                failed += 1
                log.warning("sweep_failed", bucket=bucket, key=upload.key, error=str(error))
    if aborted or failed:
        log.info("uploads_swept", bucket=bucket, aborted=aborted, failed=failed, young=young)
    return Swept(aborted=aborted, forgotten=forgotten, young=young, failed=failed)
