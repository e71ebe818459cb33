"""A form as it comes over the wire: its fields, then the file, which streams.

Owns the reading, with the bounds of the fields and of a client's silence; the multipart parser is aiohttp's.
Fields behind the file are passed over, as S3 does. Must not know what a field means.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import BodyPartReader, MultipartReader, hdrs
from aiohttp.http_exceptions import HttpProcessingError

from scheduler.front.http import s3_error
from scheduler.front.http.answer import ClientGone
from scheduler.front.http.s3_error import S3Error
from scheduler.front.s3.call import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiohttp import StreamReader

    from scheduler.front.s3.body import Receive

#: Bytes of all fields before the file, names and values; what S3 takes.
MAX_FIELDS_BYTES: Final = 20 * 1024
#: The same on the wire, with boundaries and headers of parts.
_MAX_HEAD_BYTES: Final = 128 * 1024
_MAX_LINE_BYTES: Final = 8190
_MAX_HEADERS: Final = 16
_FIELD_READ_BYTES: Final = 4096
_FILE_READ_BYTES: Final = 256 * 1024

_MALFORMED: Final = S3Error(
    status=400,
    code="MalformedPOSTRequest",
    message="The body of your POST request is not well-formed multipart/form-data.",
)
_FIELDS_TOO_LARGE: Final = S3Error(
    status=400,
    code="MaxPostPreDataLengthExceededError",
    message=f"The fields before the file have more than {MAX_FIELDS_BYTES} bytes.",
)
_NO_FILE: Final = S3Error(
    status=400,
    code="IncorrectNumberOfFilesInPostRequest",
    message="POST requires exactly one file upload per request: a field named 'file', behind all others.",
)


class FormReader:
    """The form of one request: `fields` first, then `file`.

    Args:
        content_type: with its boundary.
        receive: the ASGI call.
        stall_s: seconds without a byte after which the client is given up.
    """

    def __init__(self, content_type: str, receive: Receive, *, stall_s: float) -> None:
        self._wire = _Wire(receive, stall_s=stall_s)
        with _malformed():
            self._parts = MultipartReader(
                {hdrs.CONTENT_TYPE: content_type},
                cast("StreamReader", self._wire),
                max_field_size=_MAX_LINE_BYTES,
                max_headers=_MAX_HEADERS,
            )
        self._file: BodyPartReader | None = None
        #: Name of the file at the client, without a path.
        self.filename = ""

    @property
    def ended(self) -> bool:
        """Whether all of the request was read."""
        return self._wire.at_eof()

    async def fields(self) -> dict[str, str]:
        """The fields before the file, by lower-case name.

        Raises:
            Refused: 400 MalformedPOSTRequest, MaxPostPreDataLengthExceededError,
                IncorrectNumberOfFilesInPostRequest; 408 RequestTimeout.
            ClientGone: the client left.
        """
        found: dict[str, str] = {}
        left = MAX_FIELDS_BYTES
        self._wire.bound = _MAX_HEAD_BYTES
        with _malformed():
            while True:
                part = await self._parts.next()
                if part is None:
                    raise Refused(_NO_FILE)
                if not isinstance(part, BodyPartReader) or not part.name:
                    raise Refused(_MALFORMED)
                name = part.name.lower()
                if name == "file":
                    # Whatever path a client gives with it is no part of its name.
                    self.filename = (part.filename or "").replace("\\", "/").rpartition("/")[2]
                    self._file = part
                    self._wire.bound = None
                    return found
                if name in found:
                    # One value would be judged and another one used.
                    raise Refused(_repeated(name))
                value = bytearray()
                left -= len(name)
                while not part.at_eof():
                    piece = await part.read_chunk(_FIELD_READ_BYTES)
                    left -= len(piece)
                    if left < 0:
                        raise Refused(_FIELDS_TOO_LARGE)
                    value += piece
                found[name] = value.decode("utf-8")

    async def file(self) -> AsyncIterator[bytes]:
        """The file's bytes; it ends only where the form's own end was seen.

        Raises:
            Refused: 400 MalformedPOSTRequest, 408 RequestTimeout.
            ClientGone: the client left in the middle.
        """
        assert self._file is not None, "the fields were not read"
        with _malformed():
            while not self._file.at_eof():
                piece = await self._file.read_chunk(_FILE_READ_BYTES)
                if piece:
                    yield piece
            if await self._parts.next() is None:
                self._wire.require_end()
                return
        await self._wire.drain()


def _repeated(name: str) -> S3Error:
    return S3Error(status=400, code="InvalidArgument", message=f"The field {name!r} comes more than once.")


@contextlib.contextmanager
def _malformed() -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError, AssertionError, LookupError, HttpProcessingError) as error:
        raise Refused(_MALFORMED) from error


class _Wire:
    """The request's bytes as the parser asks for them: what it uses of `aiohttp.StreamReader`."""

    def __init__(self, receive: Receive, *, stall_s: float) -> None:
        self._receive = receive
        self._stall_s = stall_s
        self._buffer = b""
        self._more = True
        self._taken = 0
        #: Most bytes that may be taken; None: as many as come.
        self.bound: int | None = None

    def at_eof(self) -> bool:
        return not self._more and not self._buffer

    async def read(self, n: int = -1) -> bytes:
        """Up to `n` bytes as soon as there are some; none at the end."""
        while not self._buffer and self._more:
            await self._fill()
        return self._take(len(self._buffer) if n < 0 else n)

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        longest = max_line_length or _MAX_LINE_BYTES
        end = self._buffer.find(b"\n")
        while end < 0 and self._more:
            if len(self._buffer) > longest:
                break
            await self._fill()
            end = self._buffer.find(b"\n")
        size = end + 1 if end >= 0 else len(self._buffer)
        if size > longest + 2:
            raise Refused(_MALFORMED)
        return self._take(size)

    def unread_data(self, data: bytes) -> None:
        self._buffer = data + self._buffer
        self._taken -= len(data)

    def require_end(self) -> None:
        """Nothing but blanks may follow the form's end."""
        if self._buffer.strip():
            raise Refused(_MALFORMED)

    async def drain(self) -> None:
        """Read to the end of the request."""
        while self._more:
            self._buffer = b""
            await self._fill()
        self._buffer = b""

    def _take(self, n: int) -> bytes:
        taken, self._buffer = self._buffer[:n], self._buffer[n:]
        self._taken += len(taken)
        if self.bound is not None and self._taken > self.bound:
            raise Refused(_FIELDS_TOO_LARGE)
        return taken

    async def _fill(self) -> None:
        try:
            async with asyncio.timeout(self._stall_s):
                message: Any = await self._receive()
        except TimeoutError as error:
            raise Refused(s3_error.REQUEST_TIMEOUT) from error
        if message["type"] != "http.request":
            raise ClientGone
        self._more = message.get("more_body", False)
        self._buffer += message.get("body", b"")
