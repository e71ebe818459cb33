"""The use case: move one object from its origins into the store.

Owns the order of things: ask the origin, begin the upload, pass the bytes, commit; on a damaged answer
discard what there is and take the next candidate. Knows neither dramatiq nor Redis.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, assert_never

from workers.errors import (
    ControlCharacter,
    ObjectTooLarge,
    OriginError,
    OriginNoLength,
    StoreDenied,
    TransferError,
)
from workers.origin.fetch.fetcher import Absent, Fetched, PassedRedirect
from workers.origin.fetch.sharing import withheld
from workers.plan import AbsentAtOrigin, AlreadyPresent, Skipped, Stored, unlistable
from workers.store.metadata import ATTEMPT, KEY_SHA256, SHA256, object_meta
from workers.store.write.sweep import end_earlier

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from workers.origin.fetch.fetcher import Fetcher, FetchSession
    from workers.plan import FetchItem, FetchPlan, Lane, Outcome
    from workers.store.client import ObjectStore
    from workers.store.memory import Reservation


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """Which try of an item this is, and what earlier ones may have left."""

    #: Identifies it in the object's metadata: the same over redeliveries of one message, so that a lost
    #: answer is recognised (S11).
    attempt: str
    #: Ask the store before the origin: for keys that probably are there by now.
    look_first: bool = False
    #: A process that died may have left an upload of this attempt open.
    tried_before: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """Moves objects; one per process."""

    fetcher: Fetcher
    store: ObjectStore
    now: Callable[[], datetime]
    #: The process's limit beside the rule's.
    max_object_bytes: int | None = None
    #: Told (bucket, key) where the store gave no answer and may yet do it, before anybody hears of that.
    late: Callable[[str, str], Awaitable[None]] | None = None

    async def move(self, plan: FetchPlan, item: FetchItem, this: Try, *, lane: Lane) -> Outcome:
        """Move one object; the store holds it whole afterwards, or holds nothing of it.

        Raises:
            TransferError: nothing was stored; `retryable` says whether to try again.
        """
        store = self.store
        if this.look_first:
            there = await self._there(plan, item, this)
            if there is not None:
                return there
        if this.tried_before:
            await end_earlier(store, plan.bucket, this.attempt)
        async with self.fetcher.session(plan, item, lane=lane) as session:
            while True:
                # Memory for a first part before the origin is opened: a connection that waits for memory is
                # one that somebody else could use.
                lease = await store.reserve(item.size)
                try:
                    answer = await session.open()
                except BaseException:
                    lease.release()
                    raise
                match answer:
                    case Absent():
                        lease.release()
                        return AbsentAtOrigin(key=item.key, attempts=answer.attempts)
                    case PassedRedirect():
                        lease.release()
                        return Skipped(key=item.key, reason="redirect")
                    case Fetched():
                        try:
                            return await self._store(plan, item, this, session, answer, lease)
                        except ObjectTooLarge:
                            return Skipped(key=item.key, reason="too_large")
                        except OriginError as error:
                            if not error.switch:
                                raise
                            # Discarded; the session raises OriginsExhausted when no candidate is left (B6).
                    case _:
                        assert_never(answer)

    async def _there(self, plan: FetchPlan, item: FetchItem, this: Try) -> Outcome | None:
        """What the key needs no origin for: this try's own object (S11), or somebody's; None without."""
        store = self.store
        try:
            if store.known(plan.bucket) is None:
                await store.guarantees(plan.bucket)  # which keys the store confuses decides what to believe
            found = await store.head(plan.bucket, item.key)
        except StoreDenied:
            # Who may not list gets 403 for a key that is not there: the write tells.
            return None
        if found is None:
            return None
        meta = found.user_meta
        if meta.get(ATTEMPT) == this.attempt:
            # Its answer was lost, or we died before it was recorded.
            return Stored(
                key=item.key,
                size=found.size,
                etag=found.etag,
                origin="",
                url="",
                sha256=meta.get(SHA256, ""),
            )
        theirs = meta.get(KEY_SHA256)
        collapsed = theirs is not None and theirs != sha256(item.key.encode()).hexdigest()
        known = store.known(plan.bucket) or await store.guarantees(plan.bucket)
        collapsed = collapsed or known.refuses(item.key, found.size) is not None
        if item.replace_etag is not None or collapsed:
            return None  # the upload tells what stands in its way
        return AlreadyPresent(key=item.key, etag=found.etag, size=found.size)

    async def _store(
        self,
        plan: FetchPlan,
        item: FetchItem,
        this: Try,
        session: FetchSession,
        answer: Fetched,
        lease: Reservation,
    ) -> Outcome:
        limit = plan.store.limit_bytes(self.max_object_bytes)
        try:
            if answer.framing == "close" and not plan.store.accept_close_delimited:
                msg = (
                    f"{answer.origin}: neither length nor chunked: nobody can know whether the body is whole"
                )
                no_length = OriginNoLength(msg, origin=answer.origin)
                session.discard(no_length)
                raise no_length
            if limit is not None and answer.length is not None and answer.length > limit:
                msg = f"{item.key}: {answer.length} bytes, the limit is {limit}"
                raise ObjectTooLarge(msg)
        except TransferError:
            lease.release()
            raise
        refusal = unlistable(item.key)
        if refusal is not None:
            lease.release()
            raise ControlCharacter(f"{plan.bucket}/{item.key!r}: {refusal}")
        reason = None if plan.store.private else withheld(answer.headers, plan)
        if reason is not None:
            lease.release()
            return Skipped(key=item.key, reason=reason)
        fetched_at = self.now().isoformat(timespec="seconds").replace("+00:00", "Z")
        meta = object_meta(
            answer.headers, plan, key=item.key, url=answer.url, attempt=this.attempt, fetched_at=fetched_at
        )
        got = 0
        async with self.store.upload(
            plan.bucket,
            item.key,
            meta,
            attempt=this.attempt,
            size=answer.length,
            replace_etag=item.replace_etag,
            lease=lease,
        ) as upload:
            while chunk := await answer.read_some():
                got += len(chunk)
                if limit is not None and got > limit:
                    msg = f"{item.key}: more than {limit} bytes"
                    raise ObjectTooLarge(msg)
                await upload.write(chunk)
            try:
                commit = await upload.commit()
            finally:
                if upload.at_large and self.late is not None:
                    await self.late(plan.bucket, item.key)
        if not commit.created:
            return AlreadyPresent(key=item.key, etag=commit.etag, size=commit.size)
        return Stored(
            key=item.key,
            size=commit.size,
            etag=commit.etag,
            origin=answer.origin,
            url=answer.url,
            sha256=commit.sha256,
            attempts=session.attempts,
            meta_cut=meta.cut,
        )
