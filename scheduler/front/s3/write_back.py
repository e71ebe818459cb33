"""Writes of clients noted for the way back: while the store is asked, and with what came of them.

Owns the order around one call, for keys of rules that write back. The intent is in Redis before the store
has the whole request, so that a front which dies at any moment leaves either nothing, or a key that is looked
at. It is written while the client's body comes in and the store reads all but its last byte, because a round
trip to a Redis that syncs every write would be a third of a small PUT. Without Redis nothing is written: 503.
What came of the call is noted beside the answer, or before it where the rule is `sync`: then the origin has
to be equal first. Must not know how anything is copied.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from contextvars import Context
from typing import TYPE_CHECKING, Final, Protocol, Self

import structlog
from redis.exceptions import RedisError

from scheduler.front.http.s3_error import S3Error
from scheduler.front.pull.gathered import Gathered
from scheduler.front.s3.call import Refused
from scheduler.rules.write_back import writes_back
from workers.background import end
from workers.errors import described
from workers.ledger.back import NOTHING, UNKNOWN, Change, Intent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scheduler.rules.model import RuleSet
    from workers.errors import TransferError
    from workers.ledger.back import Back

log = structlog.get_logger()

#: Operations that change what an origin has to have: an object, its metadata, its tags.
CHANGES: Final = frozenset({
    "PutObject", "CopyObject", "CompleteMultipartUpload", "PutObjectTagging", "DeleteObjectTagging",
    "DeleteObject", "DeleteObjects", "PostObject",
})  # fmt: skip
#: Longest time in seconds that Redis may delay a client.
_PATIENCE_S: Final = 2.0
#: Seconds between signs of life while writes are under way; a third of what makes a front dead.
_ALIVE_S: Final = 10.0
#: Seconds after which an intent is noted once more before the store may do it; two thirds of the same.
_SURE_S: Final = 20.0
#: Seconds for which ends are gathered: each is a write that Redis syncs, and nobody waits for it.
_TOGETHER_S: Final = 0.1
#: Seconds between tries to tell a Redis that is away.
_AWAY_S: Final = 1.0
#: Keys of one call that are brought at once.
_AT_ONCE: Final = 16


class Bringer(Protocol):
    """Who brings a key to its origin at once (`workers.back.settle.Settler`)."""

    async def settle_now(self, bucket: str, key: str) -> TransferError | None:
        """Why the origin does not have the key's last write; None where it has."""


class Noted:
    """The keys of one call that are written back; as an async context around asking the store."""

    def __init__(self, owner: WriteBack, bucket: str, keys: Sequence[str], *, sync: frozenset[str]) -> None:
        self._owner = owner
        self._bucket = bucket
        self._sync = sync
        self._token = owner.token() if keys else ""
        self._beginning: asyncio.Future[None] | None = None
        self._begun_at = 0.0
        #: By key, what came of it.
        self._came = dict.fromkeys(keys, NOTHING)

    async def __aenter__(self) -> Self:
        if self._came:
            self._begin()
        return self

    def _begin(self) -> None:
        intents = [Intent(bucket=self._bucket, key=key, token=self._token) for key in self._came]
        self._begun_at = time.monotonic()
        self._beginning = self._owner.begin(intents, self._token)

    async def __aexit__(self, *_: object) -> None:
        changes = self._changes()
        if changes:
            self._came = {}
            self._owner.end_soon(changes, self._token, after=self._beginning)

    @property
    def is_needed(self) -> bool:
        """Whether any key is written back."""
        return self._beginning is not None

    @property
    def is_sync(self) -> bool:
        """Whether the client's answer waits for the origin."""
        return bool(self._sync)

    async def asking(self) -> None:
        """The store may do it once this returns: the intent is in Redis, and nobody knows, until `came`.

        Raises:
            Refused: 503: Redis does not answer.
        """
        while self._beginning is not None:
            await self._owner.begun(self._beginning)
            if time.monotonic() - self._begun_at < _SURE_S:
                break
            self._begin()  # a form that took long, or a front that stood still and passed for dead
        self._came = dict.fromkeys(self._came, UNKNOWN)

    def came(self, what: str, keys: Iterable[str] | None = None) -> None:
        """What the store says of these keys, or of all."""
        for key in list(self._came) if keys is None else keys:
            if key in self._came:
                self._came[key] = what

    async def settle(self) -> None:
        """What must be so before the client is answered where a rule is `sync`: the origin has it.

        Raises:
            Refused: 503; the store has the change, and it will be tried again.
        """
        wanted = [key for key in self._sync if self._came.get(key, NOTHING) != NOTHING]
        if not wanted:
            return
        changes, self._came = self._changes(), {}
        await self._owner.end(changes, self._token, after=self._beginning)
        await self._owner.bring(self._bucket, wanted)

    def _changes(self) -> list[Change]:
        return [
            Change(bucket=self._bucket, key=key, token=self._token, what=what)
            for key, what in self._came.items()
        ]


