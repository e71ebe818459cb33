"""A multipart upload as it goes: noted, created, its parts sent side by side, put together or aborted.

Owns the life of one upload id (SEMANTICS.md S13, P41): whatever happens, it becomes the object or is aborted;
what cannot be aborted now has a note, which the sweep finds. The requests are `multipart`'s, what a refused
completion means is `settling`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from workers.errors import StoreCorrupted, StoreError, StoreRejected, StoreUnavailable
from workers.store.metadata import minimal
from workers.store.wire import multipart
from workers.store.wire.answers import EXISTS_CODES, error_code, field, parse, unquote_etag
from workers.store.write.sweep import abort_noted

if TYPE_CHECKING:
    from workers.store.model import Commit, StoreAnswer
    from workers.store.wire.multipart import Begun, SentPart
    from workers.store.write.intent import Intent
    from workers.store.write.part import Part
    from workers.store.write.settling import Settling

log = structlog.get_logger(__name__)

#: Seconds that an abort may take before it is left to the sweep.
_ABORT_S: Final = 30.0

#: Stands for the status of an answer that did not come.
_NO_ANSWER: Final = 599


class Assembly:
    """One multipart upload; `add` parts in order, `complete` once, `close` always."""

    def __init__(self, intent: Intent) -> None:
        self._intent = intent
        self._added = 0
        self._creating: asyncio.Task[tuple[Begun, bool]] | None = None
        #: Names of the notes about it, one for each try to create it: tries may be minutes apart.
        self._notes: list[str] = []
        self._sending: set[asyncio.Task[SentPart]] = set()
        self._sent: list[SentPart] = []
        #: The upload became the object; there is nothing to abort.
        self._completed = False

    # ------------------------------------------------------------------ parts

    async def add(self, part: Part) -> None:
        """Send the next part beside the others; waits while as many as may be are on their way.

        The part is taken over once this returns; until then it is the caller's to close.

        Raises:
            StoreError: the upload could not be created, or an earlier part not be sent.
        """
        if self._creating is None:
            await self._create()
        while len(self._sending) >= self._intent.store.part_turns.each:
            await self._collect(asyncio.FIRST_COMPLETED)
        self._added += 1
        task = asyncio.create_task(self._send(self._begun(), self._added, part))
        # Not in the task itself: one that is cancelled before its first step runs no line of its own.
        task.add_done_callback(lambda _: part.close())
        self._sending.add(task)

    async def _send(self, begun: Begun, number: int, part: Part) -> SentPart:
        intent = self._intent
        transport = intent.store.transport
        return await multipart.upload_part(
            transport,
            begun,
            number,
            checked=await part.checked(intent.known.part_checksums),
            body=part.body(idle_s=transport.idle_s),
            n_bytes=part.filled,
            headers=intent.store.read_headers,
        )

    async def _collect(self, when: str) -> None:
        """Wait for parts on their way and keep what they brought."""
        done, self._sending = await asyncio.wait(self._sending, return_when=when)
        for error in [task.exception() for task in done]:  # all are looked at, so that none goes unnoticed
            if error is not None:
                raise error
        self._sent.extend([task.result() for task in done])

    # ------------------------------------------------------------------ begin

    async def _create(self) -> None:
        intent = self._intent
        if not intent.known.multipart:
            raise StoreRejected(
                f"{intent.what}: larger than one part, and the store has no multipart uploads"
            )
        # A task of its own: when we are cancelled meanwhile, the abort still learns the id.
        self._creating = asyncio.create_task(self._create_upload())
        await asyncio.shield(self._creating)

    async def _announce(self) -> None:
        intent = self._intent
        # A message that comes again after a kill has the same attempt, and its upload must not take the note
        # of the one that was left open.
        self._notes.append(f"{intent.attempt}.{secrets.token_hex(4)}")
        await intent.store.journal.opened(intent.bucket, intent.key, self._notes[-1])

    def _begun(self) -> Begun:
        """The upload that was created; it has been waited for."""
        assert self._creating is not None
        return self._creating.result()[0]

    async def _create_upload(self) -> tuple[Begun, bool]:
        intent = self._intent
        crc = "crc32c" in intent.known.part_checksums
        transport = intent.store.transport
        create = partial(
            multipart.create, transport, intent.bucket, intent.key, crc32c=crc, announce=self._announce
        )
        try:
            return await create(intent.creation_headers(intent.meta))
        except StoreRejected as error:
            if error.code != "MetadataTooLarge":
                raise
            log.warning("metadata_refused", bucket=intent.bucket, key=intent.key)
            return await create(intent.creation_headers(minimal(intent.meta)))

    # ------------------------------------------------------------------ end

    async def complete(self, settling: Settling, size: int) -> Commit:
        """Put the parts together, once for all; a lost answer is looked up before it is asked again.

        `size` in bytes is that of all parts.

        Raises:
            StoreError: a part could not be sent, the object is not there, or nobody can tell.
            KeyNotRepresentable: the store cannot hold this key beside another one (S17).
        """
        while self._sending:
            await self._collect(asyncio.FIRST_EXCEPTION)
        commit = await self._complete(settling, size)
        self._completed = commit.created
        return commit

    async def _complete(self, settling: Settling, size: int) -> Commit:
        intent = self._intent
        store = intent.store
        mode = intent.known.multipart_create_only
        attempt = 0
        while True:
            # Stores that guard a PUT may not guard this: a look is little beside the parts.
            settled = await settling.before(mode, proven=intent.known.proven)
            if settled is not None:
                return settled
            headers = dict(store.read_headers)
            condition = intent.condition(mode)
            if condition is not None:
                headers[condition[0]] = condition[1]
            answer: StoreAnswer | None = None
            settling.asking()
            try:
                answer = await multipart.complete(store.transport, self._begun(), self._sent, headers=headers)
            except StoreError as error:
                settling.answered(error.status or _NO_ANSWER)
                if not error.retryable:
                    raise
                failed = error
            else:
                settling.answered(answer.status)
            if answer is not None and answer.status < 300:
                settling.over()
                return await self._verified(answer, settling, size)
            if answer is not None and (answer.status == 412 or error_code(answer.body)[0] in EXISTS_CODES):
                return await settling.after_refusal()
            ours = await settling.ours()
            if ours is not None:
                settling.over()
                return settling.created(etag=ours.etag, size=ours.size)
            if answer is not None:
                # 404: the upload is gone; 409: S3 wants it from the start. Both need the bytes again.
                code = error_code(answer.body)[0]
                raise StoreUnavailable(
                    f"COMPLETE {intent.what}: {answer.status} {code}".rstrip(),
                    status=answer.status,
                    code=code or None,
                )
            await store.transport.pause(failed, attempt)
            attempt += 1

    async def _verified(self, answer: StoreAnswer, settling: Settling, size: int) -> Commit:
        """Compare what the store says it has with what was sent; undo the write when they differ."""
        intent = self._intent
        etag = unquote_etag(field(parse(answer, what=intent.what), "ETag"))
        expected = multipart.expected_etag(self._sent)
        version = answer.headers.get("x-amz-version-id", "")
        shaped = "-" in etag and len(etag.partition("-")[0]) == 32
        if shaped and expected is not None and etag.lower() != expected and intent.etag_is_md5(answer):
            await settling.undo(version)
            raise StoreCorrupted(f"{intent.what}: ETag {etag} instead of {expected}", status=answer.status)
        ours = await settling.ours()
        if ours is not None and ours.size != size:
            await settling.undo(version)
            raise StoreCorrupted(f"{intent.what}: {ours.size} bytes in the store instead of {size}")
        return settling.created(etag=etag or (ours.etag if ours else ""), size=size)

    async def close(self) -> None:
        """Abort unless completed; then forget the notes. What fails here is left to the sweep.

        Goes on to its end when cancelled meanwhile.
        """
        if self._creating is not None:
            await _to_the_end(self._abort_and_forget(self._creating))

    async def _abort_and_forget(self, creating: asyncio.Task[tuple[Begun, bool]]) -> None:
        intent = self._intent
        store = intent.store
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        self._sending = set()
        try:
            async with asyncio.timeout(_ABORT_S):
                begun, doubtful = None, True
                with contextlib.suppress(StoreError):
                    begun, doubtful = await creating
                if begun is not None and not self._completed:
                    await multipart.abort(store.transport, begun, headers=store.common_headers)
                if doubtful:
                    async for note in store.journal.notes(intent.bucket, attempt=intent.attempt):
                        if note.attempt in self._notes:
                            await abort_noted(store, intent.bucket, note)
                for name in self._notes:
                    await store.journal.closed(intent.bucket, name)
        except (StoreError, TimeoutError) as error:
            log.warning("upload_left_to_sweep", bucket=intent.bucket, key=intent.key, error=str(error))


async def _to_the_end(work: Any) -> None:
    """Finish the work even when cancelled meanwhile; the cancellation follows it."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
