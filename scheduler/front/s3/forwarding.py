"""A call on its way to the store, and the store's answer on its way back.

Owns what every kind of call needs: the client's body read and verified, the request signed anew, the answer
sent as it is. Which request that is, and what is done around it, belongs to the kinds: `reading`, `calls`,
`listing`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from scheduler.front.http import s3_error
from scheduler.front.http.s3_error import S3Error
from scheduler.front.s3.body import ClientBody
from scheduler.front.s3.call import Refused
from scheduler.front.s3.headers import for_client, without_chunks
from workers.errors import StoreRejected
from workers.store.wire.signing import sha256_hex

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scheduler.config.settings import Settings
    from scheduler.front.s3.call import Call
    from scheduler.front.s3.write_back import Bringer, Noted
    from scheduler.rules.in_force.repository import RulesRepository
    from workers.ledger.ledger import Ledger
    from workers.origin.fetch.fetcher import Fetcher
    from workers.store.client import ObjectStore
    from workers.store.wire.passed import PassedAnswer

#: Longest document of a call (an XML body): 10,000 parts with their checksums take about 3 MB.
MAX_DOCUMENT_BYTES: Final = 8 * 1024 * 1024
#: What of an answer is looked at for an error behind its status.
_LOOKED_AT_BYTES: Final = 64 * 1024
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
    @property
    def fetcher(self) -> Fetcher: ...


class Forwarding:
    """Hands calls on to one store."""

    def __init__(self, services: S3Services) -> None:
        self._settings = services.settings
        self._store = services.store
        self._rules = services.rules

    async def _is_anothers(self, bucket: str, key: str) -> bool:
        """Whether the store has nothing of this very key, and would give another key's object for it (S17).

        Raises:
            Refused, StoreError: it could not be found out.
        """
        known = self._store.known(bucket)
        if known is None or not known.confuses(key):
            return False
        try:
            async with asyncio.timeout(self._settings.gateway.lookup_s):
                return await self._store.head(bucket, key) is None
        except StoreRejected:
            return True  # a key with `..`: it has nothing under such a one
        except TimeoutError:
            raise Refused(s3_error.SERVICE_UNAVAILABLE, headers=((b"retry-after", b"2"),)) from None

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
        noted: Noted | None = None,
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
            last=noted.asking if noted is not None and noted.is_needed else None,
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
        elif body is not None or (passed.is_here and seen is None):
            await answer.whole(status, headers, await passed.read() if body is None else body)
        else:
            await answer.stream(status, headers, _noting(passed, seen), length=length)


async def _noting(passed: PassedAnswer, seen: bytearray | None) -> AsyncIterator[bytes]:
    async for chunk in passed.chunks():
        if seen is not None and len(seen) < _LOOKED_AT_BYTES:
            seen += chunk
        yield chunk
