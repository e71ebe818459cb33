"""The herd of the other processes: who may pull a key, and waiting for whoever does.

Owns the front's use of the ledger's claims. Redis may be slow or away at any moment: then every answer is
"go on without" (A26), at once and for a while. Only where keys were deleted nobody goes on without: what is
deleted stays deleted (S15), so such a bucket's misses wait for the ledger.
"""

from __future__ import annotations

import asyncio
import json
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog
from redis.exceptions import RedisError

from scheduler.config.data_dir import read_json, write_private
from scheduler.front.pull.gathered import Gathered
from workers.background import end
from workers.errors import TombstonesUnknown, described
from workers.ledger.claims import RunState, WantedKey, asker
from workers.queue.leases import LeaseKeeper
from workers.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from workers.ledger.claims import Claims
    from workers.ledger.failures import Failures
    from workers.plan import FetchPlan
    from workers.store.client import ObjectStore

log = structlog.get_logger()

#: Longest time in seconds that the ledger may delay a client.
PATIENCE_S = 1.0
#: Seconds by which that ended late, because this process did not get to run, so that it proves nothing.
LATE_S = 0.1
#: Seconds for which a ledger that did not answer is not asked again.
PAUSE_S = 2.0
#: Seconds between two looks at the store while another process pulls; doubled up to the last.
FIRST_LOOK_S = 0.02
LAST_LOOK_S = 0.5

#: Seconds between two questions which buckets have tombstones.
LEARN_S = 2.0
#: Seconds that finished keys are collected before the ledger is told.
FINISH_S = 0.05

#: A claim's state as metrics name its result; without an answer it is `unknown`.
_RESULTS = {
    RunState.STARTED: "claimed",
    RunState.LOOK: "claimed",
    RunState.BUSY: "duplicate",
    RunState.STORED: "stored",
    RunState.ABSENT: "absent",
    RunState.TOMBSTONE: "tombstone",
}

T = TypeVar("T")


class Claimed(Enum):
    """What the ledger says of a key."""

    #: Ours: fetch and store.
    MINE = "mine"
    #: Somebody else moves it now.
    BUSY = "busy"
    #: Somebody else's pull reached the store a moment ago.
    STORED = "stored"
    #: Deleted at the store during the migration (S15).
    TOMBSTONE = "tombstone"
    #: No origin had it lately.
    ABSENT = "absent"
    #: The ledger does not answer, and nothing of this bucket was ever deleted.
    UNKNOWN = "unknown"
    #: The ledger does not answer, and this key may have been deleted.
    UNSURE = "unsure"


_CLAIMED = {
    RunState.STARTED: Claimed.MINE,
    RunState.LOOK: Claimed.MINE,
    RunState.BUSY: Claimed.BUSY,
    RunState.STORED: Claimed.STORED,
    RunState.ABSENT: Claimed.ABSENT,
    RunState.TOMBSTONE: Claimed.TOMBSTONE,
}


class Waited(Enum):
    """How waiting for another process's pull ended."""

    STORED = "stored"
    #: It ended without an object: ours to try.
    ENDED = "ended"
    #: It still runs.
    TOO_LONG = "too_long"


def unsure(bucket: str, key: str) -> TombstonesUnknown:
    """Why a miss of a bucket with tombstones waits for the ledger."""
    return TombstonesUnknown(
        f"{bucket}/{key}: keys of this bucket were deleted, and the ledger that knows which does not answer"
    )


