"""A file whose length nobody told on its way to the store, verified before anything is committed.

Owns the two ways: one PUT of what fits `PIECE_BYTES`, else a multipart upload of pieces of that size, one in
memory at a time, which is completed only when the whole form was right and aborted in every other case.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote
from xml.sax.saxutils import escape

import structlog
from lxml import etree

from scheduler.front.http.s3_error import S3Error
from scheduler.front.s3.call import Refused
from scheduler.front.s3.payload import CHECKSUM, Promises
from workers.errors import StoreError, described
from workers.store.wire.passed import PassedAnswer
from workers.store.wire.signing import sha256_hex
from workers.store.wire.streamed import Whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from scheduler.front.s3.form.policy import Policy
    from scheduler.front.s3.form.reader import FormReader
    from workers.store.client import ObjectStore

log = structlog.get_logger()

#: Bytes of a file that are in memory at once.
PIECE_BYTES: Final = 8 * 1024 * 1024
_PARSER: Final = etree.XMLParser(resolve_entities=False, no_network=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormFile:
    """A form that is permitted: where its file goes."""

    bucket: str
    key: str
    #: Of the object, as they go to the store.
    headers: Mapping[str, str]
    #: By lower-case name, with their variables filled in.
    fields: Mapping[str, str]
    policy: Policy
    reader: FormReader
    #: The bucket's URL as the client knows it, with a slash behind it.
    base: str


async def store_file(
    store: ObjectStore, file: FormFile, asking: Callable[[], Awaitable[None]]
) -> PassedAnswer:
    """Store the file; the store's answer, with the object's ETag where it was taken.

    `asking` is awaited before the store may change the object; what it raises ends the call before that.

    Raises:
        Refused, BodyRefused: the file is not what policy and fields promise; nothing was stored.
        ClientGone: the client left in the middle; nothing was stored.
        StoreError: the store does not answer.
    """
    pieces = _pieces(file)
    first, is_whole = await anext(pieces)
    if is_whole:
        await asking()
        headers = dict(file.headers)
        async with await _send(store, file, "PUT", headers=headers, body=first) as passed:
            return await _read(passed)
    return await _Upload(store, file).run(first, pieces, asking)


async def _pieces(file: FormFile) -> AsyncIterator[tuple[bytes, bool]]:
    """The file in pieces of `PIECE_BYTES`, each with whether it is the last one.

    That one may be shorter, and is given only when all of the file is right.
    """
    promises = Promises(file.headers, payload="", length=None)
    held, n_bytes = bytearray(), 0
    async for data in file.reader.file():
        n_bytes += len(data)
        if file.policy.most_bytes is not None and n_bytes > file.policy.most_bytes:
            raise _wrong_size("EntityTooLarge", f"more than the {file.policy.most_bytes}")
        promises.feed(data)
        held += data
        while len(held) > PIECE_BYTES:
            yield bytes(memoryview(held)[:PIECE_BYTES]), False
            del held[:PIECE_BYTES]
    if file.policy.least_bytes is not None and n_bytes < file.policy.least_bytes:
        raise _wrong_size("EntityTooSmall", f"fewer than the {file.policy.least_bytes}")
    promises.finish()
    yield bytes(held), True


def _wrong_size(code: str, what: str) -> Refused:
    message = f"Your proposed upload has {what} bytes that the policy permits."
    return Refused(S3Error(status=400, code=code, message=message))


class _Upload:
    """One multipart upload of a file."""

    def __init__(self, store: ObjectStore, file: FormFile) -> None:
        self._store = store
        self._file = file
        self._etags: list[str] = []

    async def run(
        self, first: bytes, rest: AsyncIterator[tuple[bytes, bool]], asking: Callable[[], Awaitable[None]]
    ) -> PassedAnswer:
        # A checksum of the whole is none of its parts'; it is compared here.
        headers = {n: v for n, v in self._file.headers.items() if not n.startswith(CHECKSUM)}
        begun = await self._ask("POST", "uploads=", headers=headers)
        upload_id = _field(await begun.read(), "UploadId") if begun.status < 300 else ""
        if not upload_id:
            return begun
        query = f"uploadId={quote(upload_id, safe='')}"
        try:
            refused = await self._part(query, first)
            del first
            while refused is None and (found := await anext(rest, None)) is not None:
                refused = await self._part(query, found[0])
            if refused is not None:
                return refused
            await asking()
            done = await self._ask("POST", query, body=self._parts())
            etag = _field(await done.read(), "ETag") if done.status < 300 else ""
            if not etag:
                status = done.status if done.status >= 300 else 500
                return PassedAnswer(status, done.headers, Whole(await done.read()), what="form")
            query = ""
            kept = [(name, value) for name, value in done.headers if name.lower() != "etag"]
            return PassedAnswer(done.status, [*kept, ("etag", etag)], Whole(b""), what="form")
        finally:
            if query:
                await asyncio.shield(self._abort(query))

    async def _part(self, query: str, piece: bytes) -> PassedAnswer | None:
        """Send a part; the store's refusal where it is one."""
        number = len(self._etags) + 1
        answer = await self._ask("PUT", f"partNumber={number}&{query}", body=piece)
        etag = answer.header("etag")
        if answer.status >= 300 or etag is None:
            return answer
        self._etags.append(etag)
        return None

    def _parts(self) -> bytes:
        parts = (
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
            for number, etag in enumerate(self._etags, 1)
        )
        return f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()

    async def _abort(self, query: str) -> None:
        try:
            await self._ask("DELETE", query)
        except StoreError as error:
            log.warning("upload_left", bucket=self._file.bucket, key=self._file.key, error=described(error))

    async def _ask(
        self, method: str, query: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> PassedAnswer:
        async with await _send(
            self._store, self._file, method, query=query, headers=headers, body=body
        ) as passed:
            return await _read(passed)


async def _send(
    store: ObjectStore,
    file: FormFile,
    method: str,
    *,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> PassedAnswer:
    return await store.pass_on(
        method,
        file.bucket,
        file.key,
        headers=dict(headers or {}),
        query=query,
        body=body,
        payload_sha256=sha256_hex(body),
        about_bytes=method == "PUT" or query == "uploads=",
    )


async def _read(passed: PassedAnswer) -> PassedAnswer:
    return PassedAnswer(passed.status, passed.headers, Whole(await passed.read()), what="form")


def _field(document: bytes, name: str) -> str:
    """The text of a child of the root; empty when there is none, or the document is an error."""
    try:
        root = etree.fromstring(document.strip(), _PARSER)
    except etree.XMLSyntaxError:
        return ""
    return root.findtext(f"{{*}}{name}") or ""
