"""What becomes of an allowed call: read, written, deleted, listed, or passed on.

Owns the way of each kind of operation to the store and back. A plain read of a key that the store lacks goes
back to the gateway (`Miss`), which knows rules and origins; all else is the store's answer as it is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from lxml import etree

from scheduler.front.http import s3_error
from scheduler.front.http.conditional import Validators, precondition_holds
from scheduler.front.http.s3_error import S3Error
from scheduler.front.s3.body import ClientBody
from scheduler.front.s3.call import RESERVED, Refused
from scheduler.front.s3.headers import (
    copy_source,
    for_client,
    for_store,
    spelled_source,
    without_chunks,
)
from scheduler.front.s3.listing import deleted_keys, may_name_own, only_buckets, refused_keys, without_own
from scheduler.front.s3.operation import COPIES
from scheduler.front.s3.tombstones import Buried, Tombstones
from scheduler.front.s3.write_back import WriteBack
from scheduler.rules.keys import is_reserved
from scheduler.rules.matching import names
from workers.errors import StoreError
from workers.ledger.back import DELETED, NOTHING, WRITTEN
from workers.store.metadata import SOURCE_ETAG, decode_value
from workers.store.wire.lean import MAX_REQUEST_BYTES
from workers.store.wire.signing import UNSIGNED, sha256_hex

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from scheduler.config.settings import Settings
    from scheduler.front.http.answer import Answer
    from scheduler.front.http.request import Request
    from scheduler.front.s3.call import Call
    from scheduler.front.s3.permission import Grants
    from scheduler.front.s3.write_back import Bringer, Noted
    from scheduler.rules.in_force.repository import RulesRepository
    from workers.ledger.ledger import Ledger
    from workers.store.client import ObjectStore
    from workers.store.wire.passed import PassedAnswer

log = structlog.get_logger()

#: Longest document of a call (an XML body): 10,000 parts with their checksums take about 3 MB.
MAX_DOCUMENT_BYTES: Final = 8 * 1024 * 1024
#: Longest listing that is looked through for keys of our own; a thousand keys take about 1 MB.
_MAX_LISTING_BYTES: Final = 32 * 1024 * 1024
#: What of an answer is looked at for an error behind its status.
_LOOKED_AT_BYTES: Final = 64 * 1024
#: Of these the status does not say whether they came about: the body can hold an error.
_ERROR_INSIDE: Final = frozenset({"CopyObject", "CompleteMultipartUpload"})
_WRITES: Final = frozenset({"PutObject", "CopyObject", "CompleteMultipartUpload"})
_BYTES: Final = frozenset({"GetObject", "HeadObject", "PutObject", "UploadPart", "CreateMultipartUpload"})


class S3Services(Protocol):
    """What of `scheduler.runtime.Services` is needed here."""

    @property
    def settings(self) -> Settings: ...
    @property
    def store(self) -> ObjectStore: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def rules(self) -> RulesRepository: ...
    @property
    def back(self) -> Bringer: ...


class Miss(Protocol):
    """The gateway's way with a key that the store lacks."""

    async def answer_miss(
        self, request: Request, answer: Answer, bucket: str, key: str, *, status: int, looked_at: float
    ) -> bool:
        """Whether a rule answered."""

    async def pull_source(self, request: Request, bucket: str, key: str) -> None:
        """Bring a key from its origin, if a rule has one for it and the store lacks it."""


