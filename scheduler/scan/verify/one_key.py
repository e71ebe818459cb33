"""One key in a verification: missing in the store, is it at the origin? There, has it the origin's bytes?

Owns what a look at one key finds. Nothing is changed, and nothing counted.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, NamedTuple

from scheduler.scan.verify.at_origin import origin_digest, origin_has
from workers.errors import TransferError
from workers.store.metadata import is_mirrored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from scheduler.runtime import Services
    from scheduler.scan.verify.report import Finding

#: Keys of one range that are looked at at the same time.
CONCURRENCY = 8


class Look(NamedTuple):
    """What a look at a key found."""

    #: None: it is as it should be, or (of a missing key) it is at no origin either.
    finding: Finding | None
    detail: str = ""
    #: Bytes that were compared; None: none could be.
    compared_bytes: int | None = None


async def ask_origin(services: Services, bucket: str, key: str) -> Look:
    """Whether a key that the store lacks is at the origin: `missing` when it is, or when nobody can tell."""
    try:
        there = await origin_has(services, bucket, key)
    except TransferError as error:
        return Look("missing", f"and the origin: {error}")
    return Look("missing" if there else None)


async def compare_bytes(services: Services, bucket: str, key: str) -> Look:
    """Whether store and origin give the same bytes."""
    try:
        async with await services.store.get(bucket, key) as answer:
            if answer.status != 200 or answer.info is None:
                return Look("unreadable", f"the store answers {answer.status}")
            mine = hashlib.sha256()
            size = 0
            async for chunk in answer.chunks():
                mine.update(chunk)
                size += len(chunk)
            stored = answer.info
        theirs = await origin_digest(services, bucket, key)
    except TransferError as error:
        return Look("unreadable", str(error))
    if theirs is None:
        return Look("absent_at_origin", "in the store, and not to be compared with anything")
    digest, headers = theirs
    if digest == mine.hexdigest():
        return Look(None, compared_bytes=size)
    # Other bytes: the origin changed since, if its validators are not those that were stored.
    meta = stored.user_meta
    was = (meta.get("ferryman-source-etag", ""), meta.get("ferryman-source-last-modified", ""))
    now = (headers.get("etag", ""), headers.get("last-modified", ""))
    changed = any(old and new and old != new for old, new in zip(was, now, strict=True))
    by = "written by Ferryman" if is_mirrored(stored) else "written by somebody else"
    detail = f"SHA-256 {mine.hexdigest()} in the store, {by}; {digest} at the origin"
    return Look("drift" if changed else "bytes", detail, size)


async def each(keys: Iterable[str], step: Callable[[str], Awaitable[bool]]) -> None:
    """Take the step for every key, a few at a time, until one says False."""
    waiting = iter(keys)
    going = True

    async def work() -> None:
        nonlocal going
        for key in waiting:
            if not going:
                return
            going = await step(key) and going

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
