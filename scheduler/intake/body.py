"""A request body as records: JSON, arrays and NDJSON, packed or not, as the bytes come in. PURE.

Owns how a body is cut into records with line numbers, and the bounds: a stream of lines has no end, a single
document has one. Knows no event.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Largest single document or array, and longest line, in bytes after unpacking.
MAX_DOCUMENT_BYTES = 32 << 20
MAX_LINE_BYTES = 1 << 20

Kind = Literal["json", "lines", "text"]

_KINDS: dict[str, Kind] = {
    "application/json": "json",
    "application/cloudevents+json": "json",
    "application/cloudevents-batch+json": "json",
    "text/json": "json",
    "application/x-ndjson": "lines",
    "application/ndjson": "lines",
    "application/jsonl": "lines",
    "application/json-lines": "lines",
    "application/x-json-stream": "lines",
    "application/json-seq": "lines",
    "text/plain": "text",
}


class BadBody(Exception):
    """The body as a whole cannot be read; `status` is 400, 413 or 415."""

    def __init__(self, reason: str, detail: str, *, status: int = 400) -> None:
        super().__init__(detail)
        self.reason = reason
        self.status = status


class Row(NamedTuple):
    """One record: its line from 1, or its place in the array; bytes where it is no JSON.

    A tuple, because each line of a flood makes one, and a frozen dataclass takes three times as long to make.
    """

    number: int
    document: Any = None
    #: A raw line (text), or one that is no JSON (`problem` says why).
    raw: bytes = b""
    problem: str = ""


#: What curl -d and Python's urllib call every body that they are not told the type of.
_FORM = "application/x-www-form-urlencoded"


def kind_of(content_type: str) -> Kind:
    """How a body of this type is cut; no type at all, or what curl and others say unasked, means JSON.

    Raises:
        BadBody: 415 for anything else.
    """
    media = content_type.partition(";")[0].strip().lower()
    if not media or media == _FORM:
        return "json"
    kind = _KINDS.get(media)
    if kind is None and media.endswith("+json"):
        kind = "json"
    if kind is None:
        raise BadBody(
            "unsupported_type",
            f"Content-Type {media!r}; send application/json, application/x-ndjson, "
            "application/cloudevents+json, application/cloudevents-batch+json or text/plain",
            status=415,
        )
    return kind


class Unpacker:
    """Undoes Content-Encoding as bytes come in."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise BadBody("unsupported_encoding", f"Content-Encoding {name!r}; send gzip or none", status=415)
        self._bits = {"gzip": 31, "x-gzip": 31, "deflate": 15}.get(name)
        self._inflater = zlib.decompressobj(self._bits) if self._bits is not None else None
        self._fresh = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The plain bytes, in pieces of at most 1 MiB so that a bomb costs no memory.

        Raises:
            BadBody: not of the encoding.
        """
        if self._inflater is None:
            if data:
                yield data
            return
        try:
            while data:
                self._fresh = False
                piece = self._inflater.decompress(data, 1 << 20)
                if piece:
                    yield piece
                data = self._inflater.unconsumed_tail
                if self._inflater.eof:
                    data = self._inflater.unused_data
                    self._inflater = zlib.decompressobj(self._bits or 31)
                    self._fresh = True
        except zlib.error as error:
            raise BadBody("bad_gzip", f"the body is not of its Content-Encoding: {error}") from error

    def end(self) -> None:
        """The body is over.

        Raises:
            BadBody: it was cut.
        """
        if self._inflater is not None and not self._fresh:
            raise BadBody("bad_gzip", "the packed body is cut short")


class Splitter:
    """Cuts plain bytes into rows. JSON that turns out to be many lines is handled as lines."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._buffer = bytearray()
        self._line = 0
        #: A single document or array, which has to be whole before it can be read.
        self._whole = False
        self._decided = kind != "json"
        self._skipping = False

    def feed(self, data: bytes) -> list[Row]:
        """Rows that are complete.

        Raises:
            BadBody: 413 for a single document over its bound.
        """
        self._buffer += data
        if not self._decided:
            self._decide()
        if self._whole or not self._decided:
            if len(self._buffer) > MAX_DOCUMENT_BYTES:
                raise BadBody(
                    "too_large",
                    f"one document may have {MAX_DOCUMENT_BYTES} bytes; send lines instead (x-ndjson)",
                    status=413,
                )
            return []
        return self._lines()

    def end(self) -> list[Row]:
        """What is left when the body is over.

        Raises:
            BadBody: a single document that is no JSON.
        """
        if self._whole or not self._decided:
            return self._document()
        if self._buffer.strip():
            self._buffer += b"\n"
            return self._lines()
        return []

    def _decide(self) -> None:
        """An object whose first line is whole JSON begins a stream of lines; all else is one document."""
        text = self._buffer.lstrip(b" \t\r\n\x1e\xef\xbb\xbf")
        if not text:
            return
        if not text.startswith(b"{"):
            self._decided = self._whole = True
            return
        end = text.find(b"\n")
        if end < 0:
            if len(text) > MAX_LINE_BYTES:
                self._decided = self._whole = True
            return
        self._decided = True
        try:
            orjson.loads(bytes(text[:end]))
        except orjson.JSONDecodeError:
            self._whole = True

    def _document(self) -> list[Row]:
        text = bytes(self._buffer).strip(b" \t\r\n\xef\xbb\xbf")
        self._buffer.clear()
        if not text:
            return []
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise BadBody("not_json", f"line {error.lineno}, column {error.colno}: {error.msg}") from error
        if isinstance(document, list):
            return [Row(number=at, document=one) for at, one in enumerate(document, start=1)]
        return [Row(number=1, document=document)]

    def _lines(self) -> list[Row]:
        end = self._buffer.rfind(b"\n") + 1
        if end == 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                self._skipping = True
                self._buffer.clear()
            return []
        block = bytes(self._buffer[:end])
        del self._buffer[:end]
        rows: list[Row] = []
        text = self._kind == "text"
        loads = orjson.loads
        for line in block.split(b"\n")[:-1]:
            self._line += 1
            if self._skipping or len(line) > MAX_LINE_BYTES:
                self._skipping = False
                rows.append(Row(self._line, None, b"", f"longer than {MAX_LINE_BYTES} bytes"))
                continue
            if not line or line.isspace():
                continue
            if text and not line.startswith(b"{"):
                rows.append(Row(self._line, None, line.rstrip(b"\r")))
                continue
            try:
                rows.append(Row(self._line, loads(line)))
            except orjson.JSONDecodeError as error:
                # What some senders put around a record: a separator, a mark, a comma, the array it is in.
                bare = line.strip(b"\x1e \t\r\xef\xbb\xbf,[]")
                if not bare:
                    continue
                try:
                    rows.append(Row(self._line, loads(bare)))
                except orjson.JSONDecodeError:
                    shown = line[:80].decode("utf-8", "backslashreplace")
                    rows.append(Row(self._line, None, b"", f"column {error.colno}: {error.msg}: {shown!r}"))
        return rows