class Calls:
    """Answers calls over one store."""

    def __init__(self, services: S3Services, grants: Grants, miss: Miss) -> None:
        settings = services.settings
        self._settings = settings
        self._store = services.store
        self._rules = services.rules
        self._miss = miss
        self._grants = grants
        self._write_back = WriteBack(services.ledger.back, services.back)
        self._tombstones = Tombstones(services.ledger.claims, wait_s=settings.gateway.herd_wait_s)

    async def answer(self, call: Call) -> None:
        """Answer one call.

        Raises:
            Refused, BodyRefused, NotBuried, StoreError: before the answer has begun, it is not done.
        """
        asked = call.operation
        self._refuse_confused(call)
        if asked.is_plain_read:
            await self._read(call)
        elif asked.name in COPIES:
            await self._copy(call)
        elif asked.streams:
            await self._upload(call)
        elif asked.lists and call.request.method == "GET":
            await self._list(call)
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

    def _refuse_confused(self, call: Call, *keys: str) -> None:
        """A write to a key that the store takes for another one would change that one (S17)."""
        known = self._store.known(call.bucket)
        method = call.request.method
        if known is None or method in {"GET", "HEAD"}:
            return
        empty = method == "DELETE" or bool(keys)
        empty = empty or (method == "PUT" and call.request.by_name.get("content-length", "0") == "0")
        for key in keys or (call.key,):
            refusal = known.refuses(key, 0 if empty else 1) if known.confuses(key) else None
            if refusal is not None:
                message = f"The store cannot hold the key {key!r} as itself: {refusal}."
                raise Refused(S3Error(status=400, code="InvalidArgument", message=message))

    # ------------------------------------------------------------ reading

    async def _read(self, call: Call) -> None:
        request, answer = call.request, call.answer
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        known = self._store.known(call.bucket)
        if known is not None and known.confuses(call.key) and await self._is_anothers(call):
            if await self._miss.answer_miss(
                request, answer, call.bucket, call.key, status=404, looked_at=looked_at
            ):
                return
            raise Refused(s3_error.NO_SUCH_KEY)
        try:
            async with asyncio.timeout(self._settings.gateway.lookup_s):
                passed = await self._pass(call, for_store(call.headers))
        except TimeoutError:
            raise Refused(s3_error.SERVICE_UNAVAILABLE, headers=((b"retry-after", b"2"),)) from None
        if passed.status == 412 and "if-match" in dict(call.headers):
            passed = await self._as_of_the_origin(call, passed)
        async with passed:
            back = (passed.status in {403, 404} or passed.status >= 500) and not call.parameters.keys() & {
                "versionId",
                "partNumber",
            }
            if back and passed.header("x-amz-delete-marker") != "true":
                body = await passed.read()
                if await self._miss.answer_miss(
                    request, answer, call.bucket, call.key, status=passed.status, looked_at=looked_at
                ):
                    return
                await self._send(call, passed, body)
                return
            await self._send(call, passed)

    async def _is_anothers(self, call: Call) -> bool:
        """Whether the store has nothing of this very key, whatever it would give for it."""
        async with asyncio.timeout(self._settings.gateway.lookup_s):
            return await self._store.head(call.bucket, call.key) is None

    async def _as_of_the_origin(self, call: Call, refused: PassedAnswer) -> PassedAnswer:
        """The object for a client that knows it by the origin's ETag, from before it was in the store.

        Clients read a large object in ranges under the ETag of their HEAD; it arrives in between.
        """
        info = await self._store.head(call.bucket, call.key)
        source = None if info is None else info.user_meta.get(SOURCE_ETAG)
        if info is None or source is None:
            return refused
        headers = dict(call.headers)
        if not precondition_holds(headers, Validators(etag=decode_value(source))):
            return refused
        async with refused:
            await refused.read()
        headers["if-match"] = f'"{info.etag}"'
        return await self._pass(call, for_store(headers.items()))

    # ------------------------------------------------------------ writing

    async def _upload(self, call: Call) -> None:
        body = self._body(call)
        headers = for_store(call.headers)
        async with self._noting(call) as noted:
            mark = await self._tombstone(call)
            if body.length <= MAX_REQUEST_BYTES:
                whole = await body.whole()
                if body.is_chunked:
                    without_chunks(headers, body.trailers)
                noted.asking()
                passed = await self._pass(call, headers, whole, payload=body.sha256 or sha256_hex(whole))
            else:
                if body.is_chunked:
                    without_chunks(headers, {})
                noted.asking()
                try:
                    passed = await self._pass(
                        call, headers, body, length=body.length, payload=body.sha256 or UNSIGNED
                    )
                except StoreError:
                    if body.failure is not None:
                        raise body.failure from None
                    raise
            async with passed:
                await self._written(call, passed, mark, noted, unread=not body.ended)

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
        async with self._noting(call) as noted:
            mark = await self._tombstone(call)
            noted.asking()
            async with await self._pass(call, headers, b"") as passed:
                await self._written(call, passed, mark, noted)

    async def _document(self, call: Call) -> None:
        """Any call whose body is a small document, or nothing."""
        async with self._noting(call) as noted:
            mark = await self._tombstone(call)
            headers = for_store(call.headers)
            body = await self._whole(call, headers)
            noted.asking()
            async with await self._pass(call, headers, body) as passed:
                await self._written(call, passed, mark, noted)

    async def _written(
        self, call: Call, passed: PassedAnswer, mark: str | None, noted: Noted, *, unread: bool = False
    ) -> None:
        """Send the answer to a write; the tombstone that was there before goes where it came about."""
        if passed.status >= 300:
            noted.came(NOTHING if passed.status < 500 else WRITTEN)
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
            noted.asking()
            # When the store does not answer nobody knows whether it has heard of it: the tombstone stays, and
            # the client tries again.
            async with await self._pass(call, headers, body) as passed:
                document = None
                refused: Collection[str] = keys if passed.status >= 300 else ()
                if call.operation.name == "DeleteObjects":
                    document = await passed.read()
                    refused = refused or refused_keys(document)
                elif passed.status == 404:
                    refused = ()
                if buried is not None:
                    if refused:
                        await self._tombstones.take_back(buried, refused)
                    if len(refused) < len(keys):
                        await self._tombstones.keep(buried)
                noted.came(DELETED)
                noted.came(NOTHING if passed.status < 500 else WRITTEN, refused)
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

    # ------------------------------------------------------------ listing

    async def _list(self, call: Call) -> None:
        async with await self._pass(call, for_store(call.headers)) as passed:
            buckets = call.operation.name == "ListBuckets"
            if passed.status != 200 or not (buckets or may_name_own(call.parameters.get("prefix", ""))):
                await self._send(call, passed)
                return
            document = b""
            async for chunk in passed.chunks():
                document += chunk
                if len(document) > _MAX_LISTING_BYTES:
                    raise Refused(s3_error.INTERNAL_ERROR)
            try:
                if buckets:
                    document = only_buckets(document, lambda name: self._grants.sees(call.key_id, name))
                else:
                    document = without_own(document)
            except etree.XMLSyntaxError as error:
                raise Refused(s3_error.INTERNAL_ERROR) from error
            await self._send(call, passed, document)

    # ------------------------------------------------------------ to the store and back

    def _body(self, call: Call) -> ClientBody:
        return ClientBody(
            dict(call.headers),
            call.signature,
            call.receive,
            stall_s=self._settings.gateway.client_stall_s,
            digests=call.operation.name != "CompleteMultipartUpload",
        )

    async def _whole(self, call: Call, headers: dict[str, str]) -> bytes | None:
        """A document's bytes, verified; None where there is no body at all."""
        body = self._body(call)
        if body.length > MAX_DOCUMENT_BYTES:
            raise Refused(
                S3Error(
                    status=400,
                    code="MaxMessageLengthExceeded",
                    message=f"The document of a request has at most {MAX_DOCUMENT_BYTES} bytes.",
                )
            )
        whole = await body.whole()
        if body.is_chunked:
            without_chunks(headers, body.trailers)
        return None if not whole and call.request.method in {"GET", "HEAD", "DELETE"} else whole

    async def _pass(
        self,
        call: Call,
        headers: dict[str, str],
        body: bytes | ClientBody | None = None,
        *,
        length: int | None = None,
        payload: str = "",
    ) -> PassedAnswer:
        return await self._store.pass_on(
            call.request.method,
            call.bucket,
            call.key,
            headers=headers,
            query=call.query,
            body=body,
            length=length,
            payload_sha256=payload or sha256_hex(body if isinstance(body, bytes) else b""),
            about_bytes=call.operation.name in _BYTES,
        )

    async def _send(
        self,
        call: Call,
        passed: PassedAnswer,
        body: bytes | None = None,
        *,
        unread: bool = False,
        seen: bytearray | None = None,
    ) -> None:
        """The store's answer as it is; `body` where it was read or changed, `seen` takes its beginning."""
        answer, status = call.answer, passed.status
        headers = for_client(passed.headers, show_own=self._settings.gateway.show_own_metadata)
        if unread:
            headers.append((b"connection", b"close"))
        said = passed.header("content-length")
        length = int(said) if said is not None and said.isdecimal() else None
        if call.request.method == "HEAD":
            await answer.head(status, headers, length=length)
        elif status in {204, 304}:
            await answer.whole(status, headers)
        elif body is not None:
            await answer.whole(status, headers, body)
        else:
            await answer.stream(status, headers, _noting(passed, seen), length=length)


async def _noting(passed: PassedAnswer, seen: bytearray | None) -> AsyncIterator[bytes]:
    async for chunk in passed.chunks():
        if seen is not None and len(seen) < _LOOKED_AT_BYTES:
            seen += chunk
        yield chunk
