"""Deleted stays deleted: tombstones around a delete, lifted by a later write (SEMANTICS.md S15).

Owns the order that decides every race by the key's claim. A delete buries first: from then on no pull can
begin. A pull that holds the claim already is waited for, so that its object is there to be deleted; only
then is the store asked. A write looks which tombstone there is before the store is asked, and afterwards
lifts that one only: a delete that came meanwhile has put another. A delete that is still under way has a
mark of its own, which no write lifts: its object may be written first and deleted after.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import RedisError

from scheduler.front.pull.gathered import Gathered
from workers.errors import FerrymanError, described
from workers.ledger.claims import DELETED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workers.ledger.claims import Claims

log = structlog.get_logger()

#: Seconds that a tombstone lasts: longer than migrations do.
TTL_S: Final = 90 * 86_400.0
#: Longest time in seconds that the ledger may delay a client.
_PATIENCE_S: Final = 2.0
#: Of a request's id this much stands in a tombstone: enough to find it in a log, and short in memory.
_ID_CHARS: Final = 12
_UNDER_WAY: Final = "s3 deleting "
#: Seconds after which a delete that never ended (its front died, the store did not answer) is over.
_OVER_S: Final = 3600
_FIRST_LOOK_S: Final = 0.01
_LAST_LOOK_S: Final = 0.25


class NotBuried(FerrymanError):
    """Nothing may be deleted now; the client tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buried:
    """Keys under a tombstone of one request."""

    bucket: str
    mark: str
    #: What the mark becomes when the store has deleted.
    done: str
    #: By key, the tombstone that was there before; None where there was none.
    before: Mapping[str, str | None]


class Tombstones:
    """The tombstones of one front; `wait_s` is how long a delete waits for a pull that is under way."""

    def __init__(self, claims: Claims, *, wait_s: float) -> None:
        self._claims = claims
        self._wait_s = wait_s
        # Every write looks: a round trip is shared by those that come during the one before.
        self._found = Gathered(claims.tombstones_of)

    async def bury(self, bucket: str, keys: Sequence[str], *, request_id: str) -> Buried:
        """Put tombstones, and wait until no pull of these keys is under way.

        Raises:
            NotBuried: the ledger does not answer, or a pull lasts too long; no tombstone is left.
        """
        name = request_id[:_ID_CHARS]
        mark = f"{_UNDER_WAY}{int(time.time())} {name}"
        try:
            async with asyncio.timeout(_PATIENCE_S):
                before, running = await self._claims.bury(bucket, keys, mark=mark, ttl_s=TTL_S)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("ledger_away", error=described(error))
            raise NotBuried("The ledger does not answer, so the deletion could not be noted.") from error
        buried = Buried(bucket=bucket, mark=mark, done=f"{DELETED}{name}", before=before)
        try:
            if running and not await self._ended(bucket, running):
                raise NotBuried("An object is being fetched from its origin and cannot be deleted yet.")
        except BaseException:
            await self.take_back(buried)
            raise
        return buried

    async def keep(self, buried: Buried) -> None:
        """The store has deleted: from now on a write lifts these tombstones."""
        await self._change(buried, dict.fromkeys(buried.before, buried.done))

    async def take_back(self, buried: Buried, keys: Iterable[str] | None = None) -> None:
        """The store has deleted nothing of these: things are as they were, unless somebody changed them."""
        wanted = buried.before if keys is None else {k: buried.before[k] for k in keys if k in buried.before}
        await self._change(buried, wanted)

    async def _change(self, buried: Buried, wanted: Mapping[str, str | None]) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._claims.unbury(buried.bucket, wanted, mark=buried.mark, ttl_s=TTL_S)
        except (RedisError, OSError, TimeoutError) as error:
            # The object is there all the same: a tombstone only keeps a missing key from being pulled.
            log.warning("tombstone_left", bucket=buried.bucket, keys=len(wanted), error=described(error))

    async def found(self, bucket: str, key: str) -> str | None:
        """The tombstone that a write lifts; None when there is none, or the ledger does not answer."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                mark = await self._found.ask((bucket, key))
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("ledger_away", error=described(error))
            return None
        return None if mark is None or _is_under_way(mark) else mark

    async def lift(self, bucket: str, key: str, mark: str) -> None:
        """The key was written: this tombstone goes, and no other."""
        await self.take_back(Buried(bucket=bucket, mark=mark, done=mark, before={key: None}))

    async def _ended(self, bucket: str, keys: Sequence[str]) -> bool:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._wait_s
        pause = _FIRST_LOOK_S
        left = list(keys)
        while left:
            if loop.time() >= until:
                return False
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_LOOK_S)
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    left = await self._claims.running(bucket, left)
            except (RedisError, OSError, TimeoutError) as error:
                raise NotBuried("The ledger does not answer.") from error
        return True


def _is_under_way(mark: str) -> bool:
    if not mark.startswith(_UNDER_WAY):
        return False
    since = mark.removeprefix(_UNDER_WAY).partition(" ")[0]
    return not since.isdecimal() or time.time() - int(since) < _OVER_S
