"""One signed request to an origin that is a bucket, with or without a body.

Owns connection, address guard, signature, and what answers mean; a slot of the host's budget for each request
and what the fleet learns of the host by it. Must not know what a request is for.
"""

from __future__ import annotations

import io
import ssl
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from workers.errors import (
    AddressRefused,
    ConfigError,
    CredentialMissing,
    OriginError,
    OriginMalformed,
    OriginStatus,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
from workers.origin.wire.connector import GuardedConnector
from workers.origin.wire.guard import Guard
from workers.plan import Lane
from workers.secret_values import reveal
from workers.store.wire.addressing import encode_key, encode_query
from workers.store.wire.answers import error_code
from workers.store.wire.signing import EMPTY_SHA256, Credentials, Signer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workers.back_routes import BackRoute
    from workers.origin.control.control import OriginControl
    from workers.settings import OriginSettings

_NO_AUTO: Final = frozenset({"Content-Type", "User-Agent", "Accept", "Accept-Encoding"})
_DEFAULT_PORT: Final = {"http": ":80", "https": ":443"}
#: Seconds that a request waits for the host's budget.
_BUDGET_WAIT_S: Final = 60.0
#: Codes that mean "later", whatever their status.
_THROTTLED: Final = frozenset({"SlowDown", "SlowDownWrite", "Throttling", "RequestLimitExceeded"})
_READ_BYTES: Final = 256 * 1024
_LONG_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginAnswer:
    """A finished exchange."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class OriginWire:
    """Connections to origins that take writes; use as an async context."""

    def __init__(
        self,
        settings: OriginSettings,
        control: OriginControl,
        *,
        listeners: Sequence[tuple[str, int]] = (),
        max_connections: int = 128,
    ) -> None:
        self._settings = settings
        self._control = control
        self._guard = Guard.of(settings.allow_networks, listeners)
        self._limit = max_connections
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._keys: dict[str, tuple[Credentials, Signer]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    def is_out(self, route: BackRoute) -> float:
        """Seconds for which the fleet keeps off the host; 0 when it may be asked."""
        health = self._control.health
        if not health.sick or health.usable(route.origin.host):
            return 0.0
        return max(1.0, health.back_at(route.origin.host) - time.monotonic())

    async def ask(
        self,
        route: BackRoute,
        method: str,
        key: str,
        *,
        query: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        payload_sha256: str = EMPTY_SHA256,
        accept: frozenset[int] = frozenset(),
    ) -> OriginAnswer:
        """Send a request about one object (by its own key at the origin) and read the answer.

        Raises:
            OriginError: no answer, or a status that is neither below 300 nor in `accept`.
            BudgetExhausted: no slot of the host's budget came free.
        """
        async with self._asked(
            route, method, key, query=query, headers=headers, body=body, payload_sha256=payload_sha256
        ) as (response, slot):
            content = await response.read()
            await slot.pace(len(body or b"") + len(content))
            answer = OriginAnswer(status=response.status, headers=response.headers, body=content)
            self._judge(route, answer, f"{method} {key!r}", accept)
            return answer

    async def digest(self, route: BackRoute, key: str) -> tuple[OriginAnswer, str] | None:
        """An object of the origin and the SHA-256 of its bytes; None when there is none. Raises as `ask`."""
        async with self._asked(route, "GET", key) as (response, slot):
            digest, beginning = sha256(), b""
            async for piece in response.content.iter_chunked(_READ_BYTES):
                await slot.pace(len(piece))
                digest.update(piece)
                beginning = beginning or piece
            answer = OriginAnswer(status=response.status, headers=response.headers, body=beginning)
            self._judge(route, answer, f"GET {key!r}", frozenset({404}))
            return None if response.status == 404 else (answer, digest.hexdigest())

    def _asked(
        self,
        route: BackRoute,
        method: str,
        key: str,
        *,
        query: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        payload_sha256: str = EMPTY_SHA256,
    ) -> _Asked:
        return _Asked(
            self, route, method, key, encode_query(query), dict(headers or {}), body, payload_sha256
        )

    async def send(
        self,
        route: BackRoute,
        method: str,
        key: str,
        query: str,
        headers: dict[str, str],
        body: bytes | None,
        payload_sha256: str,
    ) -> aiohttp.ClientResponse:
        """Send it; the answer's body is unread. A pooled connection that had ended is replaced once."""
        origin = route.origin
        scheme = origin.scheme or "http"
        host = origin.host.removesuffix(_DEFAULT_PORT[scheme])
        path = f"{origin.base_path}{encode_key(key)}"
        headers["host"] = host
        credentials, signer = self._key_of(route)
        signer.sign(credentials, method, path, query, headers, payload_sha256=payload_sha256, now=time.time())
        if body is not None:
            headers["content-length"] = str(len(body))
        url = URL(f"{scheme}://{host}{path}{'?' if query else ''}{query}", encoded=True)
        session = self._session(trusted=route.trusted)
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=route.timeouts.connect_s,
            sock_read=max(30.0, route.timeouts.first_byte_s),
        )

        async def once() -> aiohttp.ClientResponse:
            return await session.request(
                # Long bytes as a file, because aiohttp warns of them.
                method,
                url,
                data=io.BytesIO(body) if body is not None and len(body) > _LONG_BYTES else body,
                headers=headers,
                allow_redirects=False,
                timeout=timeout,
            )

        try:
            return await once()
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return await once()

    def _key_of(self, route: BackRoute) -> tuple[Credentials, Signer]:
        name = route.origin.credential or ""
        found = self._keys.get(name)
        if found is None:
            settings = self._settings.credentials.get(name)
            if settings is None or settings.type != "s3v4":
                message = f"no credential {name!r} of type s3v4 in origin.credentials"
                raise CredentialMissing(message, origin=route.origin.host)
            secret = reveal(settings.secret_access_key, settings.secret_access_key_file) or ""
            found = self._keys[name] = (
                Credentials(settings.access_key_id or "", secret),
                Signer(settings.region),
            )
        return found

    def _session(self, *, trusted: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(trusted)
        if session is None:
            connector = GuardedConnector(
                self._guard, configured=trusted, tls=self._tls(), check_names=False, limit=self._limit
            )
            session = self._sessions[trusted] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=_NO_AUTO,
                trust_env=False,
            )
        return session

    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(
                cafile=str(self._settings.ca_file) if self._settings.ca_file is not None else None
            )
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"origin.ca_file {self._settings.ca_file}: {error}") from error
        context.check_hostname = self._settings.verify_tls
        context.verify_mode = ssl.CERT_REQUIRED if self._settings.verify_tls else ssl.CERT_NONE
        return context

    def _judge(self, route: BackRoute, answer: OriginAnswer, what: str, accept: frozenset[int]) -> None:
        host, status = route.origin.host, answer.status
        if status < 300 or status in accept:
            return
        code, message = error_code(answer.body)
        text = f"{host}: {what}: {status} {code}".rstrip() + (f": {message[:200]}" if message else "")
        after = answer.headers.get("Retry-After", "")
        wait_s = float(after) if after.isdecimal() and len(after) <= 6 else None
        if status == 429 or code in _THROTTLED or (status == 503 and wait_s is not None):
            raise OriginThrottled(text, origin=host, status=status, retry_after_s=wait_s)
        raise OriginStatus(text, origin=host, status=status)

    @property
    def control(self) -> OriginControl:
        """Budgets and health."""
        return self._control


