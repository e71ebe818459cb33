"""The body of a running pull: written once, read by many, from its first byte.

Owns where the bytes are: the newest in memory within a budget, older ones in an unlinked file within a
budget of disk. Knows no origin, no store and no client. Only when both budgets are spent does the writer
wait for the slowest reader, and from then on nobody can begin to read any more.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from bisect import bisect_right
from pathlib import Path

import structlog

log = structlog.get_logger()

#: Bytes that one read from the file asks for, and what a spill writes at least.
_BLOCK_BYTES = 256 * 1024


class BodyFailed(Exception):
    """The body will never be whole; `cause` is the failure of whoever wrote it."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.cause = cause


class BodyUnavailable(Exception):
    """The beginning of the body is no longer kept."""


class Allowance:
    """A number of bytes shared by all bodies of the process; taking never waits."""

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def take(self, n_bytes: int) -> bool:
        """Take the bytes, or say no."""
        if self.used_bytes + n_bytes > self.limit_bytes:
            return False
        self.used_bytes += n_bytes
        return True

    def give(self, n_bytes: int) -> None:
        """Give bytes back."""
        self.used_bytes -= n_bytes


class Spool:
    """Where all bodies of a process keep their bytes."""

    def __init__(self, directory: Path, *, memory_bytes: int, disk_bytes: int, window_bytes: int) -> None:
        self.directory = Path(directory)
        self.memory = Allowance(memory_bytes)
        self.disk = Allowance(disk_bytes)
        #: What one body keeps in memory before it goes to disk.
        self.window_bytes = window_bytes

    def body(self) -> Body:
        """A new, empty body."""
        return Body(self)

    def open_file(self) -> _File:
        """An unlinked file: it is gone with its last user, however the process ends."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix="body-", dir=self.directory)
        os.unlink(name)  # noqa: PTH108 - the name is a str that is never used again
        return _File(descriptor)


class _File:
    """A descriptor that lives as long as its users, threads in the middle of a read included."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)

    def write_all(self, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self.descriptor, view, at)
            view = view[written:]
            at += written

    def read(self, n_bytes: int, at: int) -> bytes:
        return os.pread(self.descriptor, n_bytes, at)


class Reader:
    """One reader's place: `read_some` until nothing comes, then `close` it."""

    __slots__ = ("_body", "position", "stop")

    def __init__(self, body: Body, start: int, stop: int | None) -> None:
        self._body = body
        self.position = start
        #: Where to end; None reads to the end of the body.
        self.stop = stop

    @property
    def at_end(self) -> bool:
        """Whether `read_some` would give nothing more, and raise nothing."""
        if self.stop is not None and self.position >= self.stop:
            return True
        return self._body.finished and self.position >= self._body.readable

    async def read_some(self) -> bytes:
        """The next bytes from the reader's place on; empty at the end.

        Raises:
            BodyFailed: the writer failed; what was given so far is a beginning only.
        """
        body, position, stop = self._body, self.position, self.stop
        if stop is not None and position >= stop:
            return b""
        chunk = body.here(position)
        if chunk is None:
            chunk = await body.read(position)
        if stop is not None and position + len(chunk) > stop:
            chunk = chunk[: stop - position]
        self.position = position + len(chunk)
        if body.room is not None:
            body.moved()
        return chunk

    @property
    def failure(self) -> BaseException | None:
        """Why what was read may not be kept, also when all of it was given."""
        return self._body.failure

    def close(self) -> None:
        """Hold nothing back for this reader any more."""
        self._body.leave(self)


