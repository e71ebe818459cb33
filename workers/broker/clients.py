"""Makes every Redis client of the house: for asyncio, and for dramatiq's threads.

Owns which connection a URL means, TLS, credentials of servers and sentinels, bounds and deadlines. Clients
connect on first use, and again after every failure; no caller has to know that a server failed over.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import redis
import redis.asyncio
from redis.connection import parse_url
from redis.driver_info import DriverInfo

from workers.broker import following
from workers.broker.pool import Pool
from workers.broker.sentinels import ASKED_S, AsyncFinder, Finder
from workers.broker_address import sentinels_of, server_url
from workers.errors import ConfigError
from workers.redis_wire import packed
from workers.secret_values import reveal

if TYPE_CHECKING:
    from workers.settings import BrokerSettings

#: Seconds to connect, and to wait for an answer, of clients on an event loop.
_ASYNC_S: Final = (3.0, 10.0)
#: The same of dramatiq's threads, which would wait for ever for a server that went silent. What was handed
#: out meanwhile is found again by `workers.queue.strays`.
_THREAD_S: Final = (5.0, 15.0)
#: What connections say of themselves, made once: each would look up its library's version anew (0.7 ms).
_DRIVER: Final = DriverInfo()
#: Seconds that a coroutine waits for one of its process's connections.
_POOL_S: Final = 5.0


def connect(
    settings: BrokerSettings, *, database: int | None = None, decode: bool = True, max_connections: int = 32
) -> redis.asyncio.Redis:
    """An asynchronous client with bounded connections and deadlines; connects on first use.

    `database`: another one than the URL's own. `decode`: answers are str (all of ours are UTF-8); the queue's
    own messages are read as bytes.

    Raises:
        ConfigError: an option behind `?` of the URL has no usable value, or a secret file cannot be read.
    """
    options = _options(settings, database, _ASYNC_S)
    sentinels = sentinels_of(settings.url)
    tls, unix = settings.url.startswith("rediss"), "path" in options
    if sentinels is not None:
        asked = _sentinel_options(settings, options)
        options["finder"] = AsyncFinder(sentinels, partial(_async_sentinel, asked))
        kind: Any = following.AsyncFoundTls if tls else following.AsyncFoundTcp
    else:
        kind = following.AsyncUnix if unix else following.AsyncTls if tls else following.AsyncTcp
    pool = _made(
        Pool,
        connection_class=packed(kind),
        max_connections=max_connections,
        timeout=_POOL_S,
        decode_responses=decode,
        **options,
    )
    if sentinels is not None:
        options["finder"].pool = pool
    return redis.asyncio.Redis.from_pool(pool)


def connect_blocking(settings: BrokerSettings) -> redis.Redis:
    """A client for threads, on the queue's database; connects on first use.

    Raises:
        ConfigError: as `connect`.
    """
    options = _options(settings, None, _THREAD_S)
    sentinels = sentinels_of(settings.url)
    tls, unix = settings.url.startswith("rediss"), "path" in options
    if sentinels is not None:
        asked = _sentinel_options(settings, options)
        options["finder"] = Finder(sentinels, partial(_sentinel, asked))
        kind: Any = following.FoundTls if tls else following.FoundTcp
    else:
        kind = following.Unix if unix else following.Tls if tls else following.Tcp
    if not unix:
        options.setdefault("socket_keepalive", True)
    pool = _made(redis.ConnectionPool, connection_class=kind, **options)
    if sentinels is not None:
        options["finder"].pool = pool
    return redis.Redis.from_pool(pool)


async def ask_sentinels(settings: BrokerSettings) -> dict[str, str]:
    """Each configured sentinel (`host:port`) with what is wrong with its answer, nothing when it is well.

    Empty where the URL names the server itself.

    Raises:
        ConfigError: as `connect`.
    """
    sentinels = sentinels_of(settings.url)
    if sentinels is None:
        return {}
    asked = _sentinel_options(settings, _options(settings, None, _ASYNC_S))
    answers = await AsyncFinder(sentinels, partial(_async_sentinel, asked)).answers()
    return {
        f"{host}:{port}": answer if isinstance(answer, str) else ""
        for (host, port), answer in zip(sentinels.hosts, answers, strict=True)
    }


def _made(pool: Any, **options: Any) -> Any:
    """A pool of which one connection was made, and not opened, to see that it takes its options."""
    try:
        made = pool(**options)
        made.make_connection()
        made.reset()
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(f"broker.url: {error}") from error
    return made


def _options(
    settings: BrokerSettings, database: int | None, deadlines_s: tuple[float, float]
) -> dict[str, Any]:
    """What the URL and the files beside it say, as arguments of a connection."""
    try:
        options: dict[str, Any] = dict(
            parse_url(server_url(settings.url, database))  # type: ignore[no-untyped-call]
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(f"broker.url: {error}") from error
    options.pop("connection_class", None)
    options["driver_info"] = _DRIVER
    options.setdefault("socket_connect_timeout", deadlines_s[0])
    options.setdefault("socket_timeout", deadlines_s[1])
    named = {
        "ssl_ca_certs": settings.ca_file,
        "ssl_certfile": settings.certificate_file,
        "ssl_keyfile": settings.key_file or settings.certificate_file,
    }
    return options | {name: str(file) for name, file in named.items() if file is not None}


def _sentinel_options(settings: BrokerSettings, options: dict[str, Any]) -> dict[str, Any]:
    """How a sentinel is asked: over the same TLS, with credentials of its own."""
    kept = {name: value for name, value in options.items() if name.startswith("ssl_")}
    password = reveal(
        settings.sentinel_password, settings.sentinel_password_file, name="broker.sentinel_password_file"
    )
    return kept | {
        "username": settings.sentinel_username,
        "password": password,
        "ssl": settings.url.startswith("rediss"),
        "socket_connect_timeout": ASKED_S,
        "socket_timeout": ASKED_S,
        "decode_responses": True,
        "retry": None,
        "driver_info": _DRIVER,
    }


def _async_sentinel(options: dict[str, Any], host: str, port: int) -> redis.asyncio.Redis:
    return redis.asyncio.Redis(host=host, port=port, **options)


def _sentinel(options: dict[str, Any], host: str, port: int) -> redis.Redis:
    return redis.Redis(host=host, port=port, **options)
