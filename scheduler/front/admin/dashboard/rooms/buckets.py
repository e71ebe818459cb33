"""The room of buckets: what is stored below a prefix, and one object with where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler.front.admin.dashboard.room import PAGE, Missing, asked
from workers.errors import FerrymanError, described

if TYPE_CHECKING:
    from starlette.requests import Request

    from scheduler.runtime import Services

NOTHING: dict[str, Any] = {
    "bucket": "",
    "prefix": "",
    "key": "",
    "objects": [],
    "more": False,
    "object": None,
    "problem": "",
}


async def buckets(services: Services, request: Request) -> dict[str, Any]:
    """One page of a bucket's listing, and the record of one object where a key is asked for."""
    bucket = asked(request, "bucket")
    prefix = request.query_params.get("prefix", "")
    key = request.query_params.get("key", "")
    found: dict[str, Any] = {**NOTHING, "bucket": bucket, "prefix": prefix, "key": key}
    found["bucket_names"] = sorted(services.settings.buckets)
    if not bucket:
        return found
    if bucket not in services.settings.buckets:
        raise Missing(f"There is no bucket {bucket!r} in config.yaml.")
    try:
        if key:
            found["object"] = await services.store.head(bucket, key)
            return found
        async for page in services.store.list(bucket, prefix):
            shown = [one for one in page.objects if not one.key.startswith(".ferryman/")]
            found["objects"], found["more"] = shown[:PAGE], len(shown) > PAGE or page.continuation is not None
            break
    except FerrymanError as error:
        found["problem"] = described(error)
    return found
