"""Who may come in on the admin side and change things: tokens for programs, a session for browsers.

Owns the roles and the session. A program sends `Authorization: Bearer`. A browser gives its token once, in
the form at `/login` or as `?token=`, and gets a cookie that no script can read; every change that comes with
the cookie needs the session's CSRF token beside it. Whoever has the viewer's token only looks. Nothing is
kept: a session is signed with a key that is made of the admin token, so a new token ends all of them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections import deque
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlencode

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from scheduler.front.admin.bounded import body_of
from scheduler.front.admin.refused import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

#: Answered without a token, for load balancers and orchestrators.
OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
#: Events are no change that an operator makes, and there are many.
EVENT_PATHS: Final = frozenset({"/v1/miss-events"})
#: Open besides: how one gets in, and what that page looks like.
LOGIN_PATH: Final = "/login"
LOGOUT_PATH: Final = "/logout"
STATIC_PREFIX: Final = "/static/"
COOKIE: Final = "ferryman_admin"
CSRF_HEADER: Final = "x-ferryman-csrf"
#: Seconds that a session lasts.
SESSION_S: Final = 12 * 3600
#: Wrong tokens in `WINDOW_S` seconds, over all clients, after which `/login` asks to wait.
TRIES: Final = 10
WINDOW_S: Final = 60.0
_READING: Final = frozenset({"GET", "HEAD"})
_MAX_FORM_BYTES: Final = 4096
#: Seconds that the form of a login may take: nobody has shown a token yet.
_FORM_S: Final = 10.0
#: No script and no style but our own files, no frame, nothing from elsewhere.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
#: As OWASP's secure headers project has them.
_EVERY: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who asks: `admin` or `viewer`, and, of a browser, the token that its changes must carry."""

    name: str
    csrf: str = ""

    @property
    def may_change(self) -> bool:
        """A viewer only looks."""
        return self.name == "admin"


