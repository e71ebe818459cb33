"""What every step of the demo works with: the sample origin, the running system, clients, and the audience.

Owns how things are said and checked; a step that finds a difference raises `DemoFailed`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from scheduler.demo.system import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import httpx

    from scheduler.demo.content import Sample
    from scheduler.demo.origin import SampleOrigin
    from scheduler.demo.system import System
    from workers.store.client import ObjectStore

BUCKET = "demo"


@dataclass(slots=True, kw_only=True)
class Stage:
    """One run of the demo."""

    samples: Mapping[str, Sample]
    origin: SampleOrigin
    system: System
    http: httpx.AsyncClient
    store: ObjectStore
    #: Keys that must be in the bucket by now.
    moved: set[str] = field(default_factory=set)
    #: Lines of the summary: what, and the number that shows it.
    summary: list[tuple[str, str]] = field(default_factory=list)
    checks: int = 0

    def url(self, key: str) -> str:
        """Where the gateway serves a key."""
        return f"{self.system.gateway}/{BUCKET}/{quote(key)}"

    def say(self, text: str) -> None:
        """One line for the audience."""
        click.echo(f"    {text}")

    def check(self, holds: bool, what: str) -> None:
        """Fail loudly unless `holds`.

        Raises:
            DemoFailed: with `what` was expected.
        """
        self.checks += 1
        if not holds:
            raise DemoFailed(what)

    def note(self, what: str, number: str) -> None:
        """A line for the summary."""
        self.summary.append((what, number))

    def body(self, key: str) -> bytes:
        """The origin's bytes of a key."""
        return self.samples[key].path.read_bytes()

    @property
    def bearer(self) -> dict[str, str]:
        """Headers for the admin side."""
        return {"Authorization": f"Bearer {self.system.token}"}

    async def until(
        self, what: str, condition: Callable[[], Awaitable[bool]], *, timeout_s: float = 90.0
    ) -> float:
        """Poll until it holds; the seconds it took.

        Raises:
            DemoFailed: it did not hold in time.
        """
        began = time.monotonic()
        while not await condition():
            if time.monotonic() - began > timeout_s:
                msg = f"{what}: not within {timeout_s:.0f} s"
                raise DemoFailed(msg)
            await asyncio.sleep(0.1)
        return time.monotonic() - began
