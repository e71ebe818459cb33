"""What the origin lacks of the store, key by key, in Redis: the queue of the lane `back`.

Owns the record of a key between a write that passed the gateway and the moment at which its origin has the
same. The record is the job: it carries no bytes and no version, whoever takes it makes the origin equal to
what the store has then. Many writes of a key are one record. Knows neither rules nor how anything is copied.

A write is noted when the store is asked (`begin`) and again with what came of it (`end`): a front that dies
in between leaves the intent, and the key is looked at all the same. Where the store never answered, it is
looked at twice, at once and a minute later: the store may still be at it. `end` gives the key a new number of
one sequence; who brought it (`finish`) is done only if the number is the one that he took, so that a write
which came meanwhile is brought too, and the last one wins whatever the order of jobs.

Key schema (ledger database; `id` is `<bucket>` NUL `<key>`)::

    ns:back:routes          hash    bucket -> JSON of its routes (`workers.back_routes`), by the control plane
    ns:back:sequence        string  the last number given
    ns:back:buckets         set     buckets with records
    ns:back:keys:<bucket>   hash    key -> `seq|seen|tries|how|owner`: number of the last write; number that
                                    was brought while another write was under way; tries that failed; `w`
                                    written, `d` deleted, `e` told by an event or a scan, `f` a
                                    listed failure; who brings it now
    ns:back:due:<bucket>    zset    key -> ms at which it is looked at; while somebody has it, the end of his
                                    lease; not there: a listed failure, until somebody asks or writes again
    ns:back:since:<bucket>  zset    key -> ms of the oldest write that the origin lacks
    ns:back:open:<id>       set     `<front>/<number>` of writes under way, `<front>-<number>/` of those that
                                    nobody waits for any more and that may still come about; a day
    ns:back:front:<front>   string  `1`, 30 s: this front lives; of `<front>-<number>` 60 s
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, TypeVar, cast

from workers.broker.replicas import Replicas
from workers.ledger import back_scripts
from workers.ledger.claims import LATE_MS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

T = TypeVar("T")

#: Milliseconds of a taken key; renewed every third of it.
LEASE_MS: Final = 60_000
#: Milliseconds after its last sign of life from which a front is dead.
ALIVE_MS: Final = 30_000
#: Milliseconds until a key whose write is still under way is looked at (again).
AGAIN_MS: Final = 2_000
_WAIT_MS: Final = 5_000
_OPEN_MS: Final = 86_400_000
#: Keys that a script call handles.
CHUNK: Final = 500

#: What came of a write: the flags of a record, or nothing; or nobody knows, nor whether it is over.
WRITTEN, DELETED, TOLD, NOTHING, UNKNOWN = "w", "d", "e", "", "?"
LISTED: Final = "f"


class Finished(StrEnum):
    """What came of bringing a key."""

    DONE = "done"
    #: Written again meanwhile: it is due at once.
    AGAIN = "again"
    #: The lease had ended and somebody else has, or had, the key.
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A key that the store is about to be asked to change."""

    bucket: str
    key: str
    #: Names the request among those of its front; empty for a change that was not announced.
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Intent):
    """What came of it: WRITTEN, DELETED, TOLD, NOTHING where the store is as it was, or UNKNOWN."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A key to be brought, under a lease."""

    bucket: str
    key: str
    seq: str
    #: Tries that failed before.
    tries: int
    how: str
    #: Server's clock when it was taken, in ms.
    at_ms: str

    @property
    def was_deleted(self) -> bool:
        """Whether a delete came about since the origin was last equal."""
        return DELETED in self.how

    @property
    def was_written(self) -> bool:
        """Whether a write passed a gateway; else only an event or a scan named the key."""
        return WRITTEN in self.how or TOLD not in self.how

    @property
    def was_listed(self) -> bool:
        """Whether it is a listed failure."""
        return LISTED in self.how


@dataclass(frozen=True, slots=True, kw_only=True)
class BackState:
    """How far an origin is behind."""

    #: Keys whose last write the origin may lack, failures and writes under way among them.
    pending: int
    #: Of these, those that wait for an operator (listed failures).
    failed: int
    #: Age in seconds of the oldest write that the origin lacks; 0 without one.
    lag_s: float


