"""Writes of clients noted for the way back: before the store is asked, and with what came of them.

Owns the order around one call, for keys of rules that write back. The intent is in Redis before the store may
change anything: a front that dies at any moment leaves a key that is looked at. Without Redis nothing can be
noted, so nothing is written: 503. What came of it is noted after the client has its answer, or before where
the rule is `sync`: then the origin has to be equal first. Must not know how anything is copied.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from typing import TYPE_CHECKING, Final, Protocol, Self

import structlog
from redis.exceptions import RedisError

from scheduler.front.http.s3_error import S3Error
from scheduler.front.s3.call import Refused
from scheduler.rules.write_back import writes_back
from workers.background import end
from workers.errors import described
from workers.ledger.back import NOTHING, WRITTEN

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
        #: By key, what came of it.
        self._came = dict.fromkeys(keys, NOTHING)

    async def __aenter__(self) -> Self:
        if self._came:
            await self._owner.begin(self._bucket, list(self._came), self._token)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    @property
    def is_sync(self) -> bool:
        """Whether the client's answer waits for the origin."""
        return bool(self._sync)

    def asking(self) -> None:
        """The store is asked now: from here on nobody knows, until `came`."""
        self._came = dict.fromkeys(self._came, WRITTEN)

    def came(self, what: str, keys: Iterable[str] | None = None) -> None:
        """What the store says of these keys, or of all."""
        for key in self._came if keys is None else keys:
            if key in self._came:
                self._came[key] = what

    async def settle(self) -> None:
        """Where a rule is `sync`: wait until the origin is equal; before the client is answered.

        Raises:
            Refused: 503; the store has the change, and the origin will be tried again.
        """
        wanted = [key for key in self._sync if self._came.get(key, NOTHING) != NOTHING]
        if not wanted:
            return
        await self._end()
        await self._owner.bring(self._bucket, wanted)

    async def _end(self) -> None:
        came, self._came = self._came, {}
        if came:
            await self._owner.end(self._bucket, came, self._token)


class WriteBack:
    """The notes of one front."""

    def __init__(self, back: Back, bringer: Bringer) -> None:
        self._back = back
        self._bringer = bringer
        self._front = uuid.uuid4().hex[:12]
        self._numbers = itertools.count(1)
        self._open: set[str] = set()
        #: What Redis has not been told yet: bucket, what came of its keys, token.
        self._untold: list[tuple[str, dict[str, str], str]] = []
        self._living: asyncio.Task[None] | None = None

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

    async def begin(self, bucket: str, keys: Sequence[str], token: str) -> None:
        """Note the intent.

        Raises:
            Refused: 503: Redis does not answer; the store was not asked.
        """
        self._open.add(token)
        if self._living is None or self._living.done():
            self._living = asyncio.create_task(self._live(), name="write-back")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._back.begin(bucket, keys, front=self._front, token=token)
        except (RedisError, OSError, TimeoutError) as error:
            self._untold.append((bucket, dict.fromkeys(keys, NOTHING), token))
            log.warning("back_not_noted", bucket=bucket, keys=len(keys), error=described(error))
            raise Refused(_NOT_NOTED, headers=((b"retry-after", b"2"),)) from error

    async def end(self, bucket: str, came: dict[str, str], token: str) -> None:
        """Note what came of it; where Redis does not answer it is told later, for as long as we live."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._back.end(bucket, came, front=self._front, token=token)
        except BaseException as error:
            self._untold.append((bucket, came, token))
            if not isinstance(error, (RedisError, OSError, TimeoutError)):
                raise
            log.warning("back_not_noted", bucket=bucket, keys=len(came), error=described(error))
        else:
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

    async def _live(self) -> None:
        """Say that this front lives while writes are under way, and tell what could not be told."""
        pause_s = _ALIVE_S
        while True:
            await asyncio.sleep(pause_s)
            untold, self._untold = self._untold, []
            for bucket, came, token in untold:
                await self.end(bucket, came, token)
            if not self._open:
                return
            pause_s = 1.0 if self._untold else _ALIVE_S
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._back.alive(self._front)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("ledger_away", error=described(error))
                pause_s = 1.0


_NOT_NOTED: Final = S3Error(
    status=503,
    code="ServiceUnavailable",
    message="The ledger does not answer, so the change could not be noted for the way back.",
)
