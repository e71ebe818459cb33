"""Inventory from the listing of an S3-compatible bucket: another store, OSS, COS or GCS by their S3
endpoints.

Owns how such a source is named. The argument is the bucket's name; options are those of `store` in
config.yaml that say where it is (`endpoint`, `region`, `access_key_id`, `secret_access_key` or `…_file`,
`profile`, `addressing`, `ca_file`), and `prefix`; without an endpoint it is the configured store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from scheduler.scan.inventory.entry import Entry
from workers.errors import ConfigError
from workers.settings import StoreSettings
from workers.store.client import ObjectStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scheduler.runtime import Services
    from scheduler.scan.inventory.walk import Walk


async def entries(
    argument: Any, options: dict[str, Any], services: Services, walk: Walk
) -> AsyncIterator[Entry]:
    """Every object of the bucket below `prefix`; an MD5-shaped ETag is its digest.

    Raises:
        ConfigError: an option is unknown or wrong.
        StoreError: a page of the listing failed; never taken for its end (P31).
    """
    where = {name: value for name, value in options.items() if name != "prefix"}
    prefix = str(options.get("prefix", ""))
    if walk.prefix.startswith(prefix):
        prefix = walk.prefix
    try:
        settings = StoreSettings.model_validate(where) if where else services.settings.store
    except ValidationError as error:
        first = error.errors()[0]
        msg = f"inventory bucket: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ConfigError(msg) from error
    if not where:
        async for entry in _list(services.store, str(argument), prefix, walk):
            yield entry
        return
    async with ObjectStore(settings, services.settings.limits) as store:
        async for entry in _list(store, str(argument), prefix, walk):
            yield entry


async def _list(store: ObjectStore, bucket: str, prefix: str, walk: Walk) -> AsyncIterator[Entry]:
    async for page in store.list(bucket, prefix):
        walk.pages += 1
        for key in page.unreadable:
            walk.miss(f"{bucket}/{key}", "its key is not UTF-8")
        for listed in page.objects:
            md5 = len(listed.etag) == 32 and all(char in "0123456789abcdef" for char in listed.etag)
            digest = f"md5:{listed.etag}" if md5 else None
            yield Entry(listed.key, listed.size, digest, listed.last_modified or None)
