"""Gateways over the real store and the real Redis, and the misbehaving origin."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from support.gateway import running_gateway
from support.origin.chaos import ChaosOrigin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from support.gateway import Front


@pytest.fixture
async def chaos() -> AsyncIterator[ChaosOrigin]:
    async with ChaosOrigin() as origin:
        yield origin


@pytest.fixture
def mirror(chaos: ChaosOrigin) -> Callable[..., dict[str, Any]]:
    """A rule to the chaos origin; sections are given as keywords."""

    def make(kind: str = "mirror", **sections: Any) -> dict[str, Any]:
        document: dict[str, Any] = {
            "name": "r",
            "type": kind,
            "request": {"protocol": "http"},
            "origin": {"hosts": [{"host": chaos.host}]},
        }
        for name, section in sections.items():
            document[name] = {**document.get(name, {}), **section} if isinstance(section, dict) else section
        return document

    return make


@pytest.fixture
async def start(seaweed: Any, valkey_url: str, bucket: str) -> AsyncIterator[Callable[..., Awaitable[Front]]]:
    """Start a gateway with these rules; it ends with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(*rules: Any, **more: Any) -> Front:
            return await stack.enter_async_context(
                running_gateway(seaweed, valkey_url, more.pop("bucket", bucket), list(rules) or None, **more)
            )

        yield begin


@pytest.fixture(autouse=True)
def plain_log() -> None:
    """Tracebacks as text: drawing them with all locals takes longer than the tests."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ]
    )
