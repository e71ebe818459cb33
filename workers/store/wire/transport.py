"""Signed requests: one exchange with the store, repeated with backoff while that may help.

Owns connections, signing, retries and the clock skew to the store. Must not know what a request is for.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog
from aiohttp.http_exceptions import HttpProcessingError

from workers.errors import ConfigError, StoreDenied, StoreError, StoreThrottled, StoreUnavailable
from workers.http.exchange import Exchanger
from workers.store.model import StoreAnswer
from workers.store.wire.addressing import Endpoint, encode_query
from workers.store.wire.answers import failure, http_date, wants_new_credentials
from workers.store.wire.credentials import CredentialSource
from workers.store.wire.lean import MAX_REQUEST_BYTES, Wire
from workers.store.wire.signing import EMPTY_SHA256, Signer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from workers.http.answer import Exchange
    from workers.settings import StoreSettings
    from workers.store.wire.addressing import Target

log = structlog.get_logger(__name__)

#: Seconds before the second attempt; doubled for each further one.
_BACKOFF_S = 0.1
#: The same when the store says that it is overloaded.
_THROTTLED_BACKOFF_S = 0.4
_MAX_BACKOFF_S = 8.0
#: A store that asks for more patience than this gets its key back to the queue.
_MAX_RETRY_AFTER_S = 30.0

#: aiohttp adds none of these by itself: what is sent is what was signed.
_NO_AUTO = frozenset({"Content-Type", "User-Agent", "Accept", "Accept-Encoding"})

#: What aiohttp and the sockets raise; never leaves this package.
TRANSLATED = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError)


def backoff_s(attempt: int, *, throttled: bool, retry_after_s: float | None, jitter: float) -> float:
    """Seconds to wait before the next attempt; `attempt` counts from 0, `jitter` is in 0..1. Pure."""
    base = _THROTTLED_BACKOFF_S if throttled else _BACKOFF_S
    delay: float = min(base * 2**attempt, _MAX_BACKOFF_S) * (0.5 + jitter / 2)
    return max(delay, retry_after_s or 0.0)


class Transport:
    """The connections of one process to the store; use as an async context."""

    def __init__(
        self,
        settings: StoreSettings,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.endpoint = Endpoint(settings.endpoint, addressing=settings.addressing)
        self.idle_s = settings.read_timeout_s
        self._settings = settings
        self._credentials = CredentialSource(settings)
        self._signer = Signer(settings.region)
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None
        self._reader: Exchanger | None = None
        self._wire: Wire | None = None
        #: Seconds that the store's clock is ahead of ours, learnt when it refuses a signature for that.
        self._skew_s = 0.0

    async def open(self) -> None:
        """Make the connection pools.

        Raises:
            ConfigError: `store.ca_file` cannot be loaded.
        """
        settings = self._settings
        tls = ssl.create_default_context() if self.endpoint.secure else None
        if settings.ca_file is not None:
            try:
                tls = ssl.create_default_context(cafile=str(settings.ca_file))
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"store.ca_file: cannot load {settings.ca_file}: {error}") from error
        self._wire = Wire(
            limit=settings.max_connections,
            connect_s=settings.connect_timeout_s,
            idle_s=settings.read_timeout_s,
            tls=tls,
        )
        self._wire.open()
        connector, reading = (
            aiohttp.TCPConnector(
                limit=limit,
                ssl=tls if tls is not None else True,
                keepalive_timeout=30.0,
                ttl_dns_cache=60,
            )
            for limit in (settings.max_connections, 0)
        )
        self._reader = Exchanger(
            reading,
            {},
            connect_s=settings.connect_timeout_s,
            idle_s=settings.read_timeout_s,
            limit=settings.max_connections,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=settings.connect_timeout_s,
                sock_read=settings.read_timeout_s,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_NO_AUTO,
            trust_env=False,
        )

    async def close(self) -> None:
        """Drop all connections."""
        if self._wire is not None:
            await self._wire.close()
            self._wire = None
        if self._reader is not None:
            await self._reader.close()
            self._reader = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    def presign(
        self, method: str, bucket: str, key: str, params: Iterable[tuple[str, str]], expires_s: int
    ) -> str:
        """A URL that needs no further signature for `expires_s` seconds.

        Raises:
            StoreUnavailable: credentials of the chain were never fetched in this process.
        """
        credentials = self._credentials.ready()
        if credentials is None:
            raise StoreUnavailable("no credentials yet; the chain has not been asked in this process")
        target = self.endpoint.target(bucket, key)
        query = self._signer.presign(
            credentials,
            method,
            target.raw_path,
            params,
            host=target.host,
            expires_s=expires_s,
            now=time.time() + self._skew_s,
        )
        return f"{target.url}?{query}"

    async def read(self, bucket: str, key: str, headers: dict[str, str]) -> Exchange:
        """Send one signed GET and return its answer with the body unread; no retry.

        `headers` have lower-case names and are completed in place.

        Raises:
            StoreUnavailable: no connection, no answer in time, or a broken one.
        """
        reader = self._reader
        if reader is None:
            raise RuntimeError("the store is not open")
        target = await self._signed("GET", bucket, key, headers, "", EMPTY_SHA256)
        try:
            route, path = reader.route(target.absolute)
            try:
                return await reader.send("GET", route, path, [*headers.items()])
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # The store had closed a connection just before it was used: nothing to wait for.
                return await reader.send("GET", route, path, [*headers.items()])
        except TRANSLATED as error:
            raise unavailable(error, f"GET {bucket}/{key}") from error

    async def stream(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        headers: dict[str, str],
        query: str = "",
        body: Any = None,
        payload_sha256: str = EMPTY_SHA256,
    ) -> Exchange | aiohttp.ClientResponse:
        """Send one signed request and return its answer with the body unread; no retry.

        `headers` are completed in place. A `body` that streams needs a `content-length` among them; what it
        raises breaks the request off, and is the cause of the error here.

        Raises:
            StoreUnavailable: no connection, no answer in time, or a broken one.
        """
        reader, session = self._reader, self._session
        if reader is None or session is None:
            raise RuntimeError("the store is not open")
        # The length is not signed: it is the connection's, not the request's.
        length = headers.pop("content-length", None)
        target = await self._signed(method, bucket, key, headers, query, payload_sha256)
        if length is not None:
            headers["content-length"] = length
        try:
            if body is None and length is None:
                route, path = reader.route(target.absolute)
                return await reader.send(method, route, path, [*headers.items()])
            return await session.request(
                method, target.url, data=body, headers=headers, allow_redirects=False
            )
        except TRANSLATED as error:
            raise unavailable(error, f"{method} {bucket}/{key}") from error

    async def _signed(
        self,
        method: str,
        bucket: str,
        key: str,
        headers: dict[str, str],
        query: str,
        payload_sha256: str,
    ) -> Target:
        """Where the request goes; `headers` are completed in place."""
        credentials = self._credentials.ready() or await self._credentials.refresh()
        target = self.endpoint.target(bucket, key, query)
        headers["host"] = target.host
        self._signer.sign(
            credentials,
            method,
            target.raw_path,
            query,
            headers,
            payload_sha256=payload_sha256,
            now=time.time() + self._skew_s,
        )
        return target

    async def exchange(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        headers: dict[str, str] | None = None,
        query: Iterable[tuple[str, str]] = (),
        body: Any = None,
        payload_sha256: str = EMPTY_SHA256,
        accept: frozenset[int] = frozenset(),
    ) -> StoreAnswer:
        """Send a request until it is answered below 300 or with a status in `accept`, and read the answer.

        Raises:
            StoreError: the subclass that the refusal means, after the retries that make sense.
        """
        encoded = encode_query(query) if query else ""
        attempt = 0
        while True:
            try:
                answer = await self.once(
                    method,
                    bucket,
                    key,
                    headers=dict(headers) if headers else {},
                    query=encoded,
                    body=body,
                    payload_sha256=payload_sha256,
                )
            except StoreUnavailable as error:
                failed: StoreError = error
            else:
                if answer.status < 300 or answer.status in accept:
                    return answer
                failed = failure(answer, what=f"{method} {bucket}/{key}")
                self.learn(failed, answer)
            await self.pause(failed, attempt)
            attempt += 1

    async def pause(self, failed: StoreError, attempt: int) -> None:
        """Wait before the next attempt, or raise the failure when there is none; `attempt` counts from 0."""
        after = failed.retry_after_s
        give_up = attempt >= self._settings.max_retries or (after is not None and after > _MAX_RETRY_AFTER_S)
        if give_up or not failed.retryable or isinstance(failed, StoreDenied):
            raise failed
        throttled = isinstance(failed, StoreThrottled)
        delay = backoff_s(attempt, throttled=throttled, retry_after_s=after, jitter=random.random())
        log.debug(
            "store_retry", reason=failed.reason, code=failed.code, attempt=attempt, delay_s=round(delay, 3)
        )
        await self._sleep(delay)

    async def once(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        headers: dict[str, str],
        query: str = "",
        body: Any = None,
        payload_sha256: str = EMPTY_SHA256,
        last: Callable[[], Awaitable[None]] | None = None,
    ) -> StoreAnswer:
        """One exchange, whatever its status; `headers` are completed in place, `query` is encoded.

        `last` is awaited before the last byte of a request of at most `MAX_REQUEST_BYTES` is sent; what it
        raises breaks the request off.

        Raises:
            StoreUnavailable: no connection, no answer in time, or a broken one.
        """
        if body is None or (isinstance(body, bytes) and len(body) <= MAX_REQUEST_BYTES):
            wire = self._wire
            if wire is None:
                raise RuntimeError("the store is not open")
            target = await self._signed(method, bucket, key, headers, query, payload_sha256)
            try:
                return await wire.exchange(method, target.host, target.path_qs, headers, body or b"", last)
            except TRANSLATED as error:
                raise unavailable(error, f"{method} {bucket}/{key}") from error
        session = self._session
        if session is None:
            raise RuntimeError("the store is not open")
        target = await self._signed(method, bucket, key, headers, query, payload_sha256)
        try:
            async with session.request(
                method, target.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                content = await response.read()
        except TRANSLATED as error:
            raise unavailable(error, f"{method} {bucket}/{key}") from error
        return StoreAnswer(status=response.status, headers=response.headers, body=content)

    def learn(self, failed: StoreError, answer: StoreAnswer) -> None:
        """Take from a refusal what makes the next attempt better: the store's clock, fresh credentials."""
        if wants_new_credentials(failed):
            self._credentials.expire()
        elif failed.code == "RequestTimeTooSkewed":
            theirs = http_date(answer.headers.get("Date", ""))
            if theirs:
                self._skew_s = theirs - time.time()
                log.warning("store_clock_skew", skew_s=round(self._skew_s, 1))


def unavailable(error: BaseException, what: str) -> StoreUnavailable:
    """The tree's word for a third-party connection error; `what` says what was asked."""
    text = str(error) or type(error).__name__
    return StoreUnavailable(f"{what}: {text}")