class FrontClaims:
    """Claims of one front process."""

    def __init__(self, claims: Claims, failures: Failures, *, owner: str, memory: Path | None = None) -> None:
        """`memory`: a file that tells the next process which buckets have tombstones."""
        self._claims = claims
        self._memory = memory
        self._failures = failures
        self._leases = LeaseKeeper(claims, owner=owner)
        self._owner = owner
        self._starts = Gathered(self._start)
        self._away_until = 0.0
        self._keeper: asyncio.Task[None] | None = None
        self._learner: asyncio.Task[None] | None = None
        self._finished: dict[str, list[str]] = {}
        self._finisher: asyncio.Task[None] | None = None
        #: Calls that the ledger did not answer (A26).
        self.unanswered = 0

    def start(self) -> None:
        """Begin to renew what is held, and to know which buckets have tombstones.

        Raises:
            ConfigError: the memory of it cannot be read.
        """
        self._remembered: frozenset[str] = frozenset()
        if self._memory is not None:
            self._remembered = frozenset(read_json(self._memory).get("buckets", ()))
            self._claims.remember_tombstoned(self._remembered)
        self._keeper = asyncio.create_task(self._leases.run(), name="front-leases")
        self._learner = asyncio.create_task(self._learn(), name="front-tombstones")

    async def close(self) -> None:
        """Renew no more; tell what is finished."""
        if self._finisher is not None:
            await self._finisher
        await end(*(task for task in (self._keeper, self._learner) if task is not None))

    async def _learn(self) -> None:
        """Know which buckets have tombstones before the ledger is away."""
        while True:
            found = await self._ask(self._claims.learn_tombstoned)
            if found is not None and found != self._remembered:
                self._remembered = found
                self._remember(found)
            await asyncio.sleep(LEARN_S)

    def _remember(self, buckets: frozenset[str]) -> None:
        if self._memory is not None:
            try:
                write_private(self._memory, json.dumps({"buckets": sorted(buckets)}))
            except OSError as error:
                log.warning("tombstones_not_remembered", file=str(self._memory), error=str(error))

    async def claim(self, plan: FetchPlan, key: str, *, heed_stored: bool = True) -> Claimed:
        """Ask for a key that a client waits for; a queued job for it does not stand in the way."""
        bucket = plan.bucket
        state = await self._starts.asked(WantedKey(bucket, key, heed_stored, asker(plan)))
        metrics.claimed("unknown" if state is None else _RESULTS[state])
        if state is None:
            return Claimed.UNSURE if self._claims.may_have_tombstones(bucket) else Claimed.UNKNOWN
        claimed = _CLAIMED[state]
        if claimed is Claimed.MINE:
            self._leases.hold(bucket, [key])
        return claimed

    async def _start(self, wanted: list[WantedKey]) -> list[RunState | None]:
        """The ledger's answers for all that asked together; None for each when there is none in time."""
        states = await self._ask(lambda: self._claims.start_wanted(wanted, owner=self._owner))
        return [None] * len(wanted) if states is None else [*states]

    async def release(self, bucket: str, key: str) -> None:
        """The key is done with, one way or the other."""
        self._leases.drop(bucket, [key])
        await self._ask(lambda: self._claims.release(bucket, [key], owner=self._owner))

    async def note_late(self, bucket: str, key: str) -> None:
        """The store was asked for the key and gave no answer; before the claim goes."""
        await self._ask(lambda: self._claims.note_late(bucket, key))

    def finish(self, bucket: str, key: str) -> None:
        """The key has reached the store; the ledger hears of it within `FINISH_S`, together with others.

        A failure that was listed of the key is no longer true.
        """
        self._leases.drop(bucket, [key])
        self._finished.setdefault(bucket, []).append(key)
        if self._finisher is None or self._finisher.done():
            self._finisher = asyncio.create_task(self._tell_finished(), name="front-finished")

    async def _tell_finished(self) -> None:
        while self._finished:
            await asyncio.sleep(FINISH_S)
            finished, self._finished = self._finished, {}
            for bucket, keys in finished.items():
                await self._ask(partial(self._claims.finish, bucket, keys, owner=self._owner))
                await self._ask(partial(self._failures.remove, bucket, keys))

    async def mark_absent(self, plan: FetchPlan, key: str) -> None:
        """Tell the others that no origin of the plan's rule has the key."""
        await self._ask(
            lambda: self._claims.mark_absent(plan.bucket, [key], ttl_s=plan.absent_ttl_s, rule=asker(plan))
        )

    async def standing(self, plan: FetchPlan, key: str) -> Claimed:
        """As `claim`, for a request that stores nothing and takes no claim: MINE where nothing is in the way.

        Raises:
            TombstonesUnknown: the ledger does not answer, and the key may have been deleted.
        """
        state = await self._ask(lambda: self._claims.standing(plan.bucket, key, rule=asker(plan)))
        if state is None:
            if self._claims.may_have_tombstones(plan.bucket):
                raise unsure(plan.bucket, key)
            return Claimed.UNKNOWN
        return _CLAIMED[state]

    async def withheld(self, plan: FetchPlan, key: str) -> bool:
        """Whether a client gets 404 without an origin being asked.

        Raises:
            TombstonesUnknown: as `standing`.
        """
        return await self.standing(plan, key) in {Claimed.TOMBSTONE, Claimed.ABSENT}

    def may_have_tombstones(self, bucket: str) -> bool:
        """Whether a miss of the bucket must not go on without the ledger."""
        return self._claims.may_have_tombstones(bucket)

    async def deleted_meanwhile(self, bucket: str, key: str) -> bool:
        """Whether a key that was pulled without a claim has a tombstone by now; False when nobody can say.

        Raises:
            TombstonesUnknown: as `withheld`.
        """
        found = await self._ask(lambda: self._claims.is_buried(bucket, key))
        if found is None and self._claims.may_have_tombstones(bucket):
            raise unsure(bucket, key)
        return bool(found)

    async def wait_for_other(self, store: ObjectStore, bucket: str, key: str, *, timeout_s: float) -> Waited:
        """Wait for another process's pull of the key to reach the store (A24).

        Raises:
            StoreError: the store cannot be asked.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        pause = FIRST_LOOK_S
        while True:
            running = await self._ask(lambda: self._claims.is_running(bucket, key))
            if await store.head(bucket, key) is not None:
                return Waited.STORED
            if running is False:
                return Waited.ENDED
            left = until - loop.time()
            if left <= 0 or running is None:
                return Waited.TOO_LONG
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, LAST_LOOK_S)

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """The ledger's answer, or None when there is none in time."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until:
            self.unanswered += 1
            return None
        began = loop.time()
        try:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    return await call()
            except TimeoutError:
                if loop.time() - began < PATIENCE_S + LATE_S:
                    raise
                # It was this process that was late, and its answer may have lain there: it asks once more.
                async with asyncio.timeout(PATIENCE_S):
                    return await call()
        except (RedisError, OSError, TimeoutError) as error:
            self.unanswered += 1
            self._away_until = loop.time() + PAUSE_S
            log.warning("ledger_away", error=described(error), pause_s=PAUSE_S)
            return None