class Body:
    """Bytes from one writer to any number of readers."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._chunks: list[bytes] = []
        self._starts: list[int] = []
        self._file: _File | None = None
        self._on_disk = 0  # bytes taken from the disk's allowance
        self._in_memory = 0  # bytes taken from the memory's allowance, or beyond it
        self._readers: set[Reader] = set()
        #: Readers that wait for more.
        self._waiting: list[asyncio.Future[None]] = []
        #: What the writer waits for, while it does: somebody read on, came or left.
        self.room: asyncio.Event | None = None
        self._closed = False
        self._discarded = False
        #: Readers that are announced and not there yet: for them the beginning is kept.
        self.expected = 0
        #: First byte that is still kept; above 0 nobody can join.
        self.base = 0
        #: First byte that is in memory; those before it are on disk.
        self._memory_base = 0
        #: Bytes written so far.
        self.written = 0
        #: Bytes that readers may have: fewer than written while the end is held back.
        self.readable = 0
        #: Bytes at the end that readers do not get before `finish` (check_md5: stream).
        self.hold_back_bytes = 0
        self.finished = False
        self.failure: BaseException | None = None

    @property
    def done(self) -> bool:
        """Nothing more will be written."""
        return self.finished or self.failure is not None

    @property
    def joinable(self) -> bool:
        """Whether a new reader still gets the first byte."""
        return not self.base and not self._discarded and self.failure is None

    # ------------------------------------------------------------ writer
    async def write(self, chunk: bytes) -> None:
        """Add bytes; waits for the disk, or for readers when memory and disk are spent."""
        if not chunk:
            return
        self._chunks.append(chunk)
        self._starts.append(self.written)
        self.written += len(chunk)
        self._in_memory += len(chunk)
        self._spool.memory.used_bytes += len(chunk)
        readable = self.written - self.hold_back_bytes
        if readable > self.readable:
            self.readable = readable
            if self._waiting:
                self._wake()
        memory = self._spool.memory
        if self._in_memory > self._spool.window_bytes or memory.used_bytes > memory.limit_bytes:
            await self._make_room()

    def finish(self) -> None:
        """The body is whole."""
        self.finished = True
        self.readable = self.written
        if self._waiting:
            self._wake()

    def fail(self, cause: BaseException) -> None:
        """The body will never be whole; readers get what they may have, then `BodyFailed`."""
        self.failure = cause
        self._wake()

    def finish_wrong(self, cause: BaseException) -> None:
        """All bytes are there, and readers get them; whoever wants to keep them looks at `failure` first."""
        self.failure = cause
        self.finish()

    async def _make_room(self) -> None:
        if not self.base and await self._spill():
            return
        # Neither memory nor disk: keep only what readers still need, and wait for the slowest.
        while self._in_memory > self._spool.window_bytes:
            needed = min((reader.position for reader in self._readers), default=self.written)
            if self.expected:
                needed = self.base
            self._drop_before(min(needed, self.written - self.hold_back_bytes))
            if self._in_memory <= self._spool.window_bytes:
                return
            self.room = asyncio.Event()
            await self.room.wait()
            self.room = None

    async def _spill(self) -> bool:
        """Move the older half of the memory to disk; False when the disk's budget does not allow it."""
        keep = self._spool.window_bytes // 2
        if self._spool.memory.used_bytes > self._spool.memory.limit_bytes:
            keep = 0
        count = size = 0
        while count < len(self._chunks) and self._in_memory - size > keep:
            size += len(self._chunks[count])
            count += 1
        if not size:
            return True
        if not self._spool.disk.take(size):
            return False
        self._on_disk += size
        data = self._chunks[0] if count == 1 else b"".join(self._chunks[:count])
        try:
            if self._file is None:
                self._file = self._spool.open_file()
            await asyncio.to_thread(self._file.write_all, data, self._memory_base)
        except OSError as error:
            # A full disk is a budget that is spent: the readers set the pace.
            log.warning("spool_failed", error=str(error), directory=str(self._spool.directory))
            self._on_disk -= size
            self._spool.disk.give(size)
            return False
        del self._chunks[:count], self._starts[:count]
        self._memory_base += size
        self._release_memory(size)
        return True

    def _drop_before(self, position: int) -> None:
        if position <= self.base:
            return
        if self._file is not None and position >= self._memory_base:
            self._file = None
            self._spool.disk.give(self._on_disk)
            self._on_disk = 0
        count = size = 0
        while count < len(self._chunks) and self._starts[count] + len(self._chunks[count]) <= position:
            size += len(self._chunks[count])
            count += 1
        if count:
            del self._chunks[:count], self._starts[:count]
            self._memory_base += size
            self._release_memory(size)
        self.base = position

    def _release_memory(self, n_bytes: int) -> None:
        self._in_memory -= n_bytes
        self._spool.memory.give(n_bytes)

    # ------------------------------------------------------------ readers
    def reader(self, start: int = 0, stop: int | None = None) -> Reader:
        """A new reader of the bytes from `start` to `stop`.

        Raises:
            BodyUnavailable: the bytes at `start` are no longer kept.
        """
        if start < self.base or self._discarded:
            raise BodyUnavailable
        reader = Reader(self, start, stop)
        self._readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """A reader is done."""
        self._readers.discard(reader)
        if self.room is not None:
            self.room.set()
        if self._closed:
            self._discard_unused()

    def arrived(self) -> None:
        """One of the expected readers is there, or will not come."""
        self.expected -= 1
        if self.room is not None:
            self.room.set()
        if self._closed:
            self._discard_unused()

    def moved(self) -> None:
        """A reader went on."""
        if self.room is not None:
            self.room.set()

    def here(self, position: int) -> bytes | None:
        """As `read`, where it has neither to wait nor to ask the disk; else None."""
        if position >= self.readable:
            return b"" if self.finished else None
        if position < self._memory_base:
            return None
        index = bisect_right(self._starts, position) - 1
        chunk = self._chunks[index]
        offset = position - self._starts[index]
        limit = self.readable - self._starts[index]
        return chunk if not offset and limit >= len(chunk) else chunk[offset:limit]

    async def read(self, position: int) -> bytes:
        """Bytes at a place, at least one; empty at the end of a finished body."""
        while position >= self.readable:
            if self.finished:
                return b""
            if self.failure is not None:
                raise BodyFailed(self.failure)
            news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(news)
            await news
        found = self.here(position)
        if found is not None:
            return found
        assert self._file is not None
        n_bytes = min(_BLOCK_BYTES, self._memory_base - position, self.readable - position)
        return await asyncio.to_thread(self._file.read, n_bytes, position)

    def close(self) -> None:
        """Let the bytes go as soon as the last reader has left."""
        self._closed = True
        self._discard_unused()

    def _discard_unused(self) -> None:
        if not self._closed or self._readers or self.expected or self._discarded:
            return
        self._discarded = True
        self._release_memory(self._in_memory)
        self._spool.disk.give(self._on_disk)
        self._on_disk = 0
        self._chunks.clear()
        self._starts.clear()
        self._file = None

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for news in waiting:
            if not news.done():  # else that reader has gone
                news.set_result(None)
