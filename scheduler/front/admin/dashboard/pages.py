"""The rooms of the operations page: routes, templates, and what each template is given.

Owns the list of rooms and their looks. Every value that comes from outside is escaped by the templates.
Whatever a page changes, its script asks of `/v1/…`, so there is no route here that changes anything.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from redis.exceptions import RedisError
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from scheduler.config import quantity
from scheduler.front.admin.dashboard.live import live
from scheduler.front.admin.dashboard.pictures import pictures
from scheduler.front.admin.dashboard.remedies import REMEDIES
from scheduler.front.admin.guard import STATIC_PREFIX, visitor_of
from scheduler.scan.inventory.opening import SOURCES
from scheduler.scan.names import TERMS, Names, first
from scheduler.scan.state import ScanStates
from workers.errors import FerrymanError, described

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from scheduler.front.admin.dashboard.board import Board
    from scheduler.runtime import Services

#: Rows of one page of failures or keys.
PAGE: Final = 100
#: The space of our own numbers.
_NARROW: Final = "\u202f"
_STATIC: Final = {"ferryman.css": "text/css", "ferryman.js": "text/javascript", "icon.svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One page: its path, its name in the navigation, and what its template is given besides the reading."""

    path: str
    name: str
    template: str
    more: Callable[[Services, Request], Awaitable[dict[str, Any]]] | None = None
    #: Whether its `main` follows the state while it is open.
    live: bool = True
    #: Whether the navigation names it.
    named: bool = True


async def _failures(services: Services, request: Request) -> dict[str, Any]:
    """The listed failures of one page: at most `PAGE` from the one asked for, never all in memory."""
    bucket = request.query_params.get("bucket", "")
    reason = request.query_params.get("reason", "")
    prefix = request.query_params.get("prefix", "")
    buckets = [bucket] if bucket in services.settings.buckets else sorted(services.settings.buckets)
    rows: list[Any] = []
    more = False
    for name in buckets:
        async for failure in services.ledger.failures.iterate(name, reason=reason):
            if not failure.key.startswith(prefix):
                continue
            more = len(rows) == PAGE
            if more:
                break
            rows.append(failure)
        if more:
            break
    return {
        "rows": rows,
        "more": more,
        "bucket": bucket,
        "reason": reason,
        "prefix": prefix,
        "remedies": REMEDIES,
    }


async def _buckets(services: Services, request: Request) -> dict[str, Any]:
    """One page of a bucket's listing, and the record of one object where a key is asked for."""
    bucket = request.query_params.get("bucket", "")
    prefix = request.query_params.get("prefix", "")
    key = request.query_params.get("key", "")
    found: dict[str, Any] = {"bucket": bucket, "prefix": prefix, "key": key, "objects": [], "more": False}
    found["object"], found["problem"] = None, ""
    if not bucket:
        return found
    if bucket not in services.settings.buckets:
        found["problem"] = f"There is no bucket {bucket!r} in config.yaml."
        return found
    try:
        if key:
            found["object"] = await services.store.head(bucket, key)
            return found
        async for page in services.store.list(bucket, prefix):
            shown = [one for one in page.objects if not one.key.startswith(".ferryman/")]
            found["objects"], found["more"] = shown[:PAGE], len(shown) > PAGE or page.continuation is not None
            break
    except FerrymanError as error:
        found["problem"] = described(error)
    return found


async def _scans(services: Services, request: Request) -> dict[str, Any]:
    del request
    return {"sources": sorted(SOURCES), "buckets": sorted(services.settings.buckets)}


async def _scan_keys(services: Services, request: Request) -> dict[str, Any]:
    """The first keys behind one term of a scan's account."""
    name, term = request.query_params.get("name", ""), request.query_params.get("term", "")
    given: dict[str, Any] = {"name": name, "term": term, "terms": TERMS, "rows": [], "more": False}
    given["problem"] = ""
    state = await ScanStates(services.redis, namespace=services.settings.broker.namespace).get(name)
    if state is None:
        return {**given, "problem": f"There is no scan {name!r}."}
    if term not in TERMS:
        return given
    try:
        found = [one async for one in first(Names(services, state).read([term]), PAGE + 1)]
    except FerrymanError as error:
        return {**given, "problem": described(error)}
    return {**given, "rows": found[:PAGE], "more": len(found) > PAGE}


async def _bucket_names(services: Services, request: Request) -> dict[str, Any]:
    del request
    return {"buckets": sorted(services.settings.buckets)}


ROOMS: Final = (
    Room(path="/", name="Glance", template="glance.html"),
    Room(path="/scans", name="Scans", template="scans.html", more=_scans),
    Room(path="/scans/keys", name="Keys", template="keys.html", more=_scan_keys, live=False, named=False),
    Room(path="/failures", name="Failures", template="failures.html", more=_failures, live=False),
    Room(path="/origins", name="Origins", template="origins.html"),
    Room(path="/logs", name="Logs", template="logs.html"),
    Room(path="/buckets", name="Buckets", template="buckets.html", more=_buckets, live=False),
)


def routes(services: Services, board: Board) -> list[Route]:
    """The rooms, their live stream and the static files."""

    def room_page(room: Room) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return HTMLResponse(
                await render(room, services, board, request), headers={"cache-control": "no-store"}
            )

        return answer

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
        Route(
            "/live",
            live(board, lambda name, request: _fragment(name, services, board, request)),
            methods=["GET"],
        ),
        Route(f"{STATIC_PREFIX}{{name}}", static, methods=["GET"]),
    ]


async def render(room: Room, services: Services, board: Board, request: Request) -> str:
    """The whole page of a room."""
    return (
        _templates()
        .get_template(room.template)
        .render(**await _given(room, services, board, request), layout="base.html")
    )


async def _fragment(name: str, services: Services, board: Board, request: Request) -> str | None:
    """What stands inside `main` of a room that follows the state; None for a room that does not."""
    room = next((room for room in ROOMS if room.path == name and room.live), None)
    if room is None:
        return None
    return (
        _templates()
        .get_template(room.template)
        .render(**await _given(room, services, board, request), layout="fragment.html")
    )


def login_page(problem: str, goes_to: str) -> str:
    """The form that takes a token."""
    return _templates().get_template("login.html").render(problem=problem, goes_to=goes_to)


async def _given(room: Room, services: Services, board: Board, request: Request) -> dict[str, Any]:
    reading = await board.read()
    more: dict[str, Any] = {}
    problem = ""
    if room.more is not None:
        try:
            more = await room.more(services, request)
        except (RedisError, OSError) as error:
            problem = described(error)
            more = {"rows": [], "more": False, "buckets": [], "sources": [], "remedies": REMEDIES}
            more |= {"problem": ""}
            more |= {"bucket": "", "reason": "", "prefix": "", "name": "", "term": "", "terms": TERMS}
    return {
        "rooms": ROOMS,
        "here": room,
        "status": reading.status,
        "glance": reading.glance,
        "stale": reading.stale or problem,
        "visitor": visitor_of(request),
        "now": time.time(),
        **(pictures(reading.glance) if room.path == "/" else {}),
        **more,
    }


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
    }
    return environment


def visible(text: object) -> str:
    """A text from outside with nothing in it that cannot be seen: controls, overrides of direction."""
    return "".join(one if one.isprintable() or one == _NARROW else f"\\u{ord(one):04x}" for one in str(text))
