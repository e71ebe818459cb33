"""What becomes of an allowed call: the kinds that write, delete or are passed on.

Owns the order around the store's request: what is refused before, what is noted before and after. A plain
read is `reading`'s, a list is `listing`'s; all else is the store's answer as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scheduler.front.http import s3_error
from scheduler.front.http.s3_error import S3Error
from scheduler.front.s3.call import RESERVED, Refused
from scheduler.front.s3.form.answer import form_answer
from scheduler.front.s3.form.storing import store_file
from scheduler.front.s3.forwarding import Forwarding
from scheduler.front.s3.headers import (
    copy_source,
    for_client,
    for_store,
    spelled_source,
    without_chunks,
)
from scheduler.front.s3.listing.lists import Lists
from scheduler.front.s3.multi_delete import deleted_keys, not_deleted
from scheduler.front.s3.operation import COPIES
from scheduler.front.s3.reading import Reading
from scheduler.front.s3.tombstones import Buried, Tombstones
from scheduler.front.s3.write_back import WriteBack
from scheduler.rules.keys import is_reserved
from scheduler.rules.matching import names
from workers.errors import StoreError
from workers.ledger.back import DELETED, NOTHING, UNKNOWN, WRITTEN
from workers.store.wire.lean import MAX_REQUEST_BYTES
from workers.store.wire.signing import UNSIGNED, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.front.http.answer import Answer
    from scheduler.front.http.object_headers import RawHeaders
    from scheduler.front.http.request import Request
    from scheduler.front.s3.call import Call
    from scheduler.front.s3.form.storing import FormFile
    from scheduler.front.s3.forwarding import S3Services
    from scheduler.front.s3.permission import Grants
    from scheduler.front.s3.reading import Miss
    from scheduler.front.s3.write_back import Noted
    from workers.store.wire.passed import PassedAnswer

#: Of these the status does not say whether they came about: the body can hold an error.
_ERROR_INSIDE: Final = frozenset({"CopyObject", "CompleteMultipartUpload"})
_WRITES: Final = frozenset({"PutObject", "CopyObject", "CompleteMultipartUpload", "PostObject"})
#: Documents about an upload; others are about an object that is there, its tags for instance.
_OF_UPLOADS: Final = frozenset({"CreateMultipartUpload", "CompleteMultipartUpload", "AbortMultipartUpload"})
#: Where a store loses bodies under keys that end with `/`: up to here such a write makes an empty marker, and
#: is answered as the store does, because clients try it. SeaweedFS puts a longer one elsewhere (`dir/dir`).
_MARKER_BYTES: Final = 1024
#: Headers of the store's answer that speak of its own body.
_OF_ITS_BODY: Final = frozenset({b"content-type", b"content-encoding", b"vary"})
_CORS: Final = frozenset({
    b"access-control-allow-origin", b"access-control-allow-credentials", b"access-control-expose-headers",
    b"vary",
})  # fmt: skip


class Calls(Forwarding):
    """Answers calls over one store."""

    def __init__(self, services: S3Services, grants: Grants, miss: Miss) -> None:
        super().__init__(services)
        self._miss = miss
        self._grants = grants
        self._reading = Reading(services, miss)
        self._lists = Lists(services, grants)
        self._write_back = WriteBack(services.ledger.back, services.back)
        self._tombstones = Tombstones(services.ledger.claims, wait_s=self._settings.gateway.herd_wait_s)

    async def answer(self, call: Call) -> None:
        """Answer one call.

        Raises:
            Refused, BodyRefused, NotBuried, StoreError: before the answer has begun, it is not done.
        """
        asked = call.operation
        self._refuse_confused(call)
        if asked.is_plain_read:
            await self._reading.answer(call)
        elif asked.name in COPIES:
            await self._copy(call)
        elif asked.streams:
            await self._upload(call)
        elif asked.lists and call.request.method == "GET":
            await self._lists.answer(call)
        elif asked.name in {"DeleteObject", "DeleteObjects"}:
            await self._delete(call)
        else:
            await self._document(call)

    async def preflight(self, request: Request, answer: Answer, bucket: str, key: str) -> None:
        """A browser's OPTIONS, answered by the store's CORS rules."""
        headers = for_store(request.headers)
        async with await self._store.pass_on("OPTIONS", bucket, key, headers=headers) as passed:
            body = await passed.read()
            await answer.whole(passed.status, for_client(passed.headers, show_own=False), body)

    def _refuse_confused(self, call: Call, *keys: str, size: int | None = None) -> None:
        """A write to a key that the store takes for another one would change that one (S17)."""
        known = self._store.known(call.bucket)
        if known is None or call.request.method in {"GET", "HEAD"}:
            return
        for key in keys or (call.key,):
            if not known.confuses(key):
                continue
            written = self._written_bytes(call) if size is None else size
            refusal = known.refuses(key, written if written > _MARKER_BYTES else 0)
            if refusal is not None:
                message = f"The store cannot hold the key {key!r} as itself: {refusal}."
                raise Refused(S3Error(status=400, code="InvalidArgument", message=message))

    def _written_bytes(self, call: Call) -> int:
        """How long the object becomes; too long for a marker where nobody has counted its bytes yet."""
        if call.operation.streams:
            return self._body(call).length
        of_bytes = {"CreateMultipartUpload", "CompleteMultipartUpload", "PostObject"}
        return _MARKER_BYTES + 1 if call.operation.name in of_bytes else 0

    # ------------------------------------------------------------ writing

    async def _judged_by_all(self, call: Call, headers: Mapping[str, str]) -> None:
        """A write on condition of what the key holds: the store judges it, and needs the origin's object."""
        if call.operation.name in _WRITES and not headers.keys().isdisjoint({"if-match", "if-none-match"}):
            await self._miss.pull_source(call.request, call.bucket, call.key)

    async def _upload(self, call: Call) -> None:
        body = self._body(call)
        headers = for_store(call.headers)
        await self._judged_by_all(call, headers)
        async with self._noting(call) as noted:
            mark = await self._tombstone(call)
            if body.length <= MAX_REQUEST_BYTES:
                whole = await body.whole()
                if body.is_chunked:
                    without_chunks(headers, body.trailers)
                payload = body.sha256 or sha256_hex(whole)
                passed = await self._pass(call, headers, whole, payload=payload, noted=noted)
            else:
                if body.is_chunked:
                    without_chunks(headers, {})
                payload = body.sha256 or UNSIGNED
                try:
                    passed = await self._pass(
                        call, headers, body, length=body.length, payload=payload, noted=noted
                    )
                except StoreError:
                    if body.failure is not None:
                        raise body.failure from None
                    raise
            async with passed:
                await self._written(call, passed, mark, noted, unread=not body.ended)

    async def form(self, call: Call, file: FormFile) -> None:
        """Store the file of a browser's form and answer as its fields say.

        Raises:
            Refused, BodyRefused, StoreError: before the answer has begun, it is not done.
        """
        self._refuse_confused(call)
        cors = await self._cors(call)
        async with self._noting(call) as noted:
            mark = await self._tombstone(call)
            passed = await store_file(self._store, file, noted.asking)
            etag = passed.header("etag")
            if passed.status >= 300 or etag is None:
                noted.came(NOTHING if passed.status < 500 else UNKNOWN)
                await self._send(call, passed, await passed.read(), unread=not file.reader.ended)
                return
            if mark is not None:
                await self._tombstones.lift(call.bucket, call.key, mark)
            noted.came(WRITTEN)
            await noted.settle()
            status, headers, body = form_answer(
                file.fields, bucket=call.bucket, key=call.key, etag=etag, base=file.base
            )
            said = {name for name, _ in headers} | _OF_ITS_BODY
            theirs = for_client(passed.headers, show_own=self._settings.gateway.show_own_metadata)
            more = [pair for pair in theirs if pair[0] not in said]
            await call.answer.whole(status, [*headers, *more, *cors], body)

    async def _cors(self, call: Call) -> RawHeaders:
        """What the store's CORS rules let a page of another site see of the answer to a form."""
        origin = call.request.by_name.get("origin")
        if origin is None:
            return []
        headers = {"origin": origin, "access-control-request-method": "POST"}
        async with await self._store.pass_on("OPTIONS", call.bucket, call.key, headers=headers) as passed:
            await passed.read()
            found = for_client(passed.headers, show_own=False) if passed.status < 300 else []
        return [pair for pair in found if pair[0] in _CORS]

    async def _copy(self, call: Call) -> None:
        headers = for_store(call.headers)
        found = copy_source(headers["x-amz-copy-source"])
        if found is None:
            raise Refused(
                S3Error(status=400, code="InvalidArgument", message="x-amz-copy-source names no object.")
            )
        bucket, key, version = found
        refusal = self._grants.refusal(call.key_id, "read", bucket)
        if refusal is not None:
            raise Refused(refusal)
        if is_reserved(key):
            raise Refused(RESERVED)
        headers["x-amz-copy-source"] = spelled_source(bucket, key, version)
        await self._body(call).whole()
        if not version:
            await self._miss.pull_source(call.request, bucket, key)
        if await self._is_anothers(bucket, key):
            raise Refused(s3_error.NO_SUCH_KEY)
        known = self._store.known(call.bucket)
        if known is not None and known.confuses(call.key):
            source = await self._store.head(bucket, key)
            self._refuse_confused(call, size=0 if source is None else source.size)
        async with self._noting(call) as noted:
            mark = await self._tombstone(call)
            async with await self._pass(call, headers, b"", noted=noted) as passed:
                await self._written(call, passed, mark, noted)

    async def _document(self, call: Call) -> None:
        """Any call whose body is a small document, or nothing."""
        if call.operation.name not in _OF_UPLOADS and await self._is_anothers(call.bucket, call.key):
            raise Refused(s3_error.NO_SUCH_KEY)
        async with self._noting(call) as noted:
            mark = await self._tombstone(call)
            headers = for_store(call.headers)
            body = await self._whole(call, headers)
            await self._judged_by_all(call, headers)
            async with await self._pass(call, headers, body, noted=noted) as passed:
                await self._written(call, passed, mark, noted)

    async def _written(
        self, call: Call, passed: PassedAnswer, mark: str | None, noted: Noted, *, unread: bool = False
    ) -> None:
        """Send the answer to a write; the tombstone that was there before goes where it came about."""
        if passed.status >= 300:
            noted.came(NOTHING if passed.status < 500 else UNKNOWN)
            await self._send(call, passed, unread=unread)
            return
        seen, document = bytearray(), None
        late = call.operation.name in _ERROR_INSIDE
        if late and noted.is_sync:
            document = await passed.read()
        elif late:
            await self._send(call, passed, seen=seen)
        came_about = b"<Error" not in (seen if document is None else document)
        if came_about and mark is not None:
            await self._tombstones.lift(call.bucket, call.key, mark)
        noted.came(WRITTEN if came_about else NOTHING)
        if document is not None or not late:
            await noted.settle()
            await self._send(call, passed, document, unread=unread)

    async def _delete(self, call: Call) -> None:
        headers = for_store(call.headers)
        body = await self._whole(call, headers)
        keys = [call.key]
        if call.operation.name == "DeleteObjects":
            found = deleted_keys(body or b"")
            if found is None:
                raise Refused(
                    S3Error(status=400, code="MalformedXML", message="The body names no keys to delete.")
                )
            if any(is_reserved(key) for key in found):
                raise Refused(RESERVED)
            keys = found
            self._refuse_confused(call, *keys)
        async with self._noting(call, *keys) as noted:
            buried = await self._bury(call, keys)
            # When the store does not answer, or with a failure of its own (5xx), nobody knows whether it has
            # deleted: the tombstone stays, and the client tries again.
            async with await self._pass(call, headers, body, noted=noted) as passed:
                document = await passed.read() if call.operation.name == "DeleteObjects" else None
                refused, unknown = not_deleted(passed.status, keys, document)
                if buried is not None:
                    if refused:
                        await self._tombstones.take_back(buried, refused)
                    if len(refused) < len(keys):
                        await self._tombstones.keep(buried)
                noted.came(DELETED)
                noted.came(NOTHING, refused)
                noted.came(UNKNOWN, unknown)
                await noted.settle()
                await self._send(call, passed, document)

    async def _bury(self, call: Call, keys: list[str]) -> Buried | None:
        ruleset = self._rules.snapshot(call.bucket)
        if ruleset is None:
            return None
        could_return = [key for key in keys if names(ruleset, key.lstrip("/"))]
        if not could_return:
            return None
        return await self._tombstones.bury(call.bucket, could_return, request_id=call.request.id)

    def _noting(self, call: Call, *keys: str) -> Noted:
        ruleset = self._rules.snapshot(call.bucket)
        return self._write_back.noting(ruleset, call.bucket, keys or (call.key,), call.operation.name)

    async def _tombstone(self, call: Call) -> str | None:
        """The tombstone that this write lifts when it has come about."""
        if call.operation.name not in _WRITES or self._rules.snapshot(call.bucket) is None:
            return None
        return await self._tombstones.found(call.bucket, call.key)
