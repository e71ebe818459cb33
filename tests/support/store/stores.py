"""Stores for tests: settings that fit a running server, and an upload in one call."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from workers.settings import LimitSettings, StoreSettings
from workers.store.client import ObjectStore
from workers.store.model import ObjectMeta

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.store.model import Commit

MIB = 1024 * 1024


async def no_sleep(_seconds: float) -> None:
    """Retries of tests do not wait."""


def store_at(
    endpoint: str,
    *,
    access_key_id: str = "test",
    secret_access_key: str = "test-secret",
    limits: LimitSettings | None = None,
    **settings: Any,
) -> ObjectStore:
    """A store client that is not open yet; parts have 5 MiB, so that tests stay small."""
    return ObjectStore(
        StoreSettings(
            endpoint=endpoint,
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            **{"part_size_bytes": 5 * MIB, "max_retries": 3, **settings},
        ),
        limits or LimitSettings(),
        sleep=no_sleep,
    )


def meta_of(attempt: str, **user_meta: str) -> ObjectMeta:
    """Provenance as `metadata.object_meta` writes it, the least of it."""
    names = {"ferryman-v": "1", "ferryman-attempt": attempt, "ferryman-rule": "test"}
    names.update({name.replace("_", "-"): value for name, value in user_meta.items()})
    return ObjectMeta(headers=(("Content-Type", "text/plain"),), user_meta=tuple(names.items()))


async def put(
    store: ObjectStore,
    bucket: str,
    key: str,
    body: bytes | Iterable[bytes],
    *,
    attempt: str | None = None,
    known: bool = True,
    meta: ObjectMeta | None = None,
    replace_etag: str | None = None,
) -> Commit:
    """Upload a body and commit it."""
    attempt = attempt or uuid.uuid4().hex
    chunks = [body] if isinstance(body, bytes) else list(body)
    size = sum(len(chunk) for chunk in chunks) if known else None
    async with store.upload(
        bucket,
        key,
        meta or meta_of(attempt),
        attempt=attempt,
        size=size,
        replace_etag=replace_etag,
    ) as upload:
        for chunk in chunks:
            await upload.write(chunk)
        return await upload.commit()


async def read(store: ObjectStore, bucket: str, key: str) -> bytes | None:
    """The body of an object; None when there is none."""
    async with await store.get(bucket, key) as response:
        return await response.read() if response.status == 200 else None
