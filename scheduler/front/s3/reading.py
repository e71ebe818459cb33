"""GetObject and HeadObject: the store's object, else the origin's.

Owns when a plain read goes back to the gateway, which knows rules and origins (`Miss`): where the store lacks
the key, or what it gives is another key's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from scheduler.front.http import s3_error
from scheduler.front.http.conditional import Validators, precondition_holds
from scheduler.front.http.object_headers import with_overrides
from scheduler.front.http.s3_error import S3Error
from scheduler.front.s3.call import Refused
from scheduler.front.s3.forwarding import Forwarding
from scheduler.front.s3.headers import for_store
from workers.store.metadata import SOURCE_ETAG, decode_value

if TYPE_CHECKING:
    from scheduler.front.http.answer import Answer
    from scheduler.front.http.request import Request
    from scheduler.front.s3.call import Call
    from scheduler.front.s3.forwarding import S3Services
    from workers.store.wire.passed import PassedAnswer


class Miss(Protocol):
    """The gateway's way with a key that the store lacks."""

    async def answer_miss(
        self, request: Request, answer: Answer, bucket: str, key: str, *, status: int, looked_at: float
    ) -> bool:
        """Whether a rule answered."""

    async def pull_source(self, request: Request, bucket: str, key: str) -> None:
        """Bring a key from its origin, if a rule has one for it and the store lacks it."""


class Reading(Forwarding):
    """Answers plain reads."""

    def __init__(self, services: S3Services, miss: Miss) -> None:
        super().__init__(services)
        self._miss = miss

    async def answer(self, call: Call) -> None:
        """Answer one read.

        Raises:
            Refused, StoreError: before the answer has begun.
        """
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        if await self._is_anothers(call.bucket, call.key):
            if await self._from_origin(call, status=404, looked_at=looked_at):
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
                if await self._from_origin(call, status=passed.status, looked_at=looked_at):
                    return
                await self._send(call, passed, body)
                return
            await self._send(call, passed)

    async def _from_origin(self, call: Call, *, status: int, looked_at: float) -> bool:
        """Whether a rule answered, with the headers that the client wants to see instead of the object's."""
        replaced = with_overrides([], call.parameters.items())
        if replaced is None:
            message = "A response-… parameter holds what no header can hold."
            raise Refused(S3Error(status=400, code="InvalidArgument", message=message))
        call.answer.replaced = replaced
        answered = await self._miss.answer_miss(
            call.request, call.answer, call.bucket, call.key, status=status, looked_at=looked_at
        )
        if not answered:
            call.answer.replaced = []
        return answered

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
