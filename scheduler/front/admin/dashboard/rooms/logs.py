"""The room of logs: what each consumer says of its files, with the last lines that it could not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler.logs.board import consumers

if TYPE_CHECKING:
    from starlette.requests import Request

    from scheduler.runtime import Services

NOTHING: dict[str, Any] = {"files": []}


async def logs(services: Services, request: Request) -> dict[str, Any]:
    """Each followed file: consumer, format, and the lines that were not read."""
    del request
    rows = await consumers(services.redis, namespace=services.settings.broker.namespace)
    files = [
        {"instance": instance, **file}
        for instance, state in sorted(rows.items())
        for file in state.get("files", ())
    ]
    return {"files": files}
