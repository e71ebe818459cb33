"""One request to an origin, redirects included, over connections that aiohttp makes.

Owns pools, deadlines up to the head of the answer, and the translation of aiohttp's and the system's
exceptions into our tree: nothing above this module sees theirs. Bytes are raw (`auto_decompress` off), URLs
are used as they are, no proxy or netrc of the environment is read, no cookie is kept. Knows candidates and
budgets only as far as `Hops.before` is called before another host is asked.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from workers.deadlines import Deadlines
from workers.errors import (
    AddressRefused,
    ConfigError,
    OriginError,
    OriginLoop,
    OriginMalformed,
    OriginTimeout,
    OriginTruncated,
    OriginUnreachable,
)
from workers.http.exchange import Exchanger
from workers.origin.wire.addresses import Kind
from workers.origin.wire.connector import GuardedConnector
from workers.origin.wire.credentials import Credentials
from workers.origin.wire.dial import Dial
from workers.origin.wire.guard import Guard, current_dial
from workers.origin.wire.headers import fixed_headers, request_headers, went_through
from workers.origin.wire.redirects import (
    AS_PLANNED,
    FOLLOWED,
    Hops,
    follow,
    headers_elsewhere,
    keeps_identity,
    split_url,
    without_query,
)
from workers.origin.wire.response import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.abc import AbstractResolver
    from yarl import URL

    from workers.answers import Headers
    from workers.http.connection import Connection
    from workers.origin.wire.addresses import Refusal
    from workers.plan import FetchPlan, Origin
    from workers.settings import OriginSettings

#: Beginning of a 508 in which the gateway's error code is looked for.
MAX_LOOP_BODY_BYTES = 4096


#: Only stored and passed on (S3 to S5, S16): every byte is kept, as a lone surrogate if need be.
_KEPT_BYTES = frozenset(
    {
        "access-control-allow-origin",
        "cache-control",
        "content-disposition",
        "content-language",
        "expires",
    }
)


class OriginClient:
    """Asks origins; one per process. `async with`.

    `listeners` are the (host, port) that this process or its fleet listens on: an origin that resolves to one
    of them is a loop. `public_hosts` are the names by which clients reach it.
    """

    def __init__(
        self,
        settings: OriginSettings,
        *,
        instance: str = "",
        public_hosts: Sequence[str] = (),
        listeners: Sequence[tuple[str, int]] = (),
        resolver: AbstractResolver | None = None,
    ) -> None:
        self.instance = instance
        self._settings = settings
        self._own_names = frozenset(name.lower().rstrip(".") for name in public_hosts)
        self._guard = Guard.of(settings.allow_networks, listeners)
        self._credentials = Credentials(settings.credentials)
        self._resolver = resolver
        self._pools: dict[tuple[bool, bool, str, bool], Exchanger] = {}
        self._deadlines = Deadlines()
        self._fixed = fixed_headers(instance)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End every connection."""
        self._deadlines.close()
        pools = list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            await pool.close()

    async def ask(
        self,
        plan: FetchPlan,
        origin: Origin,
        url: str,
        *,
        method: str = "GET",
        extra: Sequence[tuple[str, str]] = (),
        first_byte_s: float | None = None,
        hops: Hops = AS_PLANNED,
    ) -> Answer:
        """Send one request and follow its redirects by hand (A7); `extra` are headers such as Range.

        `first_byte_s` bounds each hop's wait beside the plan's own.

        Raises:
            OriginError: no usable head of an answer; any status is an answer.
        """
        following = plan.redirects.follow and hops.follow
        wait_s = plan.timeouts.first_byte_s
        if first_byte_s is not None and first_byte_s < wait_s:
            wait_s = first_byte_s
        passed, new, credential = plan.headers, plan.new_headers, origin.credential
        first_url, visited, host = hops.start_url or url, [url], origin.host
        configured = plan.trusted_hosts
        while True:
            if url is not first_url:
                if not keeps_identity(first_url, url):
                    credential = None
                    passed, new = headers_elsewhere(passed, new, resend=plan.redirects.resend_headers)
                configured = plan.trusted_hosts and _is_named(plan, split_url(url).authority)
            # The fixed headers are the pool's; most requests have no others.
            headers = request_headers(passed, new, instance=self.instance) if passed or new else []
            if credential is not None:
                headers += self._credentials.headers(credential, method, url, origin=origin.host)
            headers += extra
            answer = await self._send(
                method,
                url,
                headers or None,
                plan=plan,
                host=origin.host,
                configured=configured,
                credential=credential,
                first_byte_s=wait_s,
            )
            answer.hops = len(visited) - 1
            if answer.status == 508 and await self._is_our_loop(answer):
                raise OriginLoop(
                    f"{origin.host} leads back to this installation ({without_query(url)})",
                    origin=origin.host,
                )
            if not following or answer.status not in FOLLOWED or answer.status == hops.stop_at:
                return answer
            try:
                await answer.drain()
            except BaseException:
                answer.close()
                raise
            url = follow(url, answer.header("location"), plan.redirects, visited, origin=origin.host)
            visited.append(url)
            target = split_url(url)
            if target.authority != host:
                host = target.authority
                if hops.before is not None:
                    await hops.before(host)

    async def _is_our_loop(self, answer: Answer) -> bool:
        """Whether a 508 is that of a Ferryman which met its own marker (H11), by header or error code."""
        if went_through(answer.headers, self.instance):
            answer.close()
            return True
        if "xml" not in (answer.header("content-type") or ""):
            return False
        body, _ = await answer.beginning(MAX_LOOP_BODY_BYTES)
        return b"<Code>LoopDetected</Code>" in body

    async def _send(
        self,
        method: str,
        url: str,
        headers: list[tuple[str, str]] | None,
        *,
        plan: FetchPlan,
        host: str,
        configured: bool,
        credential: str | None,
        first_byte_s: float,
    ) -> Answer:
        sni, connect_s = plan.sni, plan.timeouts.connect_s
        certificate = credential if self._credentials.is_certificate(credential) else None
        # What TLS is verified with takes 40 ms to load, for which every client of the process would wait.
        secure = certificate is not None or not url.startswith("http:")
        pool = self._pools.get((configured, sni, certificate or "", secure))
        if pool is None:
            pool = self._open_pool(configured=configured, sni=sni, certificate=certificate, secure=secure)
        try:
            route, target = pool.route(url)
        except ValueError as error:
            raise _translated(error, host, []) from error
        if self._own_names and self._is_own_name(route.url):
            raise OriginLoop(f"{without_query(url)} is a public name of this installation", origin=host)
        loop = asyncio.get_running_loop()
        dial = Dial(loop.time() + connect_s, loop)
        self._deadlines.add(dial, loop)
        try:
            request = pool.render(method, route, target, headers)
            while True:
                connection = pool.take(route)
                if connection is None:
                    connection, fresh = await self._connect(pool, route, dial), True
                else:
                    fresh = False
                dial.connected = True
                dial.at = loop.time() + first_byte_s
                try:
                    raw = await pool.ask(connection, request, is_head=method == "HEAD")
                    break
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    # A pooled connection may have ended just before it was used; that says nothing of the
                    # origin. Every pooled one may; a fresh one ends the matter.
                    if fresh:
                        raise
                    dial.connected = False
                    dial.at = loop.time() + connect_s
        except asyncio.CancelledError as error:
            if not dial.timed_out():
                raise
            phase = "first_byte" if dial.connected else "connect"
            limit_s = first_byte_s if dial.connected else connect_s
            message = f"{host}: {phase} took over {limit_s:g} s"
            raise OriginTimeout(message, origin=host, phase=phase) from error
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            raise _translated(error, host, dial.refusals) from error
        finally:
            self._deadlines.remove(dial)
        return Answer(
            status=raw.status,
            headers=raw.pairs if raw.ascii else _texts(raw.pairs),
            url=url,
            hops=0,
            raw=raw,
            idle_s=plan.timeouts.idle_s,
            deadlines=self._deadlines,
        )

    @staticmethod
    async def _connect(pool: Exchanger, route: Any, dial: Dial) -> Connection:
        """A new connection; the guard tells `dial` what it refused."""
        dialled = current_dial.set(dial)
        try:
            return await pool.connect(route)
        finally:
            current_dial.reset(dialled)

    def _is_own_name(self, target: URL) -> bool:
        name = (target.raw_host or "").lower().rstrip(".")
        return name in self._own_names or f"{name}:{target.port}" in self._own_names

    def _open_pool(self, *, configured: bool, sni: bool, certificate: str | None, secure: bool) -> Exchanger:
        connector = GuardedConnector(
            self._guard,
            configured=configured,
            tls=self._tls_context(sni=sni, certificate=certificate) if secure else True,
            check_names=not sni and self._settings.verify_tls,
            resolver=self._resolver,
        )
        # "." leaves no name after aiohttp strips the dots: no SNI is sent.
        pool = Exchanger(connector, self._fixed, server_hostname=None if sni else ".")
        self._pools[configured, sni, certificate or "", secure] = pool
        return pool

    def _tls_context(self, *, sni: bool, certificate: str | None) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"origin.ca_file {self._settings.ca_file}: {error}") from error
        context.check_hostname = sni and self._settings.verify_tls
        context.verify_mode = ssl.CERT_REQUIRED if self._settings.verify_tls else ssl.CERT_NONE
        if certificate is not None:
            self._credentials.load_certificate(certificate, context)
        return context


