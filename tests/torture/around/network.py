"""Cables that can be cut: a small TCP proxy for each way from a part to a server.

Owns what may happen to bytes on their way. Knows HTTP only as far as `BURST` answers 503 by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Final, TypeVar

from torture.schedule import Kind

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

_T = TypeVar("_T")
_PIECE: Final = 65536
_SLOW_S: Final = 0.05
_DOCUMENT: Final = b"<Error><Code>SlowDown</Code><Message>not now</Message></Error>"
_BUSY: Final = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_DOCUMENT), _DOCUMENT)
)


class Cable:
    """One way to a server; `fault` may be set and taken back at any time, from any thread."""

    def __init__(self, name: str, to: tuple[str, int]) -> None:
        self.name = name
        self.port = 0
        self._to = to
        self._fault: Kind | None = None
        self._loop = asyncio.get_running_loop()
        self._well = asyncio.Event()
        self._well.set()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()

    async def lay(self) -> None:
        """Begin to listen, on a free port."""
        server = await asyncio.start_server(self._taken, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    def breaks(self, fault: Kind | None) -> None:
        """From now on; None: all is well again."""
        self._loop.call_soon_threadsafe(self._set, fault)

    def _set(self, fault: Kind | None) -> None:
        self._fault = fault
        if fault is Kind.STALL:
            self._well.clear()
        else:
            self._well.set()
        if fault is Kind.CUT:
            for pair in list(self._pairs):
                _abort(*pair)

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._fault is Kind.CUT:
            _abort(writer)
            return
        if self._fault is Kind.BURST:
            await self._busy(reader, writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._to)
        except OSError:
            _abort(writer)
            return
        for end in (writer, far_writer):  # what lies in a cable has been read by nobody
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE)
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
        pair = (writer, far_writer)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, far_writer, answers=False))
                group.create_task(self._carry(far_reader, writer, answers=True))
        except* (OSError, _Broken):
            pass  # both ends learn of it below
        finally:
            self._pairs.discard(pair)
            _abort(*pair)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while piece := await reader.read(_PIECE):
            await self._well.wait()
            if answers and self._fault is Kind.MUTE:
                raise _Broken
            if self._fault is Kind.BURST and not answers:
                raise _Broken
            if self._fault is Kind.SLOW:
                await asyncio.sleep(_SLOW_S)
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def _busy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
            async with asyncio.timeout(2):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_BUSY)
                await writer.drain()
        writer.close()


class _Broken(Exception):
    """The connection ends here, whatever the two sides think."""


def _abort(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.transport.abort()


class Loop:
    """An event loop in a thread of its own, for cables and origins."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="torture-network", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something there and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def stop(self) -> None:
        """End the loop; connections end with it."""
        self._loop.set_exception_handler(lambda *_: None)  # of connections that end in the middle
        self.run(_end_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
