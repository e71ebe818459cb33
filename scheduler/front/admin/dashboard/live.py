"""A page that stays open: its room, drawn anew when something changed, by server-sent events.

Owns the stream. One drawing serves everybody who looks at a room at the same time; a page that went away
ends its stream at the next event.
"""

from __future__ import annotations

import time
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


def live(
    board: Board, draw: Callable[[str, Request], Awaitable[str | None]]
) -> Callable[[Request], Awaitable[Response]]:
    """The handler of `/live?room=/scans?name=site`; `draw` gives the inside of such a room, or None."""
    drawn: dict[tuple[str, str, bool], tuple[object, str]] = {}

    async def inside(room: str, request: Request) -> str | None:
        reading = await board.read()
        visitor = request.scope["ferryman.visitor"]
        who = (room, visitor.name, bool(visitor.csrf))
        known = drawn.get(who)
        if known is not None and known[0] is reading:
            return known[1]
        path, _, query = room.partition("?")
        text = await draw(path, Request({**request.scope, "path": path, "query_string": query.encode()}))
        if text is not None:
            if len(drawn) >= _DRAWN:
                drawn.clear()
            drawn[who] = (reading, text)
        return text

    async def events(room: str, request: Request) -> AsyncIterator[str]:
        last, said = "", time.monotonic()
        yield "retry: 3000\n\n"
        going = True
        while going and not await request.is_disconnected():
            text = await inside(room, request) or ""
            if text != last:
                yield "event: room\n" + "".join(f"data: {line}\n" for line in text.splitlines()) + "\n"
                last, said = text, time.monotonic()
            elif time.monotonic() - said > ALIVE_S:
                yield ": alive\n\n"
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
