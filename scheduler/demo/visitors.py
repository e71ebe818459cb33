"""Somebody who asks for a few pages a second while the demo stays up: its page has something to follow.

Owns the pace. Whoever looks for a figure finds it in `bench/`: this is no load.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import httpx

from scheduler.demo.stage import BUCKET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.demo.system import System

#: Requests a second.
PER_S: Final = 4.0
#: Objects above are left out: it is for pages and pictures.
_MOST_BYTES: Final = 1_000_000


async def visits(system: System, keys: Sequence[str], stop: asyncio.Event) -> None:
    """Ask for random ones of `keys` until `stop`; what does not answer is no matter."""
    chance = random.Random()
    async with httpx.AsyncClient(timeout=10.0, trust_env=False) as http:
        while not stop.is_set():
            with contextlib.suppress(httpx.HTTPError):
                async with http.stream(
                    "GET", f"{system.gateway}/{BUCKET}/{quote(chance.choice(keys))}"
                ) as answer:
                    if int(answer.headers.get("content-length", 0)) <= _MOST_BYTES:
                        await answer.aread()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1 / PER_S)