class WriteBack:
    """The notes of one front; those of requests that run at the same time go to Redis together."""

    def __init__(self, back: Back, bringer: Bringer) -> None:
        self._back = back
        self._bringer = bringer
        self._front = uuid.uuid4().hex[:12]
        self._numbers = itertools.count(1)
        self._open: set[str] = set()
        #: What Redis has not been told yet.
        self._untold: list[tuple[Sequence[Change], str, asyncio.Future[None] | None]] = []
        self._telling: asyncio.Task[None] | None = None
        self._living: asyncio.Task[None] | None = None
        self._begins: Gathered[Sequence[Intent], None] = Gathered(self._begin_all)

    def noting(self, ruleset: RuleSet | None, bucket: str, keys: Sequence[str], operation: str) -> Noted:
        """Around a call that may change these keys; without a rule that writes back it does nothing."""
        if ruleset is None or operation not in CHANGES:
            return Noted(self, bucket, (), sync=frozenset())
        modes = {key: route.mode for key in keys if (route := writes_back(ruleset, key)) is not None}
        return Noted(
            self, bucket, tuple(modes), sync=frozenset(key for key, mode in modes.items() if mode == "sync")
        )

    def token(self) -> str:
        """A name for one request."""
        return str(next(self._numbers))

    def begin(self, intents: Sequence[Intent], token: str) -> asyncio.Future[None]:
        """Note an intent, while the caller goes on; `begun` waits for it."""
        self._open.add(token)
        if self._living is None or self._living.done():
            self._living = asyncio.create_task(self._live(), name="write-back")
        beginning = self._begins.asked(intents)
        beginning.add_done_callback(_looked_at)
        return beginning

    async def begun(self, beginning: asyncio.Future[None]) -> None:
        """Wait until an intent is in Redis.

        Raises:
            Refused: 503: Redis does not answer.
        """
        try:
            if beginning.done():
                beginning.result()
                return
            async with asyncio.timeout(_PATIENCE_S):
                await asyncio.shield(beginning)
        except (RedisError, OSError, TimeoutError) as error:
            raise Refused(_NOT_NOTED, headers=((b"retry-after", b"2"),)) from error

    def end_soon(
        self, changes: Sequence[Change], token: str, *, after: asyncio.Future[None] | None = None
    ) -> None:
        """Note what came of it a moment later, with what came of others; until Redis has it, or we end."""
        self._untold.append((changes, token, after))
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(), name="write-back-ends", context=Context())

    async def end(
        self, changes: Sequence[Change], token: str, *, after: asyncio.Future[None] | None = None
    ) -> None:
        """Note what came of it at once.

        Raises:
            Refused: 503: Redis does not answer; it is told later.
        """
        try:
            if after is not None:
                await asyncio.wait({after})
            async with asyncio.timeout(_PATIENCE_S):
                await self._back.end(changes, front=self._front)
        except BaseException as error:
            self.end_soon(changes, token)
            if not isinstance(error, (RedisError, OSError, TimeoutError)):
                raise
            raise Refused(_NOT_NOTED, headers=((b"retry-after", b"2"),)) from error
        self._open.discard(token)

    async def bring(self, bucket: str, keys: Sequence[str]) -> None:
        """Make the origin equal for these keys.

        Raises:
            Refused: 503: it is not, and will be tried again.
        """
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(key: str) -> TransferError | Exception | None:
            async with gate:
                try:
                    return await self._bringer.settle_now(bucket, key)
                except (RedisError, OSError) as error:
                    return error

        tasks = [asyncio.create_task(one(key)) for key in keys]
        try:
            results = await asyncio.gather(*tasks)
        except BaseException:
            await end(*tasks)
            raise
        for key, error in zip(keys, results, strict=True):
            if error is not None:
                log.warning("back_refused", bucket=bucket, key=key, error=described(error))
                message = (
                    "The store has taken it, its origin has not, which will be tried again: "
                    f"{str(error)[:300]}"
                )
                failed = S3Error(status=503, code="ServiceUnavailable", message=message)
                raise Refused(failed, headers=((b"retry-after", b"2"),))

    async def _begin_all(self, asked: list[Sequence[Intent]]) -> list[None]:
        every = [one for intents in asked for one in intents]
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._back.begin(every, front=self._front)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("back_not_noted", keys=len(every), error=described(error))
            raise
        return [None] * len(asked)

    async def _tell(self) -> None:
        pause_s = _TOGETHER_S
        while self._untold:
            await asyncio.sleep(pause_s)
            untold, self._untold = self._untold, []
            begun = {after for _, _, after in untold if after is not None and not after.done()}
            try:
                if begun:
                    await asyncio.wait(begun)
                async with asyncio.timeout(_PATIENCE_S):
                    every = [change for changes, _, _ in untold for change in changes]
                    await self._back.end(every, front=self._front)
            except BaseException as error:
                self._untold = [*untold, *self._untold]
                if not isinstance(error, (RedisError, OSError, TimeoutError)):
                    raise
                log.warning("back_not_noted", keys=len(self._untold), error=described(error))
                pause_s = _AWAY_S
            else:
                pause_s = _TOGETHER_S
                self._open.difference_update(token for _, token, _ in untold)

    async def _live(self) -> None:
        """Say that this front lives while writes are under way."""
        while True:
            await asyncio.sleep(_ALIVE_S)
            if not self._open:
                return
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._back.alive(self._front)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("ledger_away", error=described(error))


def _looked_at(beginning: asyncio.Future[None]) -> None:
    """Whoever needs it awaits it; a request that failed otherwise does not."""
    if not beginning.cancelled():
        beginning.exception()


_NOT_NOTED: Final = S3Error(
    status=503,
    code="ServiceUnavailable",
    message="The ledger does not answer, so the change could not be noted for the way back.",
)
