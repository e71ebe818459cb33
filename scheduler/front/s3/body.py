"""A client's body on its way to the store: read with back-pressure, verified, the end kept back.

Owns reading from the client: how long it may stall, what it means that it left, and that nothing of a wrong
body's last bytes is handed on. Must not know where the bytes go.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from scheduler.front.http import s3_error
from scheduler.front.http.answer import ClientGone
from scheduler.front.s3.chunked import ChunkKeys, Unchunker
from scheduler.front.s3.payload import BodyRefused, Promises, incomplete

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from scheduler.front.auth import BodySignature

    Receive = Callable[[], Awaitable[Mapping[str, Any]]]

_SIGNED: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_SIGNED_TRAILER: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
_UNSIGNED_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_HEX: Final = frozenset("0123456789abcdef")


class ClientBody:
    """The body of one request; read it once.

    Args:
        headers: of the request, by lower-case name.
        signature: what a version 4 signature says of the body; None for version 2.
        receive: the ASGI call.
        stall_s: seconds without a byte after which the client is given up.
        digests: as for `Promises`.

    Raises:
        BodyRefused: 411 MissingContentLength, 501 NotImplemented, or what `Promises` raises.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        signature: BodySignature | None,
        receive: Receive,
        *,
        stall_s: float,
        digests: bool = True,
    ) -> None:
        self._receive = receive
        self._stall_s = stall_s
        payload = "" if signature is None else signature.payload
        announced = [part.strip() for part in headers.get("x-amz-trailer", "").lower().split(",")]
        self._unchunker = _unchunker(payload, signature, [name for name in announced if name])
        name = "content-length" if self._unchunker is None else "x-amz-decoded-content-length"
        declared = headers.get(name, "")
        if not declared and "transfer-encoding" not in headers and self._unchunker is None:
            declared = "0"
        if not declared.isdecimal() or len(declared) > 15:
            raise BodyRefused(411, "MissingContentLength", f"The header {name} is needed.")
        #: Bytes of the object.
        self.length = int(declared)
        #: SHA-256 in hex as the client signed it; empty when it signed none.
        self.sha256 = payload.lower() if len(payload) == 64 and _HEX.issuperset(payload.lower()) else ""
        if payload and not self.sha256 and self._unchunker is None and payload != "UNSIGNED-PAYLOAD":
            raise BodyRefused(
                400, "InvalidArgument", "x-amz-content-sha256 is neither a SHA-256 nor a word that S3 knows."
            )
        self._promises = Promises(headers, payload=payload, length=self.length, digests=digests)
        if self._unchunker is not None:
            self._promises.announce(announced)
        #: Why the body cannot be handed on, once that is known.
        self.failure: Exception | None = None
        #: Whether bytes were asked of the client, and whether all have come.
        self.began = False
        self.ended = False

    @property
    def is_chunked(self) -> bool:
        """Whether it comes `aws-chunked`."""
        return self._unchunker is not None

    @property
    def trailers(self) -> Mapping[str, str]:
        """Verified trailers, once the body has ended."""
        return {} if self._unchunker is None else self._unchunker.trailers

    async def whole(self) -> bytes:
        """All of the body; whoever asks has looked at `length`."""
        return b"".join([piece async for piece in self.pieces()])

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.pieces()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The object's bytes as they come; the last piece only when all of them are right.

        Raises:
            BodyRefused: they are not.
            ClientGone: the client left in the middle.
        """
        if self.began:
            # A connection that broke is tried again by its client library: what it took is gone.
            raise incomplete("The body was read already.")
        self.began = True
        try:
            held = b""
            async for data in self._wire():
                for piece in (data,) if self._unchunker is None else self._unchunker.feed(data):
                    self._promises.feed(piece)
                    if held:
                        yield held
                    held = piece
            if self._unchunker is not None:
                self._unchunker.finish()
            self._promises.finish(self.trailers)
            self.ended = True
            if held:
                yield held
        except (BodyRefused, ClientGone) as error:
            self.failure = error
            raise

    async def _wire(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            try:
                async with asyncio.timeout(self._stall_s):
                    message = await self._receive()
            except TimeoutError as error:
                late = s3_error.REQUEST_TIMEOUT
                raise BodyRefused(late.status, late.code, late.message) from error
            if message["type"] != "http.request":
                raise ClientGone
            more = message.get("more_body", False)
            data = message.get("body", b"")
            if data:
                yield data


def _unchunker(payload: str, signature: BodySignature | None, announced: list[str]) -> Unchunker | None:
    if signature is None or not payload.startswith("STREAMING-"):
        return None
    if payload == _UNSIGNED_TRAILER:
        return Unchunker(None, trailer=True, announced=announced)
    if payload not in {_SIGNED, _SIGNED_TRAILER}:
        raise BodyRefused(501, "NotImplemented", f"{payload[:64]} is not read here.")
    keys = ChunkKeys(
        key=signature.key, stamp=signature.stamp, scope=signature.scope, previous=signature.signature
    )
    return Unchunker(keys, trailer=bool(announced) or payload == _SIGNED_TRAILER, announced=announced)
