"""`aws-chunked` bodies: taken apart and, where their chunks are signed, verified. Pure.

Owns the framing `size[;chunk-signature=…] CRLF data CRLF … 0 CRLF trailers CRLF` and the chain of chunk
signatures. Data is handed on as it comes, before the signature behind its chunk is known: whoever forwards
keeps the last bytes back (`payload`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from scheduler.front.s3.payload import BodyRefused, incomplete

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

#: Longest line of the framing: a size, a signature, or one trailer.
_MAX_LINE: Final = 4096
_MAX_TRAILERS: Final = 16
_HEAD: Final = re.compile(rb"([0-9a-fA-F]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?")
_EMPTY: Final = hashlib.sha256(b"").hexdigest()
_SIGNATURE: Final = "x-amz-trailer-signature"
_BLANKS: Final = " \t"


@dataclass(slots=True, kw_only=True)
class ChunkKeys:
    """What chunk signatures are made with; `previous` is the request's own signature at first."""

    key: bytes = field(repr=False)
    stamp: str
    scope: str
    previous: str

    def sign(self, kind: str, *hashes: str) -> str:
        """The signature of a chunk or a trailer, from which the next one follows."""
        text = "\n".join((f"AWS4-HMAC-SHA256-{kind}", self.stamp, self.scope, self.previous, *hashes))
        return hmac.digest(self.key, text.encode("latin-1"), "sha256").hex()


class Unchunker:
    """One body: feed the wire's bytes, take the object's.

    Args:
        keys: for signed chunks; None for `STREAMING-UNSIGNED-PAYLOAD-TRAILER`.
        trailer: whether trailers may follow the last chunk.
        announced: lower-case names of those that may, as `x-amz-trailer` has them.
    """

    def __init__(self, keys: ChunkKeys | None, *, trailer: bool, announced: Container[str] = ()) -> None:
        self._keys = keys
        self._trailer = trailer
        self._announced = announced
        self._buffer = bytearray()
        self._state = self._size_line
        self._left = 0
        self._signature = ""
        self._hash = hashlib.sha256()
        self.trailers: dict[str, str] = {}
        #: Whether all of the framing has come.
        self.ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The object's bytes in `data`.

        Raises:
            BodyRefused: 403 SignatureDoesNotMatch, 400 InvalidChunkSizeError or IncompleteBody.
        """
        self._buffer += data
        while True:
            if self._left:
                taken = bytes(self._buffer[: self._left])
                if not taken:
                    return
                del self._buffer[: len(taken)]
                self._left -= len(taken)
                if self._keys is not None:
                    self._hash.update(taken)
                yield taken
                continue
            if self.ended:
                if self._buffer:
                    raise incomplete("Bytes follow the end of the chunked body.")
                return
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > _MAX_LINE:
                    raise _framing("A line of the chunked body is too long.")
                return
            line = bytes(self._buffer[:end]).removesuffix(b"\r")
            del self._buffer[: end + 1]
            self._state(line)

    def finish(self) -> None:
        """The wire has ended.

        Raises:
            BodyRefused: 400 IncompleteBody: the framing has not.
        """
        if not self.ended:
            raise incomplete("The chunked body ends before its last chunk.")

    def _size_line(self, line: bytes) -> None:
        found = _HEAD.fullmatch(line)
        if found is None:
            raise _framing("A chunk does not begin with its size.")
        self._left = int(found[1], 16)
        self._signature = (found[2] or b"").decode()
        if self._keys is not None:
            self._hash = hashlib.sha256()
        if self._left:
            self._state = self._chunk_end
            return
        self._verify_chunk()
        self._state = self._trailer_line

    def _chunk_end(self, line: bytes) -> None:
        if line:
            raise _framing("A chunk is longer than its size.")
        self._verify_chunk()
        self._state = self._size_line

    def _verify_chunk(self) -> None:
        if self._keys is None:
            return
        self._require(self._keys.sign("PAYLOAD", _EMPTY, self._hash.hexdigest()), self._signature, "chunk")

    def _trailer_line(self, line: bytes) -> None:
        if line:
            raw_name, colon, value = line.decode("latin-1").partition(":")
            name, value = raw_name.strip(_BLANKS).lower(), value.strip(_BLANKS)
            unwanted = not self._trailer or name in self.trailers or len(self.trailers) >= _MAX_TRAILERS
            unwanted |= name not in self._announced and name != _SIGNATURE
            # It goes on as a header.
            if not colon or unwanted or not (value.isascii() and value.isprintable()):
                raise BodyRefused(
                    400, "MalformedTrailerError", "A trailer is malformed or was not announced."
                )
            self.trailers[name] = value
            return
        if not self._wants_signature():
            self.ended = True

    def _wants_signature(self) -> bool:
        """Verify the trailers; whether their signature is still to come."""
        if self._keys is None or not self._trailer:
            return False
        given = self.trailers.get(_SIGNATURE)
        if given is None:
            # Some clients end the trailers with a blank line, and sign them in the next.
            if self._blank:
                raise _mismatch("trailer")
            self._blank = True
            return True
        lines = "".join(f"{name}:{value}\n" for name, value in self.trailers.items() if name != _SIGNATURE)
        signed = self._keys.sign("TRAILER", hashlib.sha256(lines.encode("latin-1")).hexdigest())
        self._require(signed, given, "trailer")
        return False

    _blank = False

    def _require(self, expected: str, given: str, what: str) -> None:
        assert self._keys is not None
        if not hmac.compare_digest(expected.encode(), given.encode("latin-1", "replace")):
            raise _mismatch(what)
        self._keys.previous = expected


def _framing(message: str) -> BodyRefused:
    return BodyRefused(400, "InvalidChunkSizeError", message)


def _mismatch(what: str) -> BodyRefused:
    return BodyRefused(403, "SignatureDoesNotMatch", f"The signature of a {what} of the body does not match.")
