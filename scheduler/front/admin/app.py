"""The admin application: the routes of every admin module and of the page, behind one guard, errors as JSON.

Owns what is joined and how errors look. What a route does is its module's; who may come in is `guard`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.routing import Match, Route

from scheduler.config.admin_token import token_of, viewer_token_of
from scheduler.front.admin import back, events, failures, gate, metrics, origins, rules, scans
from scheduler.front.admin.dashboard import pages
from scheduler.front.admin.described.document import openapi_route
from scheduler.front.admin.guard import Guard, refusal
from workers.errors import BrokerUnavailable, ConfigError, FerrymanError, QueueFull, StoreError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from scheduler.front.admin.dashboard.board import Board
    from scheduler.runtime import Services

log = structlog.get_logger(__name__)


def make_app(services: Services, board: Board) -> ASGIApp:
    """The admin application over the services of this process; `board` is what its page shows."""
    api = [
        *events.routes(services),
        *rules.routes(services),
        *scans.routes(services),
        *failures.routes(services),
        *gate.routes(services),
        *origins.routes(services),
        *back.routes(services),
    ]
    app = Starlette(
        routes=[
            *api,
            openapi_route(api),
            *metrics.routes(services),
            *pages.routes(services, board),
        ],
        exception_handlers={
            HTTPException: _http_error,
            FerrymanError: _our_error,
            Exception: _unexpected,
        },
    )
    return Guard(
        app,
        token_of(services.settings),
        viewer_token=viewer_token_of(services.settings),
        login_page=pages.login_page,
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    seen = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")
    visitor = request.scope.get("ferryman.visitor")
    if error.status_code == 404 and seen and visitor is not None:
        html = pages.missing_page(f"There is no page {request.url.path}.", visitor)
        return HTMLResponse(html, status_code=404, headers={"cache-control": "no-store"})
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_type"}
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
    return refusal(
        error.status_code,
        codes.get(error.status_code, "bad_request" if error.status_code < 500 else "failed"),
        error.detail,
        headers,
    )


def _methods(request: Request) -> list[str]:
    """What may be asked of this path: each of its methods is a route of its own."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in routes if isinstance(route, Route) for method in route.methods or ()})


async def _our_error(_: Request, error: Exception) -> Response:
    match error:
        case ConfigError():
            return refusal(400, "invalid", str(error))
        case QueueFull():
            return refusal(429, "queue_full", str(error), {"retry-after": "5"})
        case BrokerUnavailable():
            return refusal(503, "broker_unavailable", str(error), {"retry-after": "5"})
        case StoreError():
            return refusal(502, error.reason, str(error))
        case _:
            return refusal(500, "failed", str(error))


async def _unexpected(_: Request, error: Exception) -> Response:
    log.error("admin_request_failed", exc_info=error)
    return refusal(500, "internal_error", "an internal error; the log has it")
