"""The two other servers: a store that keeps what is committed, create-only where asked, and an origin.

Owns their contents, and how each may fail: before it is done, after it, or by taking long. The bytes are
those of `torture.content`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from simulation.loop import PROCESS
from torture.content import at_origin, body_of
from workers.answers import Absent
from workers.errors import (
    OriginsExhausted,
    OriginStatus,
    OriginTruncated,
    OriginUnreachable,
    StoreUnavailable,
)
from workers.origin.fetch.fetched import Fetched
from workers.store.metadata import ATTEMPT, KEY_SHA256
from workers.store.model import Commit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from simulation.weather import Weather


#: Seconds after which a store has done at last what nobody waits for any more.
_LATE_S: Final = 20.0


class Kept(NamedTuple):
    """One object."""

    body: bytes
    attempt: str


class SimulatedStore:
    """As much of `ObjectStore` as a pull needs, and what the S3 front asks it for."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self.objects: dict[str, Kept] = {}
        #: Told of each object that a pull made, and by which process.
        self.committed: Callable[[str, str], None] = lambda _key, _process: None

    async def _call(self, do: Any) -> Any:
        return await self._weather.call("store", do, lost=StoreUnavailable)

    async def head(self, bucket: str, key: str) -> Any:
        del bucket
        found = await self._call(lambda: self.objects.get(key))
        if found is None:
            return None
        meta = {ATTEMPT: found.attempt, KEY_SHA256: sha256(key.encode()).hexdigest()}
        return SimpleNamespace(user_meta=meta if found.attempt else {}, size=len(found.body), etag="e")

    async def read(self, key: str) -> bytes | None:
        """A GET of a client, through a front."""
        found: Kept | None = await self._call(lambda: self.objects.get(key))
        return None if found is None else found.body

    async def put(self, key: str, body: bytes) -> None:
        """A PUT of a client: it replaces."""
        await self._call(lambda: self.objects.__setitem__(key, Kept(body, "")))

    async def delete(self, key: str) -> None:
        """A DELETE of a client."""
        await self._call(lambda: self.objects.pop(key, None))

    def upload(
        self, bucket: str, key: str, meta: Any, *, attempt: str, size: int | None, **_: Any
    ) -> _Upload:
        del bucket, meta, size
        return _Upload(self, key, attempt)

    async def reserve(self, size: int | None) -> Any:
        del size
        return SimpleNamespace(release=lambda: None)

    def known(self, bucket: str) -> Any:
        del bucket
        return SimpleNamespace(refuses=lambda _key, _size: None)

    def commit(self, key: str, body: bytes, attempt: str) -> Commit:
        """Create-only; an object of the same try is our own."""
        there = self.objects.setdefault(key, Kept(body, attempt))
        mine = there.attempt == attempt
        if mine:
            self.committed(key, PROCESS.get())
        return Commit(created=mine, etag="e", size=len(there.body), sha256=sha256(body).hexdigest())


class _Upload:
    def __init__(self, store: SimulatedStore, key: str, attempt: str) -> None:
        self._store = store
        self._key = key
        self._attempt = attempt
        self._body = bytearray()
        self.at_large = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def write(self, data: bytes) -> None:
        self._body += data
        await self._store._call(lambda: None)

    async def commit(self) -> Commit:
        def do() -> Commit:
            return self._store.commit(self._key, bytes(self._body), self._attempt)

        weather = self._store._weather
        self.at_large = True
        if weather.chance.random() < weather.lossy:
            sender = PROCESS.set("")
            weather.loop.call_later(weather.chance.uniform(0.1, _LATE_S), do)
            PROCESS.reset(sender)
            raise StoreUnavailable("the store is still at it, and nobody waits any more")
        commit: Commit = await self._store._call(do)
        self.at_large = False
        return commit


class SimulatedOrigin:
    """As much of `Fetcher` as a pull needs."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self.asked: Counter[str] = Counter()

    def session(self, plan: Any, item: Any, **_: Any) -> _Session:
        del plan
        return _Session(self, self._weather, item.key)


class _Session:
    attempts = ()

    def __init__(self, origin: SimulatedOrigin, weather: Weather, key: str) -> None:
        self._origin = origin
        self._weather = weather
        self._key = key

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    def discard(self, error: Exception) -> None:
        """Nothing is held."""

    async def open(self) -> Fetched | Absent:
        key, origin = self._key, self._origin
        origin.asked[key] += 1
        try:
            await self._weather.call("origin", lambda: None, lost=partial(OriginUnreachable, origin="o"))
        except OriginUnreachable as error:
            raise OriginsExhausted(str(error), attempts=(), last=error) from error
        if key.startswith("bad/"):
            refused = OriginStatus("403", origin="o", status=403)
            raise OriginsExhausted("403", attempts=(), last=refused)
        if not at_origin(key):
            return Absent(attempts=(), answer=None)
        body, coming = body_of(key), self._pieces()
        return Fetched(
            status=200, headers=(("Content-Type", "text/plain"),), length=len(body), framing="length",
            content_range=None, origin="o", url=f"http://o/{key}", digests_offered=False,
            _read=lambda _: anext(coming, b""),
        )  # fmt: skip

    async def _pieces(self) -> AsyncIterator[bytes]:
        body, chance = body_of(self._key), self._weather.chance
        # Now and then one that lasts longer than leases do.
        pause = 0.02 if chance.random() < 0.5 else 0.3
        if self._weather.slow_bodies and chance.random() < 0.2:
            pause = 20.0
        for at in range(0, len(body), 1 + len(body) // 2):
            await asyncio.sleep(chance.uniform(0.0, 2 * pause))
            if chance.random() < self._weather.lossy:
                raise OriginTruncated("cut", origin="o")
            yield body[at : at + 1 + len(body) // 2]
