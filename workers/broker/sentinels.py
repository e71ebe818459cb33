"""Which server is written to now: what the sentinels say, and who of them is believed.

Each is asked anew for every connection that is opened; of several answers the one of the latest fail-over
counts (`config-epoch`), so that a sentinel that was cut off sends nobody back to the server before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from workers.errors import described

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis
    import redis.asyncio

    from workers.broker_address import Sentinels

#: Seconds for one sentinel to connect, and to answer.
ASKED_S: Final = 1.0


class MasterUnknown(RedisConnectionError):
    """No sentinel names a server that is up; the text says what each of them answered."""


class AsyncFinder:
    """Asks all sentinels at once; whoever wants to know at the same time shares one question."""

    def __init__(self, sentinels: Sentinels, client: Callable[[str, int], redis.asyncio.Redis]) -> None:
        self._sentinels = sentinels
        self._client = client
        self._asking: asyncio.Task[tuple[str, int]] | None = None
        self._last: tuple[str, int] | None = None
        #: Connections that wait for work; they lead to the server before when it is another one now.
        self.pool: redis.asyncio.ConnectionPool | None = None

    async def master(self) -> tuple[str, int]:
        """(host, port) of the server that is written to.

        Raises:
            MasterUnknown: none of them knows it.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())
        found = await asyncio.shield(self._asking)
        if self._last not in {None, found} and self.pool is not None:
            self._last = found
            await self.pool.disconnect(inuse_connections=False)
        self._last = found
        return found

    async def answers(self) -> list[dict[str, Any] | str]:
        """What each says of the server, in their order; a text is what went wrong."""
        return await asyncio.gather(*(self._ask(*host) for host in self._sentinels.hosts))

    async def _ask_all(self) -> tuple[str, int]:
        return _latest(self._sentinels, await self.answers())

    async def _ask(self, host: str, port: int) -> dict[str, Any] | str:
        client = self._client(host, port)
        try:
            return _state(await client.execute_command("SENTINEL MASTER", self._sentinels.master))  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            return described(error)
        finally:
            await client.aclose()


class Finder:
    """The same for threads, one sentinel after the other."""

    def __init__(self, sentinels: Sentinels, client: Callable[[str, int], redis.Redis]) -> None:
        self._sentinels = sentinels
        self._client = client
        self._last: tuple[str, int] | None = None
        #: As `AsyncFinder` has it.
        self.pool: redis.ConnectionPool | None = None

    def master(self) -> tuple[str, int]:
        """(host, port) of the server that is written to.

        Raises:
            MasterUnknown: none of them knows it.
        """
        found = _latest(self._sentinels, [self._ask(*host) for host in self._sentinels.hosts])
        if self._last not in {None, found} and self.pool is not None:
            self._last = found
            self.pool.disconnect(inuse_connections=False)
        self._last = found
        return found

    def _ask(self, host: str, port: int) -> dict[str, Any] | str:
        client = self._client(host, port)
        try:
            return _state(client.execute_command("SENTINEL MASTER", self._sentinels.master))  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            return described(error)
        finally:
            client.close()


def _state(answer: Any) -> dict[str, Any]:
    return dict(answer)


def _latest(sentinels: Sentinels, answers: Sequence[dict[str, Any] | str]) -> tuple[str, int]:
    """The server of the latest fail-over that is up.

    Raises:
        MasterUnknown: there is none.
    """
    states = [answer for answer in answers if isinstance(answer, dict)]
    up = [state for state in states if not (state.get("is_sdown") or state.get("is_odown"))]
    if up:
        state = max(up, key=lambda state: int(state.get("config-epoch", 0)))
        return str(state["ip"]), int(state["port"])
    said = "; ".join(
        f"{host}:{port}: {answer if isinstance(answer, str) else 'says that it is down'}"
        for (host, port), answer in zip(sentinels.hosts, answers, strict=True)
    )
    raise MasterUnknown(f"no sentinel names a server of {sentinels.master!r} that is up: {said}")
