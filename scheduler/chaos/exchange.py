"""One request and its answer, byte by byte.

Owns reading a request head and writing answers that may be wrong in any way: nothing here corrects a length,
closes a chunked body or keeps a promise. Knows no behaviour by name.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scheduler.chaos.content import ChaosObject

#: Longest request head that is read.
MAX_HEAD_BYTES = 256 * 1024

#: Size of the pieces in which bodies are written.
PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosRequest:
    """A request as it came over the wire."""

    method: str
    #: Request target, byte for byte as latin-1 text.
    target: str
    headers: tuple[tuple[str, str], ...]
    #: Body of a control request; others have none.
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first value of `name`, without regard to case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def all(self, name: str) -> list[str]:
        """Every value of `name`, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


async def read_request(reader: asyncio.StreamReader) -> ChaosRequest | None:
    """The next request of a connection, or None at its end or at something that is no HTTP."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        return None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        return None
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    request = ChaosRequest(method=words[0], target=words[1], headers=headers)
    length = request.header("content-length")
    if length and length.isdigit() and 0 < int(length) <= MAX_HEAD_BYTES:
        body = await reader.readexactly(int(length))
        return ChaosRequest(method=words[0], target=words[1], headers=headers, body=body)
    return request


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request, the object it is about, and the raw way to answer it."""

    request: ChaosRequest
    writer: asyncio.StreamWriter
    #: What the path after the behaviour's segment names.
    item: ChaosObject
    #: Decoded path of that object.
    name: str
    params: Mapping[str, str]
    #: How often this path was asked, this time included.
    count: int
    #: Own address as `host:port`, for redirects.
    authority: str
    #: False once the answer cannot be followed by another one on this connection.
    keep: bool = True
    status: int = 0
    sent_bytes: int = 0
    started: bool = field(default=False)

    def text(self, name: str, default: str = "") -> str:
        """A parameter as text."""
        return self.params.get(name, default)

    def number(self, name: str, default: int) -> int:
        """A parameter as a whole number; `default` where it is absent or none."""
        try:
            return int(self.params[name])
        except (KeyError, ValueError):
            return default

    def seconds(self, name: str, default: float) -> float:
        """A parameter as seconds; `default` where it is absent or no number."""
        try:
            return float(self.params[name])
        except (KeyError, ValueError):
            return default

    async def head(self, status: int, headers: Iterable[tuple[str, str]], *, version: str = "1.1") -> None:
        """Write the status line and exactly these headers, with a Date in front."""
        self.status, self.started = status, True
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "Odd"
        lines = [f"HTTP/{version} {status} {phrase}", f"Date: {formatdate(usegmt=True)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), counted=False)

    async def raw(self, data: bytes, *, counted: bool = True) -> None:
        """Write bytes as they are; body bytes are counted for the log, and left out of an answer to HEAD."""
        if counted and self.request.method == "HEAD":
            return
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self.writer.write(piece)
            if counted:
                self.sent_bytes += len(piece)
            await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        """Write one chunk of a chunked body."""
        if self.request.method == "HEAD":
            return
        self.writer.write(b"%x\r\n" % len(data))
        await self.raw(data)
        self.writer.write(b"\r\n")
        await self.writer.drain()

    def reset(self) -> None:
        """End the connection with a TCP reset instead of a FIN."""
        self.keep = False
        sock = self.writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def hang_up(self) -> None:
        """End the connection after this answer, in the ordinary way."""
        self.keep = False