class _Asked:
    """One request under a slot of the budget, from its sending to the end of its answer."""

    def __init__(
        self,
        wire: OriginWire,
        route: BackRoute,
        method: str,
        key: str,
        query: str,
        headers: dict[str, str],
        body: bytes | None,
        payload_sha256: str,
    ) -> None:
        self._wire = wire
        self._route = route
        self._arguments: tuple[Any, ...] = (route, method, key, query, headers, body, payload_sha256)
        self._response: aiohttp.ClientResponse | None = None
        self._slot: Any = None
        self._began = 0.0

    async def __aenter__(self) -> tuple[aiohttp.ClientResponse, Any]:
        host = self._route.origin.host
        self._slot = await self._wire.control.acquire(host, Lane.COLD, timeout_s=_BUDGET_WAIT_S)
        self._began = time.monotonic()
        try:
            self._response = await self._wire.send(*self._arguments)
        except BaseException as error:
            self._slot.release()
            translated = _translated(error, host)
            if translated is None:
                raise
            self._wire.control.failed(host, translated)
            raise translated from error
        return self._response, self._slot

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        host = self._route.origin.host
        assert self._response is not None
        self._slot.release()
        if error is None:
            self._response.release()
            self._wire.control.succeeded(host, time.monotonic() - self._began, status=self._response.status)
            return
        self._response.close()
        translated = error if isinstance(error, OriginError) else _translated(error, host)
        if translated is None:
            return
        self._wire.control.failed(host, translated)
        if translated is not error:
            raise translated from error


def _translated(error: BaseException, host: str) -> OriginError | None:
    """The tree's word for a client's or the system's error; None for what is neither."""
    text = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        return OriginTimeout(f"{host}: {text}", origin=host)
    if isinstance(error, (HttpProcessingError, aiohttp.ClientResponseError, aiohttp.ClientPayloadError)):
        return OriginMalformed(f"{host}: {text}", origin=host)
    if isinstance(error, (aiohttp.ClientError, OSError)):
        if "not allowed: " in text:
            return AddressRefused(f"{host}: {text}; origin.allow_networks does not list it", origin=host)
        return OriginUnreachable(f"{host}: {text}", origin=host)
    return None
