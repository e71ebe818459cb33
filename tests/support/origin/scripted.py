"""A raw server that says exactly the bytes it was told, one step a request, over as many connections as come.

A step is the bytes of an answer, or a list of such with pauses between them (seconds, as floats). After a
step the connection is kept, unless the step ends with `CLOSE` (an orderly end) or `RESET`. A request
beyond the last step finds its connection closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLOSE = "close"
RESET = "reset"

Step = bytes | list[bytes | float | str]


@dataclass
class Scripted:
    """The running server; `seen` are (number of the connection, request) in order."""

    script: list[Step]
    #: Read the bodies of requests before they are answered.
    read_bodies: bool = True
    seen: list[tuple[int, bytes]] = field(default_factory=list)
    port: int = 0
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> list[int]:
        """The connection of each request."""
        return [number for number, _ in self.seen]

    @property
    def heads(self) -> list[str]:
        return [request.decode("latin-1") for _, request in self.seen]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number = len(self._writers)
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._one(number, reader, writer):
                pass
        writer.close()

    async def _one(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        body = b""
        if self.read_bodies:
            lines = [line.lower() for line in head.split(b"\r\n")]
            length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
            body = await reader.readexactly(length)
        self.seen.append((number, head + body))
        if not self.script:
            return False
        step = self.script.pop(0)
        for piece in step if isinstance(step, list) else [step]:
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            elif piece == CLOSE:
                return False
            elif piece == RESET:
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return False
            else:
                assert isinstance(piece, bytes)
                writer.write(piece)
                await writer.drain()
        return True

    async def stop(self) -> None:
        """Cut every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def scripted(*script: Step, read_bodies: bool = True) -> AsyncIterator[Scripted]:
    """Serve the script on a free port of 127.0.0.1 until the block ends."""
    told = Scripted(list(script), read_bodies=read_bodies)
    server = await asyncio.start_server(told.serve, "127.0.0.1", 0, limit=1 << 20)
    told.port = server.sockets[0].getsockname()[1]
    try:
        yield told
    finally:
        server.close()
        await told.stop()
