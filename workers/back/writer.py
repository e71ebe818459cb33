"""What changes an object of an origin: written whole or in parts, tagged, deleted.

Owns the S3 requests of it and their order; a write in parts that fails is aborted. Must not know the store.
"""

from __future__ import annotations

import base64
from hashlib import md5, sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import quote
from xml.sax.saxutils import escape

from workers.errors import OriginError, OriginMalformed, OriginStatus, TransferError
from workers.store.model import StoreAnswer
from workers.store.wire.answers import error_code, field, object_info, parse, unquote_etag

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from workers.back.wire import OriginWire
    from workers.back_routes import BackRoute
    from workers.store.model import ObjectInfo

Tags = tuple[tuple[str, str], ...]
_MISSING: Final = frozenset({404})


class OriginWriter:
    """Writes to origins that are buckets; keys are the store's, the route tells where they lie."""

    def __init__(self, wire: OriginWire) -> None:
        self.wire = wire

    async def head(self, route: BackRoute, key: str) -> ObjectInfo | None:
        """The record of the object; None when there is none. Raises as `OriginWire.ask`, like all here."""
        answer = await self.wire.ask(route, "HEAD", route.path(key), accept=_MISSING)
        return None if answer.status == 404 else object_info(key, answer.headers.items())

    async def put(
        self, route: BackRoute, key: str, body: bytes, headers: Mapping[str, str], tags: Tags
    ) -> None:
        """Write it in one request; the origin compares the bytes with their MD5 before it takes them."""
        await self.wire.ask(
            route,
            "PUT",
            route.path(key),
            headers={**headers, **_tagging(tags), "content-md5": _md5(body)},
            body=body,
            payload_sha256=sha256(body).hexdigest(),
        )

    async def put_parts(
        self,
        route: BackRoute,
        key: str,
        parts: AsyncIterator[bytes],
        headers: Mapping[str, str],
        tags: Tags,
    ) -> None:
        """Write it in parts, each compared with its MD5; nothing is left of one that fails."""
        path = route.path(key)
        answer = await self.wire.ask(
            route, "POST", path, query=[("uploads", "")], headers={**headers, **_tagging(tags)}, body=b""
        )
        upload = self._field(answer.body, "UploadId", route)
        try:
            sent: list[str] = []
            async for part in parts:
                put = await self.wire.ask(
                    route,
                    "PUT",
                    path,
                    query=[("partNumber", str(len(sent) + 1)), ("uploadId", upload)],
                    headers={"content-md5": _md5(part)},
                    body=part,
                    payload_sha256=sha256(part).hexdigest(),
                )
                sent.append(unquote_etag(put.headers.get("ETag", "")))
            document = _complete(sent)
            done = await self.wire.ask(
                route,
                "POST",
                path,
                query=[("uploadId", upload)],
                headers={"content-type": "application/xml"},
                body=document,
                payload_sha256=sha256(document).hexdigest(),
            )
            code, message = error_code(done.body)
            if code:
                host = route.origin.host
                raise OriginStatus(f"{host}: {path!r}: {code}: {message[:200]}", origin=host, status=500)
        except BaseException:
            await self._abort(route, path, upload)
            raise

    async def _abort(self, route: BackRoute, path: str, upload: str) -> None:
        try:
            await self.wire.ask(route, "DELETE", path, query=[("uploadId", upload)], accept=_MISSING)
        except TransferError as error:
            # The failure that led here is the one that counts; the bucket's own rules end old uploads.
            error.add_note("while a write in parts was aborted")

    async def tag(self, route: BackRoute, key: str, tags: Tags) -> None:
        """Give it exactly these tags."""
        path = route.path(key)
        if not tags:
            await self.wire.ask(route, "DELETE", path, query=[("tagging", "")], accept=_MISSING)
            return
        pairs = "".join(
            f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>" for name, value in tags
        )
        body = f"<Tagging><TagSet>{pairs}</TagSet></Tagging>".encode()
        await self.wire.ask(
            route,
            "PUT",
            path,
            query=[("tagging", "")],
            headers={"content-md5": _md5(body), "content-type": "application/xml"},
            body=body,
            payload_sha256=sha256(body).hexdigest(),
        )

    async def delete(self, route: BackRoute, key: str) -> None:
        """Remove it; one that is not there is no error."""
        await self.wire.ask(route, "DELETE", route.path(key), accept=_MISSING)

    @staticmethod
    def _field(body: bytes, name: str, route: BackRoute) -> str:
        host = route.origin.host
        try:
            found = field(parse(StoreAnswer(status=200, headers={}, body=body), what=host), name)
        except TransferError as error:
            raise OriginMalformed(f"{host}: {error}", origin=host) from error
        if not found:
            raise OriginMalformed(f"{host}: no {name} in the answer", origin=host)
        return found


def is_refusal(error: OriginError) -> bool:
    """Whether the origin has refused this very write, so that trying it again is of little use."""
    status = error.status
    waits = status is None or status >= 500 or status == 429
    return not error.health_failure and (not waits or status in {501, 505})


def _md5(body: bytes) -> str:
    return base64.b64encode(md5(body).digest()).decode()


def _tagging(tags: Tags) -> dict[str, str]:
    if not tags:
        return {}
    return {
        "x-amz-tagging": "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in tags)
    }


def _complete(etags: Sequence[str]) -> bytes:
    lines = ['<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">']
    lines += [
        f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{escape(etag)}&quot;</ETag></Part>"
        for number, etag in enumerate(etags, start=1)
    ]
    return "".join([*lines, "</CompleteMultipartUpload>"]).encode()
