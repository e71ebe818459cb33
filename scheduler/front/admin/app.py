"""The admin application: the routes of every admin module behind one bearer token, errors as JSON.

Owns who may come in and how errors look. What a route does is its module's. A module that is not there brings
no routes.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import importlib.util
import uuid
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from scheduler.config.admin_token import token_of
from workers.errors import BrokerUnavailable, ConfigError, FerrymanError, QueueFull, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from scheduler.runtime import Services

log = structlog.get_logger(__name__)

#: Modules below `scheduler.front.admin` that have `routes(services) -> list[Route]`, in this order.
MODULES = ("events", "rules", "scans", "failures", "metrics", "health", "dashboard", "page")
#: Answered without a token, for load balancers and orchestrators.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
COOKIE = "ferryman_admin"


def make_app(services: Services) -> ASGIApp:
    """The admin application over the services of this process."""
    routes: list[BaseRoute] = []
    for name in MODULES:
        module = f"scheduler.front.admin.{name}"
        if importlib.util.find_spec(module) is not None:
            bring: Callable[[Services], list[Any]] = importlib.import_module(module).routes
            routes += bring(services)
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _http_error,
            FerrymanError: _our_error,
            Exception: _unexpected,
        },
    )
    return Guard(app, token_of(services.settings))


class Guard:
    """Lets in who knows the token, and binds the request id to the log.

    The token comes as `Authorization: Bearer`, or, for reading in a browser, once as `?token=` which becomes
    a cookie. The cookie opens GET and HEAD only, so no other site can make a browser change anything.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()
        self._cookie = hashlib.sha256(b"ferryman admin cookie\0" + self._token).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        with structlog.contextvars.bound_contextvars(
            request_id=request.headers.get("x-request-id", "")[:64] or uuid.uuid4().hex[:16]
        ):
            answer = self._refusal(request)
            await (answer or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        """None when the request may pass."""
        path = request.url.path
        if path in OPEN_PATHS:
            return None
        given = request.headers.get("authorization", "")
        if given[:7].lower() == "bearer ":
            if hmac.compare_digest(given[7:].strip().encode("latin-1", "replace"), self._token):
                return None
            return _error(401, "wrong_token", "the bearer token is not the configured one")
        if request.method in {"GET", "HEAD"}:
            cookie = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
            if cookie is not None and hmac.compare_digest(cookie.value.encode(), self._cookie.encode()):
                return None
            asked = parse_qs(request.url.query).get("token", [""])[0]
            if asked and hmac.compare_digest(asked.encode(), self._token):
                answer = RedirectResponse(path, status_code=303)
                answer.set_cookie(COOKIE, self._cookie, httponly=True, samesite="strict")
                return answer
        return _error(
            401, "token_needed", "send `Authorization: Bearer <admin token>`; it is in data_dir/admin-token"
        )


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    every = {"cache-control": "no-store", **(headers or {})}
    if status == 401:
        every["www-authenticate"] = "Bearer"
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status, headers=every)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_type"}
    return _error(
        error.status_code,
        codes.get(error.status_code, "bad_request" if error.status_code < 500 else "failed"),
        error.detail,
        dict(error.headers or {}),
    )


async def _our_error(_: Request, error: Exception) -> Response:
    match error:
        case ConfigError():
            return _error(400, "invalid", str(error))
        case QueueFull():
            return _error(429, "queue_full", str(error), {"retry-after": "5"})
        case BrokerUnavailable():
            return _error(503, "broker_unavailable", str(error), {"retry-after": "5"})
        case StoreError():
            return _error(502, error.reason, str(error))
        case _:
            return _error(500, "failed", str(error))


async def _unexpected(_: Request, error: Exception) -> Response:
    log.error("admin_request_failed", exc_info=error)
    return _error(500, "internal_error", "an internal error; the log has it")