class Back:
    """The records of every bucket; raises redis-py's errors untranslated."""

    def __init__(self, redis: Redis, *, namespace: str, replicas: Replicas | None = None) -> None:
        self._redis = redis
        #: Who else must have a record before it counts.
        self._replicas = replicas or Replicas()
        self._ns = f"{namespace}:back"
        self._begin = redis.register_script(back_scripts.BEGIN)
        self._end = redis.register_script(back_scripts.END)
        self._take = redis.register_script(back_scripts.TAKE)
        self._finish = redis.register_script(back_scripts.FINISH)
        self._put_off = redis.register_script(back_scripts.PUT_OFF)
        self._renew = redis.register_script(back_scripts.RENEW)
        self._forget = redis.register_script(back_scripts.FORGET)

    def _name(self, what: str, bucket: str = "") -> str:
        return f"{self._ns}:{what}:{bucket}" if bucket else f"{self._ns}:{what}"

    def _open(self, bucket: str, key: str) -> str:
        return f"{self._ns}:open:{bucket}\x00{key}"

    # ------------------------------------------------------------ noting

    async def begin(self, intents: Sequence[Intent], *, front: str) -> None:
        """A front is about to ask the store to change these keys."""
        names = [self._name("sequence"), self._name("buckets"), f"{self._ns}:front:{front}"]
        for some in _chunks(intents):
            args: list[str | int] = [self._ns, front, ALIVE_MS, _OPEN_MS, _WAIT_MS]
            for one in some:
                args += [one.bucket, one.token, one.key]
            async with self._replicas.holding(self._redis) as redis:
                await self._begin(names, args, client=redis)

    async def end(self, changes: Sequence[Change], *, front: str = "") -> None:
        """What came of it."""
        names = [self._name("sequence"), self._name("buckets")]
        for some in _chunks(changes):
            args: list[str | int] = [self._ns, front, LATE_MS, _OPEN_MS]
            for one in some:
                args += [one.bucket, one.token, one.key, one.what]
            async with self._replicas.holding(self._redis) as redis:
                await self._end(names, args, client=redis)

    async def note(self, bucket: str, keys: Sequence[str], how: str) -> None:
        """Keys that an event, a scan or an operator names: they are brought as the store has them."""
        await self.end([Change(bucket=bucket, key=key, what=how) for key in keys])

    async def alive(self, front: str) -> None:
        """This front lives: its writes under way are waited for."""
        await self._redis.set(f"{self._ns}:front:{front}", "1", px=ALIVE_MS)

    # ------------------------------------------------------------ bringing

    async def buckets(self) -> list[str]:
        """Buckets that have records."""
        found = await self._redis.smembers(self._name("buckets"))
        return sorted(cast("set[str]", found))

    async def take(self, bucket: str, *, owner: str, limit: int) -> list[Taken]:
        """Take keys whose time has come, at most `limit`, each under a lease of `LEASE_MS`."""
        rows = await self._call_take(bucket, owner, limit)
        return [self._taken(bucket, row) for row in rows]

    async def take_one(self, bucket: str, key: str, *, owner: str) -> Taken | Literal[False] | None:
        """Take this key, due or not; None where nothing is pending of it, False where somebody has it."""
        rows = await self._call_take(bucket, owner, 1, key)
        if not rows:
            return None
        return self._taken(bucket, rows[0]) if rows[0][1] else False

    async def _call_take(self, bucket: str, owner: str, limit: int, *wanted: str) -> list[list[str]]:
        names = [self._name("keys", bucket), self._name("due", bucket), self._name("since", bucket)]
        args: list[str | int] = [bucket, owner, LEASE_MS, AGAIN_MS, limit, self._open(bucket, "")]
        args += [f"{self._ns}:front:", *wanted]
        return cast("list[list[str]]", await self._take([*names, self._name("buckets")], args))

    @staticmethod
    def _taken(bucket: str, row: list[str]) -> Taken:
        key, seq, tries, how, at_ms = row
        return Taken(bucket=bucket, key=key, seq=seq, tries=int(tries), how=how, at_ms=at_ms)

    async def finish(self, bucket: str, taken: Sequence[Taken], *, owner: str) -> list[Finished]:
        """The origin has what the store had when these were taken, or later; answers in their order."""
        names = [self._name("keys", bucket), self._name("due", bucket), self._name("since", bucket)]
        names += [self._name("buckets"), *(self._open(bucket, one.key) for one in taken)]
        args: list[str | int] = [bucket, owner, AGAIN_MS]
        for one in taken:
            args += [one.key, one.seq, one.at_ms]
        return [Finished(state) for state in await self._finish(names, args)]

    async def put_off(self, taken: Taken, *, owner: str, delay_s: float | None, tries: int) -> None:
        """Not now: again in `delay_s` seconds, or (None) when somebody asks; a later write comes at once."""
        names = [self._name("keys", taken.bucket), self._name("due", taken.bucket)]
        delay_ms = -1 if delay_s is None else int(delay_s * 1000)
        await self._put_off(names, [owner, taken.key, taken.seq, delay_ms, tries])

    async def renew(self, bucket: str, key: str, *, owner: str) -> bool:
        """Extend the lease of a key that is still being brought; whether it was still this owner's."""
        names = [self._name("keys", bucket), self._name("due", bucket)]
        return bool(await self._renew(names, [owner, LEASE_MS, key]))

    async def forget(self, bucket: str, keys: Sequence[str]) -> int:
        """Nobody wants these at the origin any more (waived, or their rule went); how many there were."""
        names = [self._name("keys", bucket), self._name("due", bucket), self._name("since", bucket)]
        done = 0
        for some in _chunks(keys):
            done += int(await self._forget([*names, self._name("buckets")], [bucket, *some]))
        return done

    # ------------------------------------------------------------ looking

    async def state(self, bucket: str) -> BackState:
        """How far the origins of a bucket are behind."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hlen(self._name("keys", bucket))
            pipe.zcard(self._name("due", bucket))
            pipe.zrange(self._name("since", bucket), 0, 0, withscores=True)
            pipe.time()
            pending, due, oldest, (seconds, micros) = await pipe.execute()
        lag_s = seconds + micros / 1e6 - oldest[0][1] / 1000 if oldest else 0.0
        return BackState(
            pending=int(pending), failed=max(0, int(pending) - int(due)), lag_s=max(0.0, round(lag_s, 3))
        )

    async def progress(self, bucket: str, keys: Sequence[str]) -> list[Literal["pending", "done", "failed"]]:
        """What became of keys that were noted, in their order."""
        found: list[Literal["pending", "done", "failed"]] = []
        for some in _chunks(keys):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hmget(self._name("keys", bucket), list(some))
                pipe.zmscore(self._name("due", bucket), list(some))
                records, due = await pipe.execute()
            for record, at in zip(records, due, strict=True):
                found.append("done" if record is None else "failed" if at is None else "pending")
        return found

    async def is_pending(self, bucket: str, key: str) -> bool:
        """Whether the origin may lack the key's last write."""
        return bool(await self._redis.hexists(self._name("keys", bucket), key))

    async def keys(self, bucket: str) -> AsyncIterator[str]:
        """Every key that the origin may lack, in no order, each at least once."""
        async for key, _ in self._redis.hscan_iter(self._name("keys", bucket), count=500):
            yield key

    # ------------------------------------------------------------ routes

    async def routes(self, bucket: str) -> str:
        """The routes of a bucket as the control plane wrote them; empty without."""
        return str(await self._redis.hget(routes_key_of(self._ns), bucket) or "")


def routes_key(namespace: str) -> str:
    """Name of the hash that the control plane writes with every change of a bucket's rules."""
    return routes_key_of(f"{namespace}:back")


def routes_key_of(prefix: str) -> str:
    """The same, by the prefix of this file's keys."""
    return f"{prefix}:routes"


def _chunks(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[at : at + CHUNK] for at in range(0, len(items), CHUNK)]
