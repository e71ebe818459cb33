"""A list from the store, cut down to what a client may see.

Owns which lists are looked through, and how long they may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lxml import etree

from scheduler.front.http import s3_error
from scheduler.front.s3.call import Refused
from scheduler.front.s3.forwarding import Forwarding
from scheduler.front.s3.headers import for_store
from scheduler.front.s3.listing.document import may_name_own, only_buckets, without_own
from scheduler.front.s3.listing.union import Union

if TYPE_CHECKING:
    from scheduler.front.s3.call import Call
    from scheduler.front.s3.forwarding import S3Services
    from scheduler.front.s3.permission import Grants

#: Longest listing that is looked through for keys of our own; a thousand keys take about 1 MB.
_MAX_LISTING_BYTES: Final = 32 * 1024 * 1024


class Lists(Forwarding):
    """Answers calls that list."""

    def __init__(self, services: S3Services, grants: Grants) -> None:
        super().__init__(services)
        self._grants = grants
        self._union = Union(services)

    async def answer(self, call: Call) -> None:
        """Answer one call that lists.

        Raises:
            Refused, StoreError: before the answer has begun.
        """
        if self._union.answers(call):
            await self._union.answer(call)
            return
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
