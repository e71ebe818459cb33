"""The way back in tests: a rule that writes back to a bucket, and a worker's part of it in this process."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from support.gateway import until
from support.patience import PATIENCE_S
from workers.back.drain import Drain
from workers.back.settle import Settler
from workers.back.wire import OriginWire
from workers.back.writer import OriginWriter
from workers.background import end
from workers.telemetry.metrics import BackCounts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scheduler.runtime import Services

ORIGIN_KEY = "ORIGIN-KEY"


def back_rule(
    endpoint: str, bucket: str, *, mode: str = "async", prefix: str = "", **changes: Any
) -> dict[str, Any]:
    """A rule whose origin is a bucket of `endpoint`, written back to."""
    parts = urlsplit(endpoint)
    host = {"host": parts.netloc, "base_path": f"/{bucket}/", "credential": "old"}
    return {
        "name": "r",
        "type": "mirror",
        "when": {"prefix": prefix},
        "request": {"protocol": parts.scheme},
        "origin": {"hosts": [host], "write_back": mode},
        **changes,
    }


def origin_sections(key_id: str = ORIGIN_KEY, secret: str = "origin-secret") -> dict[str, Any]:
    """The credential that such a rule names."""
    credential = {"type": "s3v4", "access_key_id": key_id, "secret_access_key": secret}
    return {"origin": {"credentials": {"old": credential}}}


@contextlib.asynccontextmanager
async def settling(services: Services) -> AsyncIterator[Settler]:
    """Who brings single keys, until the block ends."""
    settings = services.settings
    async with OriginWire(settings.origin, services.control) as wire:
        yield Settler(
            ledger=services.ledger,
            store=services.store,
            writer=OriginWriter(wire),
            owner=f"worker-{uuid.uuid4().hex}",
            max_attempts=settings.limits.max_attempts,
            observer=BackCounts(),
        )


@contextlib.asynccontextmanager
async def draining(services: Services) -> AsyncIterator[Drain]:
    """Work off what is due, as a worker process does, until the block ends."""
    settings = services.settings
    async with settling(services) as settler:
        drain = Drain(services.ledger.back, settler, concurrency=settings.limits.item_concurrency)
        running = asyncio.create_task(drain.run())
        try:
            yield drain
        finally:
            await end(running)


async def until_equal(services: Services, bucket: str, *, timeout_s: float = PATIENCE_S) -> None:
    """Wait until nothing of a bucket is pending on the way back."""

    async def equal() -> bool:
        return (await services.ledger.back.state(bucket)).pending == 0

    await until(equal, timeout_s=timeout_s)