class Guard:
    """Lets in who knows a token, and binds the request id and who it is to the log."""

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        *,
        viewer_token: str | None = None,
        login_page: Callable[[str, str], str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`login_page(problem, goes to)` is the form's HTML."""
        self._app = app
        self._tokens = {"admin": token.encode()}
        if viewer_token:
            self._tokens["viewer"] = viewer_token.encode()
        self._key = hashlib.sha256(b"ferryman admin session\0" + token.encode()).digest()
        self._login_page = login_page
        self._clock = clock
        self._failed: deque[float] = deque(maxlen=TRIES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        request_id = request.headers.get("x-request-id", "")[:64] or secrets.token_hex(8)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            status = 0

            async def guarded(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    given = {name.lower() for name, _ in message["headers"]}
                    more = [(k.encode(), v.encode()) for k, v in _EVERY.items() if k.encode() not in given]
                    message = {**message, "headers": [*message["headers"], *more]}
                await send(message)

            answer, visitor = await self._admit(request)
            scope["ferryman.visitor"] = visitor
            await (answer or self._app)(scope, receive, guarded)
            changed = request.method not in _READING and request.url.path not in EVENT_PATHS
            if visitor is not None and answer is None and changed:
                log.info(
                    "admin_change",
                    who=visitor.name,
                    how="browser" if visitor.csrf else "token",
                    method=request.method,
                    path=request.url.path,
                    status=status,
                    **scope.get("ferryman.change", {}),
                )

    # ------------------------------------------------------------ who it is
    async def _admit(self, request: Request) -> tuple[Response | None, Visitor | None]:
        """An answer that ends the request, or none and who may pass."""
        path = request.url.path
        if path in OPEN_PATHS or path.startswith(STATIC_PREFIX):
            return None, None
        if path == LOGIN_PATH and self._login_page is not None:
            return await self._login(request), None
        given = request.headers.get("authorization", "")
        if given[:7].lower() == "bearer ":
            visitor = self._bearer(given[7:].strip().encode("latin-1", "replace"))
            if visitor is None:
                return refusal(401, "wrong_token", "the bearer token is not the configured one"), None
            return self._allowed(request, visitor), visitor
        visitor = self._session(request)
        if visitor is not None:
            if path == LOGOUT_PATH:
                return self._logout(request, visitor), None
            return self._allowed(request, visitor), visitor
        return self._stranger(request), None

    def _bearer(self, given: bytes) -> Visitor | None:
        found = None
        for name, token in self._tokens.items():  # each is compared, so that time tells nothing
            if hmac.compare_digest(given, token):
                found = Visitor(name=name)
        return found

    def _allowed(self, request: Request, visitor: Visitor) -> Response | None:
        if request.method in _READING:
            return None
        if not visitor.may_change:
            return refusal(403, "viewer", "the viewer's token only looks; changes need the admin token")
        if visitor.csrf:
            site = request.headers.get("sec-fetch-site", "same-origin")
            given = request.headers.get(CSRF_HEADER, "").encode("latin-1", "replace")
            if site != "same-origin" or not hmac.compare_digest(given, visitor.csrf.encode()):
                return refusal(
                    403, "csrf", f"a change from a browser needs its {CSRF_HEADER} header; reload the page"
                )
        return None

    def _stranger(self, request: Request) -> Response:
        query = parse_qsl(request.url.query, keep_blank_values=True)
        asked = next((value for name, value in query if name == "token"), "")
        if request.method in _READING and asked and not self._throttled():
            visitor = self._bearer(asked.encode())
            if visitor is not None:
                rest = urlencode([pair for pair in query if pair[0] != "token"])
                return self._opened(visitor, request.url.path + (f"?{rest}" if rest else ""), request)
            self._failed.append(self._clock())
        if (
            self._login_page is not None
            and request.method in _READING
            and "text/html" in request.headers.get("accept", "")
        ):
            target = request.url.path
            return RedirectResponse(
                LOGIN_PATH if target == "/" else f"{LOGIN_PATH}?next={quote(target)}",
                status_code=303,
                headers={"cache-control": "no-store"},
            )
        return refusal(
            401, "token_needed", "send `Authorization: Bearer <admin token>`; it is in data_dir/admin-token"
        )

    # ------------------------------------------------------------ sessions
    async def _login(self, request: Request) -> Response:
        assert self._login_page is not None
        goes_to = _own_path(request.query_params.get("next", "/"))
        if request.method in _READING:
            return _page(200, self._login_page("", goes_to))
        if request.method != "POST":
            return refusal(405, "method_not_allowed", "GET or POST is expected")
        try:
            async with asyncio.timeout(_FORM_S):
                body = await body_of(request, most_bytes=_MAX_FORM_BYTES)
        except Refused as error:
            return refusal(error.status, error.error["code"], str(error))
        except TimeoutError:
            return refusal(408, "too_slow", f"the form did not come within {_FORM_S:.0f} s")
        form = dict(parse_qsl(body.decode("utf-8", "replace")))
        goes_to = _own_path(form.get("next", goes_to))
        if self._throttled():
            answer = _page(429, self._login_page("Too many wrong tokens. Wait a minute.", goes_to))
            answer.headers["retry-after"] = str(int(WINDOW_S))
            return answer
        visitor = self._bearer(form.get("token", "").strip().encode())
        if visitor is None:
            self._failed.append(self._clock())
            log.warning("admin_login_failed", client=request.client.host if request.client else "")
            return _page(
                401, self._login_page("This is not the token. It is in data_dir/admin-token.", goes_to)
            )
        log.info("admin_login", who=visitor.name)
        return self._opened(visitor, goes_to, request)

    def _throttled(self) -> bool:
        return len(self._failed) == TRIES and self._clock() - self._failed[0] < WINDOW_S

    def _opened(self, visitor: Visitor, goes_to: str, request: Request) -> Response:
        said = f"{visitor.name}.{int(self._clock()) + SESSION_S}.{secrets.token_urlsafe(12)}"
        answer = RedirectResponse(goes_to, status_code=303, headers={"cache-control": "no-store"})
        answer.set_cookie(
            COOKIE,
            f"{said}.{self._signed('session', said)}",
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    def _logout(self, request: Request, visitor: Visitor) -> Response:
        refused = None
        if request.method != "POST":
            refused = refusal(405, "method_not_allowed", "POST is expected")
        elif not hmac.compare_digest(
            request.headers.get(CSRF_HEADER, "").encode("latin-1", "replace"), visitor.csrf.encode()
        ):
            refused = refusal(403, "csrf", f"signing out needs the {CSRF_HEADER} header")
        if refused is not None:
            return refused
        answer = JSONResponse({"signed_out": True}, headers={"cache-control": "no-store"})
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    def _session(self, request: Request) -> Visitor | None:
        try:
            cookie = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        if cookie is None:
            return None
        said, _, signature = cookie.value.rpartition(".")
        if not hmac.compare_digest(
            signature.encode("latin-1", "replace"), self._signed("session", said).encode()
        ):
            return None
        name, ends, _ = said.split(".")
        if name not in self._tokens or int(ends) <= self._clock():
            return None
        return Visitor(name=name, csrf=self._signed("csrf", said))

    def _signed(self, purpose: str, text: str) -> str:
        digest = hmac.digest(self._key, f"{purpose}\0{text}".encode("latin-1", "replace"), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def visitor_of(request: Request) -> Visitor:
    """Who asks; only behind the guard."""
    visitor: Visitor = request.scope["ferryman.visitor"]
    return visitor


def note_change(request: Request, **what: object) -> None:
    """Say what a change was about, for its line in the log beside who, method and path."""
    request.scope["ferryman.change"] = {**request.scope.get("ferryman.change", {}), **what}


def who_of(request: Request) -> str:
    """Who asks for a change, for records that outlive the log: `admin, in a browser`, `admin, by token`."""
    visitor: Visitor | None = request.scope.get("ferryman.visitor")
    if visitor is None:
        return "api"
    return f"{visitor.name}, {'in a browser' if visitor.csrf else 'by token'}"


def refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error of the admin side: `{"error": {"code", "message"}}`."""
    every = {"cache-control": "no-store", **(headers or {})}
    if status == 401:
        every["www-authenticate"] = "Bearer"
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status, headers=every)


def _page(status: int, html: str) -> Response:
    return Response(html, status_code=status, media_type="text/html", headers={"cache-control": "no-store"})


def _own_path(text: str) -> str:
    """A path of ours; whatever could lead elsewhere becomes `/`."""
    plain = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if plain and "\\" not in text else "/"
