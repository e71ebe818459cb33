"""The room of failures: one page of what could not be moved, or the attempts of one key."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scheduler.front.admin.dashboard.remedies import OTHER, REMEDIES
from scheduler.front.admin.dashboard.room import LOOKED_S, PAGE, Missing

if TYPE_CHECKING:
    from starlette.requests import Request

    from scheduler.runtime import Services

NOTHING: dict[str, Any] = {
    "rows": [],
    "more": False,
    "bucket": "",
    "reason": "",
    "prefix": "",
    "key": "",
    "waivers": {},
    "remedies": REMEDIES,
    "other_remedy": OTHER,
}


async def failures(services: Services, request: Request) -> dict[str, Any]:
    """The listed failures of one page: at most `PAGE` from the one asked for, never all in memory."""
    bucket = request.query_params.get("bucket", "")
    reason = request.query_params.get("reason", "")
    prefix = request.query_params.get("prefix", "")
    key = request.query_params.get("key", "")
    if bucket and bucket not in services.settings.buckets:
        raise Missing(f"There is no bucket {bucket!r} in config.yaml.")
    asked = {"bucket": bucket, "reason": reason, "prefix": prefix, "key": key}
    buckets = [bucket] if bucket else sorted(services.settings.buckets)
    if key:
        one = [await services.ledger.failures.get(name, key) for name in buckets]
        return {**NOTHING, **asked, "rows": [failure for failure in one if failure is not None]}
    rows: list[Any] = []
    more = False
    ends = time.monotonic() + LOOKED_S
    for name in buckets:
        left = max(0.0, ends - time.monotonic())
        found = services.ledger.failures.iterate(name, reason=reason, prefix=prefix, within_s=left)
        async for failure in found:
            more = len(rows) == PAGE
            if more:
                break
            rows.append(failure)
        if more:
            break
    # Rare ones among a million are not searched for while somebody waits: that is the export's.
    return {**NOTHING, **asked, "rows": rows, "more": more or time.monotonic() > ends}