def _is_named(plan: FetchPlan, authority: str) -> bool:
    """Whether a redirect leads to a host that the plan names itself, whose trust it then keeps."""
    return any(
        candidate.host == authority for group in plan.groups for candidate in (group.primary, *group.standbys)
    )


def _texts(pairs: Headers) -> Headers:
    """Header pairs as text: UTF-8 where it is, else Latin-1, but for those of which every byte is kept."""
    return tuple(
        (name, value if value.isascii() or _is_kept(name.lower()) else _latin(value)) for name, value in pairs
    )


def _is_kept(name: str) -> bool:
    return name in _KEPT_BYTES or "-meta-" in name


def _latin(value: str) -> str:
    raw = value.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _translated(error: Exception, host: str, refused: list[Refusal]) -> OriginError:
    """What went wrong before the head of an answer was there."""
    if refused:
        text = "; ".join(str(one) for one in dict.fromkeys(refused))
        if any(one.kind is Kind.OWN for one in refused):
            return OriginLoop(
                f"{host} resolves to this installation itself ({text}): its name was already moved here",
                origin=host,
            )
        return AddressRefused(f"{host}: {text}; origin.allow_networks does not list it", origin=host)
    if isinstance(error, HttpProcessingError):
        first = (error.message.splitlines() or ["no HTTP"])[0]
        return OriginMalformed(f"{host}: {first[:100].rstrip(':')}", origin=host)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return OriginUnreachable(f"{host}: no address found", origin=host)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientSSLError | ssl.SSLError):
        return OriginUnreachable(f"{host}: {_short(error)}", origin=host)
    if isinstance(error, aiohttp.InvalidUrlClientError):
        # A literal such as 2130706433 or 0177.0.0.1, which the system would take for an address (B11).
        return AddressRefused(f"{host}: no address in its usual form", origin=host)
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return OriginMalformed(f"{host}: unusable URL ({type(error).__name__})", origin=host)
    if isinstance(error, aiohttp.ClientPayloadError):
        return OriginTruncated(f"{host}: {_short(error)}", origin=host)
    return OriginUnreachable(f"{host}: closed the connection without an answer: {_short(error)}", origin=host)


def _short(error: BaseException) -> str:
    return str(error)[:200] or type(error).__name__
