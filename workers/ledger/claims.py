"""Who is moving which key: claims, the negative cache, and tombstones, in Redis.

Owns the states of one key between a miss and its outcome. All decisions are made inside Lua, on the server's
clock, many keys a round trip. Knows nothing of rules, queues or stores.

Key schema (ledger database; `ns` is `broker.namespace`, `id` is `<bucket>` NUL `<key>` in UTF-8)::

    ns:claim:id   string `state|lane|owner`, with expiry
                    pending  30 s    a dispatcher has decided, the queue has not accepted yet; never
                                     deduplicates, so a dispatcher that dies here loses nothing
                    queued   1 h     a message carries it; deduplicates the same and colder lanes; a hot
                                     miss replaces a cold claim
                    running  lease   somebody moves it; renewed while bytes move. A worker's deduplicates all:
                                     its message returns when it dies. A front's (`FRONT`) has no message
                                     behind it, so one event a minute is queued to follow it
                    stored   30 s    it has just reached the store, or was written where it had been
                                     deleted; deduplicates nothing, but whoever
                                     starts on the key looks at the store before the origin. A claim made
                                     meanwhile ends with `|look`, which says the same
    ns:claim:id NUL `after`
                  string `1`, one minute: the queue has a message that follows a front's pull
    ns:late:id    string `1`, one minute: the store was asked for an object and gave no answer, so that it may
                         yet appear; keeps out deletes, as a running claim does
    ns:absent:id  string the rule that found none, and its epoch, for the rule's `absent_ttl_s` (L14)
    ns:tomb:id    string `reason`, expires with the tombstone (S15)
    ns:tombstoned zset   bucket -> unix seconds until which its tombstones may last
    ns:tombdirs:<bucket>
                  set    directories (`a/`, `a/b/`) that a tombstone was put below, and may have been lifted
                         since; expires with the last of them
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, cast

from workers.broker.replicas import Replicas
from workers.ledger import claim_scripts, tombstones
from workers.plan import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from workers.plan import FetchPlan

#: Milliseconds that a claim may stay between decision and enqueue.
PENDING_MS = 30_000
#: Milliseconds that a queued claim deduplicates before another message is allowed.
QUEUED_MS = 3_600_000
#: Milliseconds of a running lease; renewed every third of it.
LEASE_MS = 30_000
#: Milliseconds that a finished pull is remembered for those who saw the store without the key before.
STORED_MS = 30_000
#: Milliseconds within which a front's pull is followed by one message.
AFTER_MS = 60_000
#: Milliseconds for which a store may still do what it never answered.
LATE_MS = 60_000
#: What the owner tokens of fronts begin with.
FRONT = "front-"
#: What the tombstones of deletes that have come about begin with; who writes them is the gateway.
DELETED = "s3 delete "
#: Keys a script call handles, so that Redis is never blocked for long.
CHUNK = 500


class ClaimState(StrEnum):
    """What came of asking for a key."""

    CLAIMED = "claimed"
    DUPLICATE = "duplicate"
    ABSENT = "absent"
    TOMBSTONE = "tombstone"


class WantedKey(NamedTuple):
    """A key that a client waits for."""

    bucket: str
    key: str
    #: Whether STORED is an answer; without it the mark of a pull that has just ended is passed over.
    heed_stored: bool = True
    #: As `asker` names the rule that would ask its origins; empty: any.
    rule: str = ""


def asker(plan: FetchPlan) -> str:
    """The rule and its version, as a mark of absence names it: another one may know another origin."""
    return f"{plan.rule} {plan.epoch}"


class RunState(StrEnum):
    """What came of starting on a key."""

    STARTED = "started"
    #: Started, but the store may have it by now: look there before the origin is asked.
    LOOK = "look"
    BUSY = "busy"
    TOMBSTONE = "tombstone"
    #: Only from `start_wanted`: no origin had it lately.
    ABSENT = "absent"
    #: A moment ago somebody else's pull reached the store. From `start_wanted` no claim was taken.
    STORED = "stored"


class Claims:
    """Claims, absent keys and tombstones of every bucket.

    Every method is one round trip for each 500 keys and raises redis-py's errors untranslated: callers decide
    what a missing Redis means for them.
    """

    def __init__(self, redis: Redis, *, namespace: str, replicas: Replicas | None = None) -> None:
        self._redis = redis
        self._ns = namespace
        #: Who else must have a tombstone before it counts.
        self._replicas = replicas or Replicas()
        #: Buckets that are known to have tombstones; see `learn_tombstoned`.
        self._tombstoned: set[str] = set()
        self._claim = redis.register_script(claim_scripts.CLAIM)
        self._swap = redis.register_script(claim_scripts.SWAP)
        self._queued = redis.register_script(claim_scripts.QUEUED)
        self._forget = redis.register_script(claim_scripts.FORGET)
        self._start = redis.register_script(claim_scripts.START)
        self._start_wanted = redis.register_script(claim_scripts.START_WANTED)
        self._unbury = redis.register_script(claim_scripts.UNBURY)
        self._forget_note = redis.register_script(claim_scripts.FORGET_NOTE)
        self._renew = redis.register_script(claim_scripts.RENEW)

    def _name(self, kind: str, bucket: str, key: str) -> str:
        return f"{self._ns}:{kind}:{bucket}\x00{key}"

    async def claim_many(
        self,
        bucket: str,
        keys: Sequence[str],
        *,
        lane: Lane,
        owner: str,
        ignore_absent: bool = False,
        rules: Sequence[str] = (),
    ) -> list[ClaimState]:
        """Ask for keys on behalf of a dispatcher; answers in their order.

        `ignore_absent` is for scans and explicit retries, which must not trust the negative cache. `rules`
        has the `asker` of each key: what another rule, or another version of it, found absent is not so here.
        """
        value = f"pending|{lane}|{owner}"
        out: list[ClaimState] = []
        for at in range(0, len(keys), CHUNK):
            names = [
                self._name(kind, bucket, key)
                for key in keys[at : at + CHUNK]
                for kind in ("claim", "absent", "tomb")
            ]
            args: list[str | int] = [lane.value, value, PENDING_MS, int(ignore_absent), FRONT]
            args += rules[at : at + CHUNK] if rules else [""] * len(keys[at : at + CHUNK])
            answer = await self._claim(names, args)
            out += [ClaimState(state) for state in answer]
        return out

    async def mark_queued(self, bucket: str, keys: Sequence[str], *, lane: Lane, owner: str) -> None:
        """The queue has accepted these keys. A claim that a worker already runs is left alone."""
        args = [f"pending|{lane}|{owner}", f"queued|{lane}|{owner}", QUEUED_MS, AFTER_MS, f"running||{FRONT}"]
        await self._each(self._queued, bucket, keys, args)

    async def start(
        self, bucket: str, keys: Sequence[str], *, owner: str, lane: Lane = Lane.HOT, claim: str = ""
    ) -> list[RunState]:
        """Begin to move keys; BUSY where another owner's lease runs.

        `lane` and `claim` are those of the message, if a dispatcher claimed its keys. STORED where a pull has
        just ended well and was recorded; LOOK where that claim is not there any more: somebody else may have
        moved the key. Both are started.
        """
        args: list[str | int] = [f"running||{owner}", LEASE_MS]
        if claim:
            args += [f"pending|{lane}|{claim}", f"queued|{lane}|{claim}"]
        out: list[RunState] = []
        for at in range(0, len(keys), CHUNK):
            names = [
                self._name(kind, bucket, key) for key in keys[at : at + CHUNK] for kind in ("claim", "tomb")
            ]
            answer = await self._start(names, args)
            out += [RunState(state) for state in answer]
        return out

    async def start_wanted(self, wanted: Sequence[WantedKey], *, owner: str) -> list[RunState]:
        """As `start` for keys that clients wait for, of any buckets; answers in their order.

        ABSENT when no origin had it lately. STORED (unless the mark is not heeded) when a pull has just ended
        well: whoever saw the store without the key before that looks again. Neither takes a claim.
        """
        out: list[RunState] = []
        for at in range(0, len(wanted), CHUNK):
            some = wanted[at : at + CHUNK]
            names = [
                self._name(kind, one.bucket, one.key) for one in some for kind in ("claim", "tomb", "absent")
            ]
            args: list[str | int] = [f"running||{owner}", LEASE_MS]
            for one in some:
                args += [int(one.heed_stored), one.rule]
            out += [RunState(state) for state in await self._start_wanted(names, args)]
        return out

    async def renew(self, bucket: str, keys: Sequence[str], *, owner: str) -> None:
        """Extend the leases of keys that are still being moved."""
        await self._each(self._renew, bucket, keys, [f"running||{owner}", LEASE_MS])

    async def requeue(
        self, bucket: str, keys: Sequence[str], *, owner: str, lane: Lane, claim: str, delay_s: float
    ) -> None:
        """Give up running leases for a later try: the keys count as queued for `delay_s` seconds.

        `claim` is the token that the message of that try carries.
        """
        value = f"queued|{lane}|{claim}"
        ttl_ms = int(delay_s * 1000)
        await self._each(self._swap, bucket, keys, [value, ttl_ms, f"running||{owner}"])

    async def release(
        self, bucket: str, keys: Sequence[str], *, owner: str, lane: Lane = Lane.HOT, claim: str = ""
    ) -> None:
        """Finished, one way or the other. Only the owner's own claims go.

        `lane` and `claim` as in `start`: a Redis that came back without its last second has what the message
        was queued with, for keys that have been begun since.
        """
        await self._each(self._swap, bucket, keys, ["", 0, f"running||{owner}", *_queued_as(lane, claim)])

    async def forget(self, bucket: str, keys: Sequence[str], *, lane: Lane, claim: str) -> None:
        """Give up the claims of a message that is dropped without being started.

        Left queued they would keep out misses for an hour, and no message would stand behind them.
        """
        await self._each(self._forget, bucket, keys, _queued_as(lane, claim))

    async def finish(
        self, bucket: str, keys: Sequence[str], *, owner: str, lane: Lane = Lane.HOT, claim: str = ""
    ) -> None:
        """As `release` after keys have reached the store, with a mark for those who looked just before."""
        mine = [f"running||{owner}", *_queued_as(lane, claim)]
        await self._each(self._swap, bucket, keys, [f"stored||{owner}", STORED_MS, *mine])

    async def is_running(self, bucket: str, key: str) -> bool:
        """Whether somebody holds a running lease on the key: what followers wait on (A24)."""
        held = await self._redis.get(self._name("claim", bucket, key))
        return held is not None and cast("str", held).startswith("running|")

    async def mark_absent(self, bucket: str, keys: Sequence[str], *, ttl_s: float, rule: str = "") -> None:
        """Remember that no origin of `rule` (its `asker`) has these keys, for `ttl_s` seconds (L14)."""
        if not keys or ttl_s <= 0:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.set(self._name("absent", bucket, key), rule or "1", px=max(1, int(ttl_s * 1000)))
            await pipe.execute()

    async def standing(self, bucket: str, key: str, *, rule: str = "") -> RunState:
        """What `start_wanted` would say for `rule`, without a claim: STARTED where nothing is in the way."""
        names = [self._name(kind, bucket, key) for kind in ("absent", "tomb", "claim")]
        absent, tomb, held = cast("list[str | None]", await self._redis.mget(names))
        if tomb is not None:
            return RunState.TOMBSTONE
        if absent is not None and (not rule or absent in {"1", rule}):
            return RunState.ABSENT
        if held is not None and held.startswith("running|"):
            return RunState.BUSY
        return RunState.STORED if held is not None and held.startswith("stored|") else RunState.STARTED

    async def add_tombstones(self, bucket: str, keys: Sequence[str], *, ttl_s: float, reason: str) -> None:
        """Keys deleted at the store during the migration are not pulled until `ttl_s` has passed (S15)."""
        if not keys:
            return
        self._tombstoned.add(bucket)
        async with self._replicas.holding(self._redis) as redis, redis.pipeline(transaction=False) as pipe:
            self._note_tombstoned(pipe, bucket, keys, ttl_s)
            for key in keys:
                pipe.set(self._name("tomb", bucket, key), reason, px=max(1, int(ttl_s * 1000)))
            await pipe.execute()

    async def remove_tombstones(self, bucket: str, keys: Sequence[str]) -> int:
        """Allow pulls of these keys again; the number of tombstones there were."""
        if not keys:
            return 0
        return int(await self._redis.delete(*(self._name("tomb", bucket, key) for key in keys)))

    async def bury(
        self, bucket: str, keys: Sequence[str], *, mark: str, ttl_s: float
    ) -> tuple[dict[str, str | None], list[str]]:
        """Put tombstones of the value `mark`: what stood there before, and which keys may yet appear.

        A key that is not among these cannot begin to move any more: starting and burying are one step each.
        """
        before: dict[str, str | None] = {}
        running: list[str] = []
        self._tombstoned.add(bucket)
        for at in range(0, len(keys), CHUNK):
            some = list(dict.fromkeys(keys[at : at + CHUNK]))
            async with self._replicas.holding(self._redis) as redis, redis.pipeline(transaction=True) as pipe:
                self._note_tombstoned(pipe, bucket, some, ttl_s)
                for key in some:
                    pipe.set(self._name("tomb", bucket, key), mark, px=max(1, int(ttl_s * 1000)), get=True)
                    pipe.mget(self._moving(bucket, key))
                answers = (await pipe.execute())[-2 * len(some) :]
            for key, old, (held, late) in zip(some, answers[::2], answers[1::2], strict=True):
                before.setdefault(key, None if old == mark else old)
                if _is_moving(held, late):
                    running.append(key)
        return before, running

    def _note_tombstoned(self, pipe: Pipeline, bucket: str, keys: Sequence[str], ttl_s: float) -> None:
        pipe.zadd(f"{self._ns}:tombstoned", {bucket: time.time() + ttl_s}, gt=True)
        tombstones.note_directories(pipe, f"{self._ns}:tombdirs:{bucket}", keys, ttl_s=ttl_s)

    async def buried(self, bucket: str, keys: Sequence[str]) -> set[str]:
        """Those of the keys that have a tombstone."""
        found: set[str] = set()
        for at in range(0, len(keys), CHUNK):
            some = keys[at : at + CHUNK]
            marks = await self._redis.mget([self._name("tomb", bucket, key) for key in some])
            found.update(key for key, mark in zip(some, marks, strict=True) if mark is not None)
        return found

    async def buried_below(self, bucket: str, directories: Sequence[str]) -> set[str]:
        """Those of the directories (`a/`) below which there may be a tombstone."""
        return await tombstones.below(self._redis, f"{self._ns}:tombdirs:{bucket}", directories)

    async def learn_tombstoned(self) -> frozenset[str]:
        """Ask which buckets have tombstones: what `may_have_tombstones` says while the ledger is away."""
        found = await self._redis.zrangebyscore(f"{self._ns}:tombstoned", time.time(), "+inf")
        self._tombstoned = set(cast("list[str]", found))
        return frozenset(self._tombstoned)

    def remember_tombstoned(self, buckets: Iterable[str]) -> None:
        """What was learned by an earlier process, until this one has asked itself."""
        self._tombstoned.update(buckets)

    async def tombstoned_until(self, bucket: str) -> float | None:
        """Unix time until which the bucket is noted as one with tombstones; None: it is not."""
        return await self._redis.zscore(f"{self._ns}:tombstoned", bucket)

    async def forget_tombstoned(self, bucket: str, until: float) -> None:
        """The bucket has no tombstone any more: whoever asks has looked after he was told `until`.

        One that was put since has moved that time, and the bucket stays noted.
        """
        if await self._forget_note([f"{self._ns}:tombstoned"], [bucket, repr(until)]):
            self._tombstoned.discard(bucket)

    def may_have_tombstones(self, bucket: str) -> bool:
        """Whether a key of the bucket may have been deleted here, as far as this process has heard."""
        return bucket in self._tombstoned

    async def unbury(self, bucket: str, before: Mapping[str, str | None], *, mark: str, ttl_s: float) -> None:
        """Take tombstones of the value `mark` back for what stood there before; others are left alone.

        A key without a tombstone counts as just stored: whoever saw the store without it looks again, and
        does not take for missing what a write has brought in between.
        """
        pairs = list(before.items())
        for at in range(0, len(pairs), CHUNK):
            some = pairs[at : at + CHUNK]
            args: list[str | int] = [mark, max(1, int(ttl_s * 1000)), "stored||written", STORED_MS]
            args += [old or "" for _, old in some]
            names = [self._name(kind, bucket, key) for key, _ in some for kind in ("tomb", "claim")]
            await self._unbury(names, args)

    async def running(self, bucket: str, keys: Sequence[str]) -> list[str]:
        """Those of the keys that may yet appear: somebody moves them now, or gave up a moment ago."""
        if not keys:
            return []
        names = [name for key in keys for name in self._moving(bucket, key)]
        held = cast("list[str | None]", await self._redis.mget(names))
        pairs = zip(held[::2], held[1::2], strict=True)
        return [key for key, pair in zip(keys, pairs, strict=True) if _is_moving(*pair)]

    async def note_late(self, bucket: str, key: str) -> None:
        """The store was asked for the key and gave no answer: for a minute nobody may delete it."""
        await self._redis.set(self._name("late", bucket, key), "1", px=LATE_MS)

    def _moving(self, bucket: str, key: str) -> tuple[str, str]:
        return self._name("claim", bucket, key), self._name("late", bucket, key)

    async def is_buried(self, bucket: str, key: str) -> bool:
        """Whether the key has a tombstone."""
        return bool(await self._redis.exists(self._name("tomb", bucket, key)))

    async def tombstone(self, bucket: str, key: str) -> str | None:
        """The reason of the key's tombstone, or None."""
        return cast("str | None", await self._redis.get(self._name("tomb", bucket, key)))

    async def tombstones_of(self, keys: Sequence[tuple[str, str]]) -> list[str | None]:
        """As `tombstone` for (bucket, key) of many, in their order."""
        names = [self._name("tomb", bucket, key) for bucket, key in keys]
        return cast("list[str | None]", await self._redis.mget(names))

    async def tombstones(self, bucket: str, *, limit: int = 10_000) -> list[tuple[str, str, float]]:
        """Tombstones of a bucket as (key, reason, seconds left), in key order; at most `limit`."""
        return await tombstones.listed(self._redis, self._name("tomb", bucket, ""), limit)

    async def prune_tombstones(self, bucket: str, *, keep: Callable[[str], bool]) -> tuple[int, int]:
        """Take away the tombstones of keys that `keep` does not want; how many went, and how many are left.

        It looks at every key in Redis, some hundred at a time.
        """
        return await tombstones.prune(self._redis, self._name("tomb", bucket, ""), keep)

    async def _each(self, script: object, bucket: str, keys: Sequence[str], args: Sequence[object]) -> None:
        for at in range(0, len(keys), CHUNK):
            names = [self._name("claim", bucket, key) for key in keys[at : at + CHUNK]]
            await script(names, args)  # type: ignore[operator]  # redis-py types register_script loosely


def _is_moving(claim: str | None, late: str | None) -> bool:
    return late is not None or (claim is not None and claim.startswith("running|"))


def _queued_as(lane: Lane, claim: str) -> list[str]:
    """The claims that a message's dispatcher has taken for it; none without a token."""
    if not claim:
        return []
    return [f"{state}|{lane}|{claim}{mark}" for state in ("pending", "queued") for mark in ("", "|look")]
