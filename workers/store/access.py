"""Plain requests about one object or bucket, and what they share: connection, headers, memory.

Owns the requests that any part of the room may make. Must not know how an object is uploaded (`write`) or
what is proved (`probe`): these are written in terms of this class, `client` joins them.
"""

from __future__ import annotations

import asyncio
import base64
import io
from hashlib import md5
from typing import TYPE_CHECKING, Any, Final, Self

import structlog

from workers.errors import ConfigError, KeyNotRepresentable, StoreDenied, StoreError, StoreUnavailable
from workers.store.listing import list_objects
from workers.store.memory import MemoryBudget
from workers.store.metadata import KEY_SHA256
from workers.store.model import StoreAnswer
from workers.store.part_turns import PartTurns
from workers.store.wire.answers import failure, object_info
from workers.store.wire.held_back import HeldBack
from workers.store.wire.lean import MAX_REQUEST_BYTES
from workers.store.wire.passed import PassedAnswer
from workers.store.wire.response import StoreResponse
from workers.store.wire.signing import EMPTY_SHA256, sha256_hex
from workers.store.wire.standing_headers import creation_headers, customer_headers, owner_headers
from workers.store.wire.streamed import Whole, ends_visibly
from workers.store.wire.transport import TRANSLATED, Transport, unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
    from pathlib import Path

    from workers.settings import LimitSettings, StoreSettings
    from workers.store.guarantees import StoreGuarantees
    from workers.store.journal import UploadJournal
    from workers.store.model import ListPage, ObjectInfo

log = structlog.get_logger(__name__)

#: Statuses of a GET that the caller interprets.
_GET_STATUSES: Final = frozenset({200, 206, 304, 404, 412, 416})
#: Of these, the ones with bytes of an object.
_WITH_BODY: Final = frozenset({200, 206})


