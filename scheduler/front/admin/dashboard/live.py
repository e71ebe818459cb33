"""A page that stays open: its room, drawn anew when something changed, by server-sent events.

Owns the stream. One drawing serves everybody who looks at a room at the same time; a page that went away
ends its stream at the next event.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from scheduler.front.admin.dashboard.board import FRESH_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from scheduler.front.admin.dashboard.board import Board

#: Seconds between two looks, and after which a quiet stream says that it lives.
EVERY_S: Final = FRESH_S
ALIVE_S: Final = 15.0
#: Drawings that are kept for all who look; they are anew with every reading.
_DRAWN: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawing:
    """The inside of a room, and the event that brings it to a page."""

    text: str
    event: bytes


def live(
    board: Board, draw: Callable[[str, Request], Awaitable[str | None]]
) -> Callable[[Request], Awaitable[Response]]:
    """The handler of `/live?room=/scans?name=site`; `draw` gives the inside of such a room, or None."""
    drawn: dict[tuple[str, str, bool], tuple[object, asyncio.Task[_Drawing | None]]] = {}

    async def drawing(room: str, request: Request) -> _Drawing | None:
        path, _, query = room.partition("?")
        text = await draw(path, Request({**request.scope, "path": path, "query_string": query.encode()}))
        if text is None:
            return None
        lines = "".join(f"data: {line}\n" for line in text.splitlines())
        return _Drawing(text=text, event=f"event: room\n{lines}\n".encode())

    async def inside(room: str, request: Request) -> _Drawing | None:
        reading = await board.read()
        visitor = request.scope["ferryman.visitor"]
        who = (room, visitor.name, bool(visitor.csrf))
        known = drawn.get(who)
        if known is None or known[0] is not reading:
            if len(drawn) >= _DRAWN:
                drawn.clear()
            # Who comes while it is drawn waits for the same drawing; who leaves does not take it along.
            known = (reading, asyncio.create_task(drawing(room, request), name="drawing"))
            drawn[who] = known
        return await asyncio.shield(known[1])

    async def events(room: str, request: Request) -> AsyncIterator[bytes]:
        last, said = "", time.monotonic()
        yield b"retry: 3000\n\n"
        going = True
        while going and not await request.is_disconnected():
            found = await inside(room, request)
            if found is not None and found.text != last:
                yield found.event
                last, said = found.text, time.monotonic()
            elif time.monotonic() - said > ALIVE_S:
                yield b": alive\n\n"
                said = time.monotonic()
            going = await board.until_next(EVERY_S)

    async def answer(request: Request) -> Response:
        room = request.query_params.get("room", "/")
        if await inside(room, request) is None:
            return Response(f"no room {room!r} that follows the state", status_code=404)
        return StreamingResponse(
            events(room, request),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return answer
