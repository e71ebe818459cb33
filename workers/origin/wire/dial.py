"""One request's wait for its connection, then for the first byte.

Owns the record that the guard writes its refusals into. When waits end is `workers.deadlines`' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.deadlines import Wait

if TYPE_CHECKING:
    import asyncio

    from workers.origin.wire.addresses import Refusal


class Dial(Wait):
    """One wait: the connect deadline becomes the first-byte deadline once connected."""

    __slots__ = ("connected", "refusals")

    def __init__(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(at, loop)
        self.connected = False
        #: What the guard refused while connecting.
        self.refusals: list[Refusal] = []