class StoreAccess:
    """The destination as single requests; use as an async context. For the arguments see `ObjectStore`."""

    #: Where open multipart uploads are noted; whoever uploads sets it.
    journal: UploadJournal

    def __init__(
        self,
        settings: StoreSettings,
        limits: LimitSettings,
        *,
        spool_dir: Path | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.settings = settings
        self.limits = limits
        #: Shared by all transfers of the process. A part is an eighth at most; one is left for who has begun.
        self.memory = MemoryBudget(limits.memory_bytes, kept_bytes=limits.memory_bytes // 8)
        self.spool = MemoryBudget(limits.spool_bytes)
        #: Of all objects of the process that go in parts.
        self.part_turns = PartTurns(settings.part_concurrency)
        self.spool_dir = spool_dir
        self.transport = Transport(settings, sleep=sleep)
        self.sleep = sleep
        self._guarantees: dict[str, StoreGuarantees] = {}
        #: Sent with every request; with every one about an object's bytes; with those that create an object.
        self.common_headers = owner_headers(settings)
        self.read_headers = {**self.common_headers, **customer_headers(settings)}
        self.create_headers = {**self.read_headers, **creation_headers(settings)}

    async def __aenter__(self) -> Self:
        await self.transport.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.close()

    # ------------------------------------------------------------------ reading

    async def head(self, bucket: str, key: str) -> ObjectInfo | None:
        """The record of an object; None when there is none.

        Raises:
            StoreDenied, StoreUnavailable, StoreThrottled, StoreRejected: it could not be found out.
        """
        answer = await self.transport.exchange(
            "HEAD",
            bucket,
            key,
            headers=self.read_headers,
            accept=frozenset({404}),
        )
        if answer.status == 404:
            return None
        info = object_info(key, answer.headers.items())
        return info if self._is_its_own(bucket, key, info) else None

    def _is_its_own(self, bucket: str, key: str, info: ObjectInfo) -> bool:
        """Whether a record is that of the very key, where the store is known to confuse such keys (S17)."""
        known = self._guarantees.get(bucket)
        if known is None or not known.confuses(key):
            return True
        content_type = next((value for name, value in info.headers if name.lower() == "content-type"), "")
        return known.believes(
            key, theirs=info.user_meta.get(KEY_SHA256), size=info.size, content_type=content_type
        )

    async def get(self, bucket: str, key: str, *, headers: Iterable[tuple[str, str]] = ()) -> StoreResponse:
        """Ask for an object, with the caller's conditions and range; retried until the first byte.

        Raises:
            StoreError: as `head`; 404, 412, 416 and 304 are answers, not errors.
            KeyNotRepresentable: the store confuses such keys, and what it has is not this one's.
        """
        what = f"GET {bucket}/{key}"
        known = self._guarantees.get(bucket)
        if known is not None and known.confuses(key) and await self.head(bucket, key) is None:
            raise KeyNotRepresentable(f"{what}: the store has no object of this very key", status=404)
        attempt = 0
        while True:
            sent = dict(self.read_headers)
            for name, value in headers:
                sent[name.lower()] = value
            try:
                response = await self.transport.read(bucket, key, sent)
                if response.status in _GET_STATUSES:
                    if response.status in _WITH_BODY and not ends_visibly(response):
                        response.close()
                        raise StoreUnavailable(f"{what}: neither length nor chunked", status=response.status)
                    return StoreResponse(response, key, what)
                try:
                    body: bytes = await response.content.read()
                except TRANSLATED as error:
                    raise unavailable(error, what) from error
                finally:
                    response.close()
                answer = StoreAnswer(status=response.status, headers=response.headers, body=body)
                failed = failure(answer, what=what)
                self.transport.learn(failed, answer)
            except StoreUnavailable as error:
                failed = error
            await self.transport.pause(failed, attempt)
            attempt += 1

    async def pass_on(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        headers: dict[str, str],
        query: str = "",
        body: bytes | AsyncIterable[bytes] | None = None,
        length: int | None = None,
        payload_sha256: str = EMPTY_SHA256,
        about_bytes: bool = False,
        last: Callable[[], Awaitable[None]] | None = None,
    ) -> PassedAnswer:
        """Somebody else's request, signed anew, and the store's answer as it is; no retry.

        Args:
            method: HTTP method.
            bucket: empty for the service itself.
            key: empty for the bucket itself.
            headers: lower-case names, without length, host and signature.
            query: encoded, in canonical order.
            body: bytes, or what yields exactly `length` of them; its exception breaks the request off.
            length: bytes of a body that streams.
            payload_sha256: of the body, in hex, or `UNSIGNED`.
            about_bytes: whether it reads or writes an object's bytes, which `store.sse: customer` encrypts.
            last: awaited before the store has all of the request: before its last byte where it is short,
                before its last piece where it streams, and there before the first one, too, because nobody
                sends gigabytes in vain. What it raises breaks the request off.

        Raises:
            StoreUnavailable: no connection, no answer in time, or a broken one.
        """
        what = f"{method} {bucket}/{key}"
        sent = {**(self.read_headers if about_bytes else self.common_headers), **headers}
        if body is None and last is not None:
            body = b""
        if isinstance(body, bytes) and len(body) <= MAX_REQUEST_BYTES and method in {"PUT", "DELETE"}:
            answer = await self.transport.once(
                method,
                bucket,
                key,
                headers=sent,
                query=query,
                body=body,
                payload_sha256=payload_sha256,
                last=last,
            )
            return PassedAnswer(answer.status, [*answer.headers.items()], Whole(answer.body), what=what)
        if isinstance(body, bytes):
            sent["content-length"] = str(len(body))
        elif length is not None:
            sent["content-length"] = str(length)
        # As a file, because aiohttp warns of long bytes.
        streamed: Any = io.BytesIO(body) if isinstance(body, bytes) else body
        if last is not None:
            await last()
            streamed = HeldBack(body or b"", last)
        try:
            opened = await self.transport.stream(
                method, bucket, key, headers=sent, query=query, body=streamed, payload_sha256=payload_sha256
            )
        except StoreUnavailable:
            if isinstance(streamed, HeldBack) and streamed.failure is not None:
                raise streamed.failure from None
            raise
        if method != "HEAD" and opened.status not in {204, 304} and not ends_visibly(opened):
            opened.close()
            raise StoreUnavailable(f"{what}: neither length nor chunked", status=opened.status)
        return PassedAnswer(opened.status, [*opened.headers.items()], opened, what=what)

    def presign_get(
        self,
        bucket: str,
        key: str,
        *,
        expires_s: int,
        params: Mapping[str, str] | None = None,
    ) -> str:
        """A URL that lets anybody read one object for `expires_s` seconds; `params` such as `response-…`."""
        return self.transport.presign("GET", bucket, key, (params or {}).items(), expires_s)

    async def list(
        self,
        bucket: str,
        prefix: str = "",
        *,
        continuation: str | None = None,
        start_after: str | None = None,
    ) -> AsyncIterator[ListPage]:
        """Every page of a listing, from its beginning or from a continuation token.

        Raises:
            StoreError: a page could not be read; a listing that ends did end.
        """
        known = self._guarantees.get(bucket)
        async for page in list_objects(
            self.transport,
            bucket,
            prefix,
            continuation=continuation,
            start_after=start_after,
            headers=self.common_headers,
            plus_is_space=known is None or known.plus_is_space,
        ):
            yield page

    # ------------------------------------------------------------------ writing

    async def put_small(self, bucket: str, key: str, body: bytes, *, content_type: str) -> None:
        """Write or overwrite an object of our own, such as a report under `.ferryman/`."""
        await self.transport.exchange(
            "PUT",
            bucket,
            key,
            headers={
                **self.create_headers,
                "content-type": content_type,
                "content-md5": base64.b64encode(md5(body).digest()).decode(),
            },
            body=body,
            payload_sha256=sha256_hex(body),
        )

    async def delete(self, bucket: str, key: str, *, version: str = "") -> None:
        """Remove an object, or one version of it; one that is not there is no error."""
        await self.transport.exchange(
            "DELETE",
            bucket,
            key,
            headers=self.common_headers,
            query=[("versionId", version)] if version else (),
            accept=frozenset({404}),
        )

    async def ensure_bucket(self, bucket: str) -> None:
        """See that the bucket is there, and create it when the configuration allows.

        Raises:
            StoreRejected: it is not there and may not be created, or the name is refused.
        """
        answer = await self.transport.exchange(
            "HEAD",
            bucket,
            headers=self.common_headers,
            accept=frozenset({403, 404}),
        )
        if answer.status == 404 and not self.settings.create_buckets:
            raise ConfigError(f"store: bucket {bucket!r} does not exist and create_buckets is off")
        if answer.status == 403:
            log.warning("bucket_head_denied", bucket=bucket)
        if answer.status != 404:
            return
        body = b""
        if self.settings.region != "us-east-1":
            body = (
                '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>'
                f"{self.settings.region}</LocationConstraint></CreateBucketConfiguration>"
            ).encode()
        created = await self.transport.exchange(
            "PUT",
            bucket,
            body=body or None,
            payload_sha256=sha256_hex(body),
            accept=frozenset({409}),
        )
        if created.status == 409 and b"BucketAlreadyOwnedByYou" not in created.body:
            # Somebody else's, or ours from a race that this store words differently: the next HEAD tells.
            if await self._bucket_status(bucket) >= 300:
                raise failure(created, what=f"PUT {bucket}")
            return
        log.info("bucket_created", bucket=bucket)

    async def _bucket_status(self, bucket: str) -> int:
        try:
            answer = await self.transport.exchange("HEAD", bucket, headers=self.common_headers)
        except StoreDenied:
            return 403
        except StoreError as error:
            return error.status or 500
        return answer.status

    # ------------------------------------------------------------------ what was learnt

    def known(self, bucket: str) -> StoreGuarantees | None:
        """What was learnt about the bucket in this process; None before the first `guarantees`."""
        return self._guarantees.get(bucket)

    def assume(self, bucket: str, guarantees: StoreGuarantees) -> None:
        """Take findings as known, such as those of another process of this start."""
        self._guarantees[bucket] = guarantees
        for line in guarantees.warnings():
            log.warning("store_guarantee", bucket=bucket, warning=line)
