"""The room of buckets: what is stored below a prefix, what only the origin has, one object, tombstones."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from scheduler.front.admin.dashboard.room import LOOKED_S, PAGE, Missing, asked
from scheduler.scan.names import Names
from scheduler.scan.record.state import ScanStates
from workers.errors import FerrymanError, described

if TYPE_CHECKING:
    from starlette.requests import Request

    from scheduler.runtime import Services

NOTHING: dict[str, Any] = {
    "bucket": "",
    "prefix": "",
    "key": "",
    "after": "",
    "objects": [],
    "folders": [],
    "crumbs": [],
    "more": False,
    "next_after": "",
    "object": None,
    "problem": "",
    "view": "stored",
    "bucket_names": [],
    "only_origin": [],
    "scan_name": "",
    "tombstone": None,
    "tombstones": [],
}
#: Pages of a listing that one look reads at most: a folder of a million keys is one row.
_MOST_PAGES: Final = 5
#: Keys that one look for what only the origin has reads at most.
_MOST_READ: Final = 20_000
#: Tombstones that one look reads at most.
_MOST_TOMBSTONES: Final = 10_000
#: Terms of a scan's account whose keys the store does not hold though the origin may.
_NOT_STORED: Final = ("skipped", "excluded", "failed")
VIEWS: Final = ("stored", "origin", "tombstones")


async def buckets(services: Services, request: Request) -> dict[str, Any]:
    """One of three views of a bucket below a prefix, or one object."""
    bucket = asked(request, "bucket")
    key = request.query_params.get("key", "")
    view = request.query_params.get("view", "") or "stored"
    found: dict[str, Any] = {**NOTHING, "bucket": bucket, "key": key, "view": view}
    found["prefix"] = prefix = request.query_params.get("prefix", "")
    found["after"] = request.query_params.get("after", "")
    found["bucket_names"] = sorted(services.settings.buckets)
    if not bucket:
        return found
    if bucket not in services.settings.buckets:
        raise Missing(f"There is no bucket {bucket!r} in config.yaml.")
    if view not in VIEWS:
        raise Missing(f"There is no view {view!r}; there are {', '.join(VIEWS)}.")
    try:
        if key:
            found["tombstone"] = await services.ledger.claims.tombstone(bucket, key)
            found["object"] = await services.store.head(bucket, key)
        elif view == "origin":
            found |= await _only_origin(services, bucket, prefix)
        elif view == "tombstones":
            rows = await services.ledger.claims.tombstones(bucket, limit=_MOST_TOMBSTONES)
            wanted = [row for row in rows if row[0].startswith(prefix)]
            found["tombstones"], found["more"] = wanted[:PAGE], len(wanted) > PAGE
        else:
            found |= await _stored(services, bucket, prefix, found["after"])
    except FerrymanError as error:
        found["problem"] = described(error)
    return found


async def _stored(services: Services, bucket: str, prefix: str, after: str) -> dict[str, Any]:
    """Folders and objects right below the prefix, in the listing's order."""
    folders: dict[str, int] = {}
    objects: list[Any] = []
    pages, last, more = 0, "", False
    async for page in services.store.list(bucket, prefix, start_after=after or None):
        pages += 1
        for one in page.objects:
            if one.key.startswith(".ferryman/"):
                continue
            folder, slash, _ = one.key[len(prefix) :].partition("/")
            if len(objects) + len(folders) >= PAGE and not (slash and prefix + folder + "/" in folders):
                more = True
                break
            last = one.key
            if slash:
                name = f"{prefix}{folder}/"
                folders[name] = folders.get(name, 0) + 1
            else:
                objects.append(one)
        if more or (pages == _MOST_PAGES and page.continuation is not None):
            more = True
            break
    return {
        "objects": objects,
        "folders": sorted(folders.items()),
        "more": more,
        "next_after": last if more else "",
        "crumbs": crumbs(prefix),
    }


async def _only_origin(services: Services, bucket: str, prefix: str) -> dict[str, Any]:
    """Keys that the newest scan of the bucket names and the store does not hold, and listed failures."""
    states = await ScanStates(services.redis, namespace=services.settings.broker.namespace).recent()
    own = [state for state in states if state.options.bucket == bucket]
    newest = max(own, key=lambda state: state.requested_at, default=None)
    rows: dict[str, tuple[str, str]] = {}
    read = 0
    more = False
    if newest is not None:
        async for one in Names(services, newest).read(_NOT_STORED):
            read += 1
            if one.key.startswith(prefix):
                rows.setdefault(one.key, (one.term, one.reason))
            if len(rows) > PAGE or read >= _MOST_READ:
                more = True
                break
    ends = time.monotonic() + LOOKED_S
    async for failure in services.ledger.failures.iterate(bucket, prefix=prefix, within_s=LOOKED_S):
        if len(rows) > PAGE:
            break
        rows[failure.key] = ("failed", failure.reason)
    more = more or len(rows) > PAGE or time.monotonic() > ends
    return {
        "only_origin": [(key, *rows[key]) for key in sorted(rows)][:PAGE],
        "more": more,
        "scan_name": newest.name if newest is not None else "",
    }


def crumbs(prefix: str) -> list[tuple[str, str]]:
    """The folders that lead to a prefix, as (name, prefix)."""
    parts = prefix.split("/")[:-1]
    return [(f"{part}/", "/".join(parts[: at + 1]) + "/") for at, part in enumerate(parts)]
