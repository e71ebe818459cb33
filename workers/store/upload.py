"""Upload: bytes in, then exactly one commit or one abort.

Owns how an object is committed: one PUT or a multipart upload, create-only or a checked replacement, and what
a 412 means (SEMANTICS.md S11, S12, S13). Must not know origins. Leaving without `commit` undoes everything.

Memory: a whole part is reserved before its first byte is taken (DESIGN: budget deadlock); parts that are
larger than an eighth of the budget are filled on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import structlog

from workers import metrics
from workers.errors import KeyNotRepresentable, StoreCorrupted, StoreError, StoreRejected, StoreUnavailable
from workers.store import multipart
from workers.store.answers import (
    EXISTS_CODES,
    checksum_header,
    error_code,
    failure,
    field,
    parse,
    unquote_etag,
)
from workers.store.body import FileBody, body_of
from workers.store.checksums import Checked, checked
from workers.store.guarantees import CreateOnly, StoreGuarantees
from workers.store.journal import UploadNote
from workers.store.metadata import ATTEMPT, KEY_SHA256, SHA256, is_mirrored, minimal
from workers.store.model import Commit
from workers.store.parts import growing_part_bytes, uniform_part_bytes
from workers.store.spool import SpoolFile
from workers.store.sweep import abort_noted

if TYPE_CHECKING:
    from types import TracebackType

    from workers.store.client import ObjectStore
    from workers.store.memory import Reservation
    from workers.store.model import ObjectInfo, ObjectMeta, StoreAnswer
    from workers.store.multipart import SentPart

log = structlog.get_logger(__name__)

_SHA256_HEADER = f"x-amz-meta-{SHA256}"

#: Seconds that an abort may take before it is left to the sweep.
_ABORT_S = 30.0
#: Seconds between the two looks for an object that a 412 spoke of.
_SECOND_LOOK_S = 0.2


class Upload:
    """One object on its way in; use as an async context.

    `write` as often as there are bytes, then `commit` once. An upload that is left without a commit is
    aborted and leaves nothing behind.
    """

    def __init__(
        self,
        store: ObjectStore,
        bucket: str,
        key: str,
        meta: ObjectMeta,
        *,
        attempt: str,
        size: int | None,
        replace_etag: str | None,
        lease: Reservation | None,
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._key = key
        self._meta = meta
        self._attempt = attempt
        self._size = size
        self._replace = replace_etag
        self._lease = lease
        self._known = StoreGuarantees()
        self._sha = sha256()
        #: Bytes taken so far, and those of the part that is being filled.
        self._taken = 0
        self._filled = 0
        self._chunks: list[bytes | memoryview] = []
        self._spool: SpoolFile | None = None
        self._number = 1
        self._limit = 0
        self._creating: asyncio.Task[tuple[str, bool]] | None = None
        #: Unix time of the note about our multipart upload; 0 before there is one.
        self._noted_at = 0.0
        self._sending: set[asyncio.Task[SentPart]] = set()
        self._sent: list[SentPart] = []
        self._finished = False
        #: The multipart upload became the object; there is nothing to abort.
        self._completed = False

    @property
    def _what(self) -> str:
        return f"{self._bucket}/{self._key}"

    # ------------------------------------------------------------------ bytes in

    async def __aenter__(self) -> Self:
        store = self._store
        try:
            self._known = store.known(self._bucket) or await store.guarantees(self._bucket)
            self._refuse_key(self._size)
            self._limit = self._part_bytes(1)
            await self._make_room()
        except BaseException:
            self._free()
            raise
        return self

    def _refuse_key(self, size: int | None) -> None:
        refusal = self._known.refuses(self._key, size)
        if refusal is not None:
            raise KeyNotRepresentable(f"{self._what}: in this store {refusal}")

    async def write(self, data: bytes) -> None:
        """Take more bytes of the object; waits while the budget or the store is busy.

        Raises:
            StoreError: a part could not be sent, or more bytes come than were promised.
        """
        n_bytes = len(data)
        self._taken += n_bytes
        if self._size is not None and self._taken > self._size:
            raise StoreError(f"{self._what}: {self._taken} bytes came where {self._size} were promised")
        self._sha.update(data)
        room = self._limit - self._filled
        if n_bytes <= room:
            self._fill(data, n_bytes)
            return
        rest = memoryview(data)
        while rest:
            if self._filled == self._limit:
                await self._seal()
                self._number += 1
                self._limit = self._part_bytes(self._number)
                await self._make_room()
            take = rest[: self._limit - self._filled]
            self._fill(take, len(take))
            rest = rest[len(take) :]

    def _fill(self, data: bytes | memoryview, n_bytes: int) -> None:
        self._filled += n_bytes
        if self._spool is None:
            self._chunks.append(data)
        else:
            self._spool.write(data)

    def _part_bytes(self, number: int) -> int:
        settings = self._store.settings
        base = settings.part_size_bytes
        if self._size is None:
            return growing_part_bytes(number, base, uniform=settings.uniform_parts)
        return min(uniform_part_bytes(self._size, base), self._size - (self._taken_before(number, base)))

    def _taken_before(self, number: int, base: int) -> int:
        return (number - 1) * uniform_part_bytes(self._size or 0, base)

    async def _make_room(self) -> None:
        """Reserve the whole of the next part, in memory or on disk."""
        store = self._store
        if self._limit <= store.memory.limit_bytes // 8:
            if self._lease is not None and self._lease.n_bytes < self._limit:
                self._lease.release()
                self._lease = None
            if self._lease is not None:
                self._lease.shrink(self._limit)
            else:
                self._lease = store.memory.try_reserve(self._limit) or await store.memory.reserve(self._limit)
            return
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        if self._limit > store.spool.limit_bytes:
            raise StoreRejected(
                f"{self._what}: a part of {self._limit} bytes fits neither limits.memory_bytes / 8 nor "
                f"limits.spool_bytes ({store.spool.limit_bytes})",
            )
        self._spool = SpoolFile(await store.spool.reserve(self._limit), store.spool_dir)

    # ------------------------------------------------------------------ parts

    async def _seal(self) -> None:
        """Send the part that is full beside the others, and leave room for the next."""
        if self._creating is None:
            await self._create()
        upload_id = self._upload_id()
        while len(self._sending) >= self._store.settings.part_concurrency:
            await self._collect(asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(
            self._send_part(upload_id, self._number, self._chunks, self._filled, self._spool, self._lease),
        )
        self._sending.add(task)
        # From here on the task owns bytes, file and reservation.
        self._chunks, self._spool, self._lease, self._filled = [], None, None, 0

    async def _send_part(
        self,
        upload_id: str,
        number: int,
        chunks: list[bytes | memoryview],
        n_bytes: int,
        spool: SpoolFile | None,
        lease: Reservation | None,
    ) -> SentPart:
        store = self._store
        try:
            if spool is not None:
                check = await _checked_file(spool, self._known.part_checksums)
                body: Any = FileBody(spool.file, n_bytes, idle_s=store.transport.idle_s)
            else:
                check = await checked(chunks, n_bytes, self._known.part_checksums)
                body = body_of(chunks, n_bytes, idle_s=store.transport.idle_s)
            return await multipart.upload_part(
                store.transport,
                self._bucket,
                self._key,
                upload_id,
                number,
                body=body,
                n_bytes=n_bytes,
                headers=store.read_headers,
                crc32c=check.crc32c,
                content_md5=check.content_md5,
                payload_sha256=check.payload_sha256,
            )
        finally:
            chunks.clear()
            if spool is not None:
                spool.close()
            if lease is not None:
                lease.release()

    async def _collect(self, when: str) -> None:
        """Wait for parts on their way and keep what they brought."""
        done, self._sending = await asyncio.wait(self._sending, return_when=when)
        self._sent.extend([task.result() for task in done])

    async def _create(self) -> None:
        if not self._known.multipart:
            raise StoreRejected(f"{self._what}: larger than one part, and the store has no multipart uploads")
        store = self._store
        self._noted_at = time.time()
        await store.journal.opened(self._bucket, self._key, self._attempt)
        # A task of its own: when we are cancelled meanwhile, the abort still learns the id.
        self._creating = asyncio.create_task(self._create_upload())
        await asyncio.shield(self._creating)

    def _upload_id(self) -> str:
        """Of the upload that was created; it has been waited for."""
        assert self._creating is not None
        return self._creating.result()[0]

    async def _create_upload(self) -> tuple[str, bool]:
        store = self._store
        crc = "crc32c" in self._known.part_checksums
        try:
            return await multipart.create(
                store.transport,
                self._bucket,
                self._key,
                self._creation_headers(self._meta),
                crc32c=crc,
            )
        except StoreRejected as error:
            if error.code != "MetadataTooLarge":
                raise
            log.warning("metadata_refused", bucket=self._bucket, key=self._key)
            headers = self._creation_headers(minimal(self._meta))
            return await multipart.create(store.transport, self._bucket, self._key, headers, crc32c=crc)

    def _creation_headers(self, meta: ObjectMeta) -> dict[str, str]:
        headers = dict(self._store.create_headers)
        for name, value in meta.headers:
            headers[name.lower()] = value  # the signature wants them so
        for name, value in meta.user_meta:
            headers[f"x-amz-meta-{name}"] = value
        if meta.tags and self._known.object_tags and self._store.settings.object_tags:
            headers["x-amz-tagging"] = urlencode(meta.tags)
        return headers

    # ------------------------------------------------------------------ commit

    async def commit(self) -> Commit:
        """Make the object appear, whole, unless another one holds the key.

        Raises:
            StoreError: it is not there, or nobody can tell; nothing half-written is left.
            KeyNotRepresentable: the store cannot hold this key beside another one (S17).
        """
        if self._finished:
            raise RuntimeError("an upload is committed once")
        if self._size is not None and self._taken != self._size:
            raise StoreError(f"{self._what}: {self._taken} bytes came where {self._size} were promised")
        self._refuse_key(self._taken)
        if self._replace is not None:
            info = await self._store.head(self._bucket, self._key)
            if info is None or info.etag != self._replace or not is_mirrored(info):
                self._finished = True
                return self._gone() if info is None else self._present(info)
        if self._creating is None:
            result = await self._put()
        else:
            if self._filled:
                await self._seal()
            while self._sending:
                await self._collect(asyncio.FIRST_EXCEPTION)
            result = await self._complete()
        self._finished = True
        self._completed = result.created
        return result

    def _result(self, *, created: bool, etag: str, size: int) -> Commit:
        if not created:
            metrics.create_only_refused()
        return Commit(created=created, etag=etag, size=size, sha256=self._sha.hexdigest())

    def _condition(self, mode: CreateOnly) -> tuple[str, str] | None:
        """The conditional header of the commit, where the store obeys one."""
        if self._replace is not None:
            return ("if-match", f'"{self._replace}"') if self._known.if_match else None
        return mode.header

    async def _taken_by_other(self, mode: CreateOnly) -> ObjectInfo | None:
        """The weak check of a store without create-only writes: what is there directly before the commit."""
        if self._replace is not None or mode is not CreateOnly.CHECK_THEN_WRITE:
            return None
        return await self._store.head(self._bucket, self._key)

    async def _put(self) -> Commit:
        """One PUT, checked by the store, repeated while that helps."""
        store = self._store
        if self._lease is not None:
            self._lease.shrink(self._filled)
        digest = self._sha.hexdigest()
        if self._spool is not None:
            check = await _checked_file(self._spool, self._known.checksums, known_sha256=digest)
        else:
            check = await checked(self._chunks, self._filled, self._known.checksums, known_sha256=digest)
        meta = self._meta
        attempt = 0
        while True:
            present = await self._taken_by_other(self._known.create_only)
            if present is not None:
                return self._found(present)
            headers = self._creation_headers(meta)
            if meta.digest_fits:
                headers[_SHA256_HEADER] = digest
            condition = self._condition(self._known.create_only)
            if condition is not None:
                headers[condition[0]] = condition[1]
            try:
                answer = await self._send_put(headers, check)
            except StoreRejected as error:
                if error.code != "MetadataTooLarge" or meta == minimal(meta):
                    raise
                log.warning("metadata_refused", bucket=self._bucket, key=self._key)
                meta = minimal(meta)
                continue
            except StoreUnavailable as error:
                ours = await self._ours()
                if ours is None:
                    raise error from None
                return self._result(created=True, etag=ours.etag, size=ours.size)
            if answer.status < 300:
                return await self._verified(answer, check)
            if answer.status == 404:
                return self._gone()
            if answer.status == 412 or error_code(answer.body)[0] in EXISTS_CODES:
                return await self._settle()
            await store.transport.pause(failure(answer, what=f"PUT {self._what}"), attempt)
            attempt += 1

    async def _send_put(self, headers: dict[str, str], check: Checked) -> StoreAnswer:
        transport = self._store.transport
        if check.crc32c:
            headers["x-amz-checksum-crc32c"] = check.crc32c
        if check.content_md5:
            headers["content-md5"] = check.content_md5
        headers["content-length"] = str(self._filled)
        if self._spool is not None:
            body: Any = FileBody(self._spool.file, self._filled, idle_s=transport.idle_s)
        else:
            body = body_of(self._chunks, self._filled, idle_s=transport.idle_s)
        return await transport.exchange(
            "PUT",
            self._bucket,
            self._key,
            headers=headers,
            body=body,
            payload_sha256=check.payload_sha256,
            accept=_CONFLICTS if self._replace is None else _REPLACE_CONFLICTS,
        )

    async def _verified(self, answer: StoreAnswer, check: Checked) -> Commit:
        """Compare what the store says it has with what was sent; undo the write when they differ."""
        etag = unquote_etag(answer.headers.get("ETag", ""))
        theirs = checksum_header(answer.headers, "crc32c") if check.crc32c else ""
        plain = self._store.settings.sse in {"none", "AES256"}
        wrong_md5 = check.md5_hex and plain and len(etag) == 32 and etag.lower() != check.md5_hex
        if wrong_md5 or (theirs and theirs != check.crc32c):
            await self._undo(answer.headers.get("x-amz-version-id", ""))
            raise StoreCorrupted(
                f"{self._what}: the store's answer does not match the bytes", status=answer.status
            )
        return self._result(created=True, etag=etag, size=self._filled)

    async def _complete(self) -> Commit:
        """Put the parts together, once for all; a lost answer is looked up before it is asked again."""
        store = self._store
        upload_id = self._upload_id()
        mode = self._known.multipart_create_only
        attempt = 0
        while True:
            present = await self._taken_by_other(mode)
            if present is not None:
                return self._found(present)
            headers = dict(store.read_headers)
            condition = self._condition(mode)
            if condition is not None:
                headers[condition[0]] = condition[1]
            try:
                answer = await multipart.complete(
                    store.transport,
                    self._bucket,
                    self._key,
                    upload_id,
                    self._sent,
                    headers=headers,
                )
            except StoreUnavailable as error:
                answer = None
                failed: StoreError = error
            except StoreError as error:
                if not error.retryable:
                    raise
                answer = None
                failed = error
            if answer is not None and answer.status < 300:
                return await self._verified_parts(answer)
            if answer is not None and (answer.status == 412 or error_code(answer.body)[0] in EXISTS_CODES):
                return await self._settle()
            ours = await self._ours()
            if ours is not None:
                return self._result(created=True, etag=ours.etag, size=ours.size)
            if answer is not None:
                # 404: the upload is gone; 409: S3 wants it from the start. Both need the bytes again.
                code = error_code(answer.body)[0]
                raise StoreUnavailable(
                    f"COMPLETE {self._what}: {answer.status} {code}".rstrip(),
                    status=answer.status,
                    code=code or None,
                )
            await store.transport.pause(failed, attempt)
            attempt += 1

    async def _verified_parts(self, answer: StoreAnswer) -> Commit:
        etag = unquote_etag(field(parse(answer, what=self._what), "ETag"))
        expected = multipart.expected_etag(self._sent)
        version = answer.headers.get("x-amz-version-id", "")
        plain = self._store.settings.sse in {"none", "AES256"}
        shaped = "-" in etag and len(etag.partition("-")[0]) == 32
        if plain and shaped and expected is not None and etag.lower() != expected:
            await self._undo(version)
            raise StoreCorrupted(f"{self._what}: ETag {etag} instead of {expected}", status=answer.status)
        ours = await self._ours()
        if ours is not None and ours.size != self._taken:
            await self._undo(version)
            raise StoreCorrupted(f"{self._what}: {ours.size} bytes in the store instead of {self._taken}")
        return self._result(created=True, etag=etag or (ours.etag if ours else ""), size=self._taken)

    # ------------------------------------------------------------------ what is there

    def _is_ours(self, info: ObjectInfo) -> bool:
        return info.user_meta.get(ATTEMPT) == self._attempt

    def _found(self, info: ObjectInfo) -> Commit:
        """What holds the key: this very attempt, or another object."""
        if self._is_ours(info):
            return self._result(created=True, etag=info.etag, size=info.size)
        return self._present(info)

    def _gone(self) -> Commit:
        """What was to be replaced is not there any more; nothing was written."""
        return self._result(created=False, etag="", size=0)

    def _present(self, info: ObjectInfo) -> Commit:
        """Another object holds the key; or the store collapsed two keys, as its provenance tells."""
        theirs = info.user_meta.get(KEY_SHA256)
        if theirs is not None and theirs != sha256(self._key.encode()).hexdigest():
            raise KeyNotRepresentable(f"{self._what}: the store gives the object of another key")
        return self._result(created=False, etag=info.etag, size=info.size)

    async def _ours(self) -> ObjectInfo | None:
        """The object of this very attempt, if it is there and the store can say so."""
        try:
            info = await self._store.head(self._bucket, self._key)
        except StoreError:
            return None
        return info if info is not None and self._is_ours(info) else None

    async def _settle(self) -> Commit:
        """After a 412: our own lost answer, somebody's object, or a key that cannot be held (S11)."""
        info = await self._store.head(self._bucket, self._key)
        if info is None:
            await self._store.sleep(_SECOND_LOOK_S)
            info = await self._store.head(self._bucket, self._key)
        if info is None and self._replace is not None:
            return self._gone()
        if info is None:
            raise KeyNotRepresentable(
                f"{self._what}: the store refuses to create it and has no such object",
                status=412,
            )
        return self._found(info)

    async def _undo(self, version: str) -> None:
        """Remove what this attempt wrote, and nothing else."""
        if await self._ours() is not None:
            log.error("store_corrupted", bucket=self._bucket, key=self._key)
            await self._store.delete(self._bucket, self._key, version=version)

    # ------------------------------------------------------------------ the end

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._noted_at:
                await _to_the_end(self._close_multipart())
        finally:
            self._free()

    def _free(self) -> None:
        self._chunks = []
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    async def _close_multipart(self) -> None:
        """Abort unless completed; then forget the note. What fails here is left to the sweep."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        self._sending = set()
        store = self._store
        try:
            async with asyncio.timeout(_ABORT_S):
                upload_id, doubtful = "", self._creating is not None
                if self._creating is not None:
                    with contextlib.suppress(StoreError):
                        upload_id, doubtful = await self._creating
                if upload_id and not self._completed:
                    await multipart.abort(
                        store.transport,
                        self._bucket,
                        self._key,
                        upload_id,
                        headers=store.common_headers,
                    )
                if doubtful:
                    note = UploadNote(attempt=self._attempt, key=self._key, at=self._noted_at)
                    await abort_noted(store, self._bucket, note)
                await store.journal.closed(self._bucket, self._attempt)
        except (StoreError, TimeoutError) as error:
            log.warning("upload_left_to_sweep", bucket=self._bucket, key=self._key, error=str(error))


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


_CONFLICTS = frozenset({409, 412})
#: If-Match on a key that is gone answers 404.
_REPLACE_CONFLICTS = frozenset({404, 409, 412})


async def _checked_file(spool: SpoolFile, honoured: tuple[str, ...], *, known_sha256: str = "") -> Checked:
    """The checksum of a part on disk, computed in a thread over a memory map of it."""
    import mmap

    if spool.n_bytes == 0:
        return await checked([], 0, honoured, known_sha256=known_sha256)
    with mmap.mmap(spool.file.fileno(), spool.n_bytes, access=mmap.ACCESS_READ) as mapped:
        return await checked([mapped], spool.n_bytes, honoured, known_sha256=known_sha256)  # type: ignore[list-item]
