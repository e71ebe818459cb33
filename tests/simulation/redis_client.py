"""What the house calls where it would call redis-py: the same methods, over the model, through the weather.

Owns how calls become exchanges: a command, a script or a pipeline is one, and may be lost as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from redis.exceptions import ConnectionError as RedisConnectionError

from simulation.redis_model import RedisModel, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from simulation.weather import Weather


class SimulatedRedis:
    """A client of one process; `decode`: answers are text, not bytes."""

    def __init__(self, model: RedisModel, weather: Weather, *, decode: bool) -> None:
        self._model = model
        self._weather = weather
        self._decode = decode

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        command = getattr(self._model, name)
        return lambda *args, **options: self.exchange(lambda: command(*args, **options))

    def eval(self, script: str, number: int, *rest: Any) -> Awaitable[Any]:
        return self.exchange(lambda: self._model.eval(script, rest[:number], rest[number:]))

    def register_script(self, script: str) -> _Script:
        return _Script(self, script)

    def pipeline(self, *, transaction: bool = True) -> _Pipeline:
        del transaction
        return _Pipeline(self)

    async def hscan_iter(self, name: str, **_: Any) -> AsyncIterator[Any]:
        for pair in (await self.exchange(lambda: self._model.hgetall(name))).items():
            yield pair

    async def scan_iter(self, match: str, **_: Any) -> AsyncIterator[Any]:
        for name in await self.exchange(lambda: self._model.names(match)):
            yield name

    async def exchange(self, do: Callable[[], Any]) -> Any:
        answer = await self._weather.call("redis", do, lost=RedisConnectionError)
        return answer if self._decode else _as_bytes(answer)


class _Script:
    def __init__(self, client: SimulatedRedis, script: str) -> None:
        self._client = client
        self._script = script

    async def __call__(self, keys: Any, args: Any = (), client: Any = None) -> Any:
        keys, args = list(keys), list(args)
        if isinstance(client, _Pipeline):
            return client.eval(self._script, len(keys), *keys, *args)
        return await self._client.eval(self._script, len(keys), *keys, *args)


class _Pipeline:
    def __init__(self, client: SimulatedRedis) -> None:
        self._client = client
        self._calls: list[Callable[[], Any]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._calls.clear()

    def __getattr__(self, name: str) -> Callable[..., _Pipeline]:
        command = getattr(self._client._model, name)

        def add(*args: Any, **options: Any) -> _Pipeline:
            self._calls.append(lambda: command(*args, **options))
            return self

        return add

    def eval(self, script: str, number: int, *rest: Any) -> _Pipeline:
        self._calls.append(lambda: self._client._model.eval(script, rest[:number], rest[number:]))
        return self

    async def execute(self) -> list[Any]:
        calls, self._calls = self._calls, []
        answers: list[Any] = await self._client.exchange(lambda: [call() for call in calls])
        return answers


def _as_bytes(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_as_bytes(one) for one in answer]
    return text(answer).encode() if isinstance(answer, str) else answer
