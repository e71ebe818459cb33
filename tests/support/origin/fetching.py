"""What tests of fetching need: a control that remembers, plans for chaos origins, and a store in memory."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp.abc import AbstractResolver

from workers.origin.control.control import OriginControl
from workers.origin.fetch.fetcher import Fetched, Fetcher
from workers.origin.wire.client import OriginClient
from workers.plan import FetchItem, FetchPlan, Lane, Origin, OriginGroup, Timeouts
from workers.settings import OriginSettings
from workers.store.model import Commit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from support.origin.chaos import ChaosOrigin

#: Short enough for tests, long enough for a busy machine.
QUICK = Timeouts(connect_s=2.0, first_byte_s=2.0, idle_s=0.4)


class FakeResolver(AbstractResolver):
    """Gives each name its addresses; a list of lists is used up one lookup at a time (rebinding)."""

    def __init__(self, names):
        self.names = names
        self.asked = []

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked.append(host)
        answers = self.names.get(host)
        if answers is None:
            raise OSError(None, "no such name")
        now = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": 0,
            }
            for address in now
        ]

    async def close(self):
        """Nothing is open."""


class WatchedControl(OriginControl):
    """The real one, remembering what it was told and which slots are out."""

    def __init__(self, settings: OriginSettings) -> None:
        super().__init__(settings)
        self.good: list[str] = []
        self.bad: list[tuple[str, str]] = []
        self.slots: list[Any] = []

    async def acquire(self, host: str, lane: Lane, *, timeout_s: float) -> Any:
        slot = await super().acquire(host, lane, timeout_s=timeout_s)
        self.slots.append((host, slot))
        return slot

    def acquire_now(self, host: str, lane: Lane) -> Any:
        slot = super().acquire_now(host, lane)
        if slot is not None:
            self.slots.append((host, slot))
        return slot

    def succeeded(self, host: str, first_byte_s: float, *, status: int = 200) -> None:
        self.good.append(host)
        super().succeeded(host, first_byte_s, status=status)

    def failed(self, host: str, error: Any) -> None:
        self.bad.append((host, error.reason))
        super().failed(host, error)

    def in_flight(self) -> int:
        """Slots that are held now."""
        return sum(budget.hot + budget.cold for budget in self._hosts.values())


@dataclass(kw_only=True)
class Rig:
    """A fetcher with its parts at hand."""

    fetcher: Fetcher
    control: WatchedControl
    client: OriginClient

    async def get(
        self,
        plan: FetchPlan,
        path: str,
        *,
        lane: Lane = Lane.HOT,
        item: FetchItem | None = None,
        **kwargs: Any,
    ) -> Got:
        """One whole fetch as a worker does it: a broken body is discarded and the next candidate asked."""
        item = item or FetchItem(key=path, path=path)
        async with self.fetcher.session(plan, item, lane=lane, **kwargs) as session:
            discarded = 0
            while True:
                answer = await session.open()
                if not isinstance(answer, Fetched):
                    return Got(answer=answer, attempts=session.attempts, discarded=discarded)
                body = b""
                try:
                    async for chunk in answer.chunks():
                        body += chunk
                except Exception as error:
                    if not getattr(error, "switch", False):
                        raise
                    discarded += 1
                    continue
                return Got(answer=answer, body=body, attempts=session.attempts, discarded=discarded)


@dataclass(kw_only=True)
class Got:
    """What a fetch ended with."""

    answer: Any
    body: bytes = b""
    attempts: tuple[Any, ...] = ()
    discarded: int = 0

    @property
    def way(self) -> list[tuple[int | None, str]]:
        """Status and reason of each attempt."""
        return [(attempt.status, attempt.error) for attempt in self.attempts]


@asynccontextmanager
async def rig(
    settings: OriginSettings | None = None, *, instance: str = "me", **kwargs: Any
) -> AsyncIterator[Rig]:
    """A fetcher over the real client and control; asserts at the end that every slot came back."""
    settings = settings or OriginSettings()
    control = WatchedControl(settings)
    async with OriginClient(settings, instance=instance, **kwargs) as client:
        yield Rig(fetcher=Fetcher(client, control), control=control, client=client)
        assert control.in_flight() == 0, "a slot leaked"
    await control.close()
    await asyncio.sleep(0)


def plan_for(
    *origins: ChaosOrigin | str, standbys: Sequence[ChaosOrigin | str] = (), **kwargs: Any
) -> FetchPlan:
    """A plan whose primaries are `origins`; `standbys` belong to the first."""
    values: dict[str, Any] = {"bucket": "b", "rule": "r", "trusted_hosts": True, "timeouts": QUICK, **kwargs}
    groups = tuple(
        OriginGroup(
            primary=_origin(one), standbys=tuple(_origin(other) for other in standbys) if place == 0 else ()
        )
        for place, one in enumerate(origins)
    )
    return FetchPlan(groups=groups, **values)


def _origin(one: ChaosOrigin | str) -> Origin:
    return Origin(host=one if isinstance(one, str) else one.host, scheme="http")


@dataclass(kw_only=True)
class MemoryStore:
    """The face of ObjectStore that `move` uses; create-only."""

    objects: dict[str, bytes] = field(default_factory=dict)
    aborted: int = 0

    async def reserve(self, size: int | None) -> _Lease:
        return _Lease()

    @asynccontextmanager
    async def _upload(self, key: str) -> AsyncIterator[_Upload]:
        upload = _Upload(self, key)
        try:
            yield upload
        finally:
            self.aborted += not upload.committed

    def upload(self, bucket: str, key: str, meta: Any, **kwargs: Any) -> Any:
        return self._upload(key)


class _Lease:
    def release(self) -> None:
        """Nothing is held."""


class _Upload:
    def __init__(self, store: MemoryStore, key: str) -> None:
        self._store, self._key, self._body, self.committed = store, key, b"", False
        self.at_large = False

    async def write(self, data: bytes) -> None:
        self._body += data

    async def commit(self) -> Commit:
        created = self._key not in self._store.objects
        self._store.objects.setdefault(self._key, self._body)
        self.committed = True
        return Commit(created=created, etag='"e"', size=len(self._body), sha256="")
