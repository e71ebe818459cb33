"""The rooms of the operations page: routes, templates, and what each template is given.

Owns the list of rooms and their looks. Every value that comes from outside is escaped by the templates.
Whatever a page changes, its script asks of `/v1/…`, so there is no route here that changes anything.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from redis.exceptions import RedisError
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from scheduler.config import quantity
from scheduler.front.admin.dashboard.live import live
from scheduler.front.admin.dashboard.pictures import pictures
from scheduler.front.admin.dashboard.room import LastKnown, Missing, Room
from scheduler.front.admin.dashboard.rooms import buckets, failures, gate, logs, origins, rules, scans
from scheduler.front.admin.guard import STATIC_PREFIX, visitor_of
from workers.errors import BrokerUnavailable, described

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from scheduler.front.admin.dashboard.board import Board
    from scheduler.front.admin.guard import Visitor
    from scheduler.runtime import Services

#: The space of our own numbers.
_NARROW: Final = "\u202f"
_STATIC: Final = {
    "ferryman.css": "text/css",
    "rooms.css": "text/css",
    "ferryman.js": "text/javascript",
    "rooms.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


ROOMS: Final = (
    Room(path="/", name="Glance", template="glance.html"),
    Room(path="/scans", name="Scans", template="scans.html", more=scans.scans, nothing=scans.NOTHING),
    Room(
        path="/scans/keys",
        name="Keys",
        template="keys.html",
        more=scans.scan_keys,
        nothing=scans.NO_KEYS,
        live=False,
        named=False,
    ),
    Room(
        path="/failures",
        name="Failures",
        template="failures.html",
        more=failures.failures,
        nothing=failures.NOTHING,
        live=False,
    ),
    Room(path="/rules", name="Rules", template="rules.html", more=rules.rules, live=False),
    Room(
        path="/origins",
        name="Origins",
        template="origins.html",
        more=origins.origins,
        nothing=origins.NOTHING,
    ),
    Room(path="/logs", name="Logs", template="logs.html", more=logs.logs, nothing=logs.NOTHING),
    Room(path="/gate", name="Gate", template="gate.html", more=gate.gate, live=False),
    Room(
        path="/buckets",
        name="Buckets",
        template="buckets.html",
        more=buckets.buckets,
        nothing=buckets.NOTHING,
        live=False,
    ),
)
#: Rooms that show one thing each at `/room/name`, beside the parameter.
_OF_ONE: Final = ("/scans", "/rules", "/gate", "/buckets")


def routes(services: Services, board: Board) -> list[Route]:
    """The rooms, their live stream and the static files."""
    known = LastKnown()

    def room_page(room: Room) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            status = 200
            try:
                html = await render(room, services, board, request, known=known)
            except Missing as missing:
                status, html = 404, missing_page(str(missing), visitor_of(request), room)
            return HTMLResponse(html, status_code=status, headers={"cache-control": "no-store"})

        return answer

    async def inside(name: str, request: Request) -> str | None:
        """What stands inside `main` of a room that follows the state; None for a room that does not."""
        room = next((room for room in ROOMS if room.path == name and room.live), None)
        if room is None:
            return None
        try:
            return await render(room, services, board, request, known=known, layout="fragment.html")
        except Missing:
            return None

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            return Response(status_code=404)
        return FileResponse(
            Path(__file__).with_name("static") / name,
            media_type=_STATIC[name],
            headers={"cache-control": "max-age=300"},
        )

    return [
        *(Route(room.path, room_page(room), methods=["GET"]) for room in ROOMS),
        *(
            Route(f"{room.path}/{{name}}", room_page(room), methods=["GET"])
            for room in ROOMS
            if room.path in _OF_ONE
        ),
        Route("/live", live(board, inside), methods=["GET"]),
        Route(f"{STATIC_PREFIX}{{name}}", static, methods=["GET"]),
    ]


async def render(
    room: Room,
    services: Services,
    board: Board,
    request: Request,
    *,
    known: LastKnown | None = None,
    layout: str = "base.html",
) -> str:
    """A room, as a whole page or as what stands inside its `main`.

    Raises:
        Missing: what the address names does not exist.
    """
    given = await _given(room, services, board, request, known or LastKnown())
    return (
        _templates()
        .get_template(room.template if given["readable"] else "away.html")
        .render(**given, layout=layout)
    )


def missing_page(message: str, visitor: Visitor, room: Room | None = None) -> str:
    """The page that says that something is not there."""
    return (
        _templates()
        .get_template("missing.html")
        .render(rooms=ROOMS, here=room, visitor=visitor, message=message, address="", stale="")
    )


def login_page(problem: str, goes_to: str) -> str:
    """The form that takes a token."""
    return _templates().get_template("login.html").render(problem=problem, goes_to=goes_to)


async def _given(
    room: Room, services: Services, board: Board, request: Request, known: LastKnown
) -> dict[str, Any]:
    reading = await board.read()
    stale, stale_at = reading.stale, reading.status.at
    more: dict[str, Any] = {}
    readable = True
    if room.more is not None:
        path, query = request.url.path, request.url.query
        try:
            more = await room.more(services, request)
            known.keep(path, query, time.time(), more)
        except (RedisError, OSError, BrokerUnavailable) as error:
            stale = stale or described(error)
            before = known.of(path, query)
            if before is not None:
                stale_at, more = before
            readable = before is not None or bool(room.nothing)
            more = {**room.nothing, **more}
    return {
        "rooms": ROOMS,
        "here": room,
        "address": _address(room, request),
        "status": reading.status,
        "glance": reading.glance,
        "stale": stale,
        "stale_at": stale_at,
        "readable": readable,
        "visitor": visitor_of(request),
        "now": time.time(),
        **(pictures(reading.glance) if room.path == "/" else {}),
        **more,
    }


def _address(room: Room, request: Request) -> str:
    """What of its address a page that stays open asks for again."""
    query = request.url.query
    if "name" in request.path_params:
        query = urlencode({"name": request.path_params["name"]})
    return f"{room.path}?{query}" if query else room.path


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("scheduler.front.admin.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": lambda value: "-" if value is None else quantity.plain_number(value),
        "size": lambda value: "-" if value is None else quantity.size(value),
        "duration": lambda value: "-" if value is None else quantity.duration(value),
        "iso": lambda value: datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds"),
        "visible": visible,
        "shown": lambda text: "\n".join(visible(line) for line in str(text).split("\n")),
    }
    return environment


def visible(text: object) -> str:
    """A text from outside with nothing in it that cannot be seen: controls, overrides of direction."""
    return "".join(one if one.isprintable() or one == _NARROW else f"\\u{ord(one):04x}" for one in str(text))
