"""Inventory from the listing of an S3-compatible bucket: another store, OSS, COS or GCS by their S3
endpoints.

Owns how such a source is named. The argument is the bucket's name; options are those of `store` in
config.yaml that say where it is (`endpoint`, `region`, `access_key_id`, `secret_access_key` or `…_file`,
`profile`, `addressing`, `ca_file`), and `prefix`; without an endpoint it is the configured store. `listing`
says how another store lists, where shards need to know: `bytes` (as S3 does, and `start-after` is obeyed) or
`other`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from scheduler.scan.inventory.entry import Columns
from scheduler.scan.inventory.lines.columns import joined
from workers.background import end
from workers.errors import ConfigError
from workers.settings import StoreSettings
from workers.store.client import ObjectStore
from workers.store.model import ListedColumns, iso_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from scheduler.runtime import Services
    from scheduler.scan.inventory.walk import Walk
    from workers.store.model import ListedObject, ListPage

#: Pages that are handed on at a time, at most.
_PAGES = 5
_HEX = "0123456789abcdef"


async def blocks(
    argument: Any, options: dict[str, Any], services: Services, walk: Walk
) -> AsyncIterator[Columns]:
    """Every object of the bucket below `prefix`; an MD5-shaped ETag is its digest.

    Raises:
        ConfigError: an option is unknown or wrong.
        StoreError: a page of the listing failed; never taken for its end (P31).
    """
    async with opened(argument, options, services, walk.prefix) as (store, bucket, prefix):
        async for block in _list(store, bucket, prefix, walk):
            yield block


@contextlib.asynccontextmanager
async def opened(
    argument: Any, options: dict[str, Any], services: Services, wanted: str
) -> AsyncIterator[tuple[ObjectStore, str, str]]:
    """The store, the bucket, and the prefix that is listed, for who wants keys that begin with `wanted`.

    Raises:
        ConfigError: an option is unknown or wrong.
    """
    where = {name: value for name, value in options.items() if name not in {"prefix", "listing"}}
    prefix = str(options.get("prefix", ""))
    if wanted.startswith(prefix):
        prefix = wanted
    if options.get("listing", "bytes") not in {"bytes", "other"}:
        msg = f"inventory bucket: listing: {options['listing']!r}; allowed are bytes and other"
        raise ConfigError(msg)
    try:
        settings = StoreSettings.model_validate(where) if where else services.settings.store
    except ValidationError as error:
        first = error.errors()[0]
        msg = f"inventory bucket: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ConfigError(msg) from error
    if not where:
        yield services.store, str(argument), prefix
        return
    async with ObjectStore(settings, services.settings.limits) as store:
        yield store, str(argument), prefix


async def _list(store: ObjectStore, bucket: str, prefix: str, walk: Walk) -> AsyncIterator[Columns]:
    """Some pages at a time; the next one is asked for while the caller works on them."""
    pages = store.list(bucket, prefix)
    held: list[Columns] = []
    ahead = asyncio.create_task(_next(pages))
    try:
        while (page := await ahead) is not None:
            ahead = asyncio.create_task(_next(pages))
            walk.pages += 1
            for key in page.unreadable:
                walk.miss(f"{bucket}/{key}", "its key is not UTF-8")
            held.append(columns_of(page.objects))
            if len(held) >= _PAGES:
                yield joined(held)
                held = []
        if held:
            yield joined(held)
    finally:
        await end(ahead)


async def _next(pages: AsyncIterator[ListPage]) -> ListPage | None:
    return await anext(pages, None)


def columns_of(objects: Sequence[ListedObject]) -> Columns:
    """Listed objects as entries; an MD5-shaped ETag is the digest."""
    if isinstance(objects, ListedColumns):
        keys, sizes, etags = objects.keys, objects.sizes, objects.etags
        times = list(map(iso_time, objects.times))
    else:
        keys, sizes = [one.key for one in objects], [str(one.size) for one in objects]
        etags, times = [one.etag for one in objects], [one.last_modified for one in objects]
    every = "".join(etags)
    if set(map(len, etags)) <= {32} and not every.strip(_HEX):
        digests = list(map("md5:".__add__, etags))
    else:
        digests = [f"md5:{etag}" if len(etag) == 32 and not etag.strip(_HEX) else "" for etag in etags]
    return Columns(keys, sizes, digests, [repr(time) if time else "" for time in times])
