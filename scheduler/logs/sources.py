"""Where log lines come from: files and patterns, standard input, syslog sockets.

Owns one interface over them: `poll` gives whole lines and never blocks, `accept` says that the queue has
them. A pattern is looked at again every second for files that appear. Knows no format.
"""

from __future__ import annotations

import contextlib
import glob
import os
import queue
import socket
import stat
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import structlog

from scheduler.logs.tail import Chunk, Gap, Tail
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.logs.checkpoint import Checkpoint

log = structlog.get_logger(__name__)

_GLOB = frozenset("*?[")
#: Seconds between looks at a pattern.
_RESCAN_S = 1.0
#: Linux's socket option by which the kernel says how many datagrams it dropped.
_SO_RXQ_OVFL = 40
_DATAGRAM_BYTES = 65_536
#: Bytes of datagrams held for a slow queue before the kernel's buffer has to.
_HELD_BYTES = 16 << 20
_STDIN_BLOCK_BYTES = 1 << 20


class Source(Protocol):
    """One stream of whole lines with a name."""

    name: str

    def poll(
        self, limit_bytes: int, *, now: float, final: bool = False
    ) -> tuple[Source, bytes, object] | None:
        """(the stream, lines, token for `accept`) or None."""

    def accept(self, token: object) -> None:
        """The queue has these lines."""

    def lag_bytes(self) -> int:
        """Bytes that are known to wait."""

    def take_gaps(self) -> list[Gap]:
        """Gaps since the last call."""

    def close(self) -> None: ...


class FileStream:
    """One path, followed."""

    def __init__(self, path: Path, tail: Tail) -> None:
        self.name = str(path)
        self.path = path
        self.tail = tail

    def poll(
        self, limit_bytes: int, *, now: float, final: bool = False
    ) -> tuple[FileStream, bytes, Chunk] | None:
        chunk = self.tail.poll(limit_bytes, now=now, final=final)
        return None if chunk is None else (self, chunk.data, chunk)

    def accept(self, token: object) -> None:
        assert isinstance(token, Chunk)
        self.tail.accept(token)

    def lag_bytes(self) -> int:
        return self.tail.lag_bytes()

    def take_gaps(self) -> list[Gap]:
        gaps, self.tail.gaps = self.tail.gaps, []
        return gaps

    def head(self) -> bytes:
        return self.tail.head()

    def close(self) -> None:
        self.tail.close()


class FileSet:
    """A path or a pattern, and the streams of the files it names."""

    def __init__(
        self,
        pattern: str,
        *,
        checkpoint: Checkpoint,
        resume: bool,
        fresh: Literal["start", "end"],
        packed: bool,
        claimed: set[Path],
    ) -> None:
        """Name the files.

        `resume`: go on where the checkpoint left a file; `fresh`: where one begins that is there already and
        has none. `packed`: .gz files that a pattern names are read too. `claimed`: paths already read.

        Raises:
            ConfigError: a file that is named is a directory or may not be read.
        """
        self.pattern = pattern
        self.streams: dict[Path, FileStream] = {}
        self._checkpoint = checkpoint
        self._resume = resume
        self._fresh = fresh
        self._packed = packed
        self._claimed = claimed
        self._is_pattern = bool(_GLOB & set(pattern)) and not Path(pattern).exists()
        self._looked_at = float("-inf")
        self._first = True
        self._refused: set[Path] = set()

    def look(self, now: float) -> list[FileStream]:
        """Streams that are new since the last look."""
        if now - self._looked_at < _RESCAN_S:
            return []
        self._looked_at = now
        fresh = [self._begin_one(path) for path in self._paths()]
        self._first = False
        return [one for one in fresh if one is not None]

    def _paths(self) -> Iterable[Path]:
        if not self._is_pattern:
            return [Path(self.pattern)]
        found = [Path(one) for one in sorted(glob.glob(self.pattern, recursive=True))]  # noqa: PTH207 -- Path.glob takes no absolute pattern
        if not self._packed:
            found = [path for path in found if path.suffix != ".gz"]
        return found

    def _begin_one(self, path: Path) -> FileStream | None:
        path = Path(os.path.abspath(path))  # noqa: PTH100 -- a link's own name is followed, not its target
        if path in self.streams or path in self._claimed:
            return None
        if self._is_pattern and not path.is_file():
            return None
        entry = self._checkpoint.entry(path) if self._resume else None
        if self._is_pattern and entry is None and self._is_known_file(path):
            return None
        try:
            tail = Tail(
                path,
                marks=entry.marks if entry is not None else (),
                saved_at=entry.saved_at if entry is not None else 0.0,
                # A file that appears while we watch is new from its first byte.
                from_start=self._fresh == "start" or not self._first,
            )
        except ConfigError as error:
            if not self._is_pattern and self._first:
                raise
            if path not in self._refused:
                self._refused.add(path)
                log.warning("log_unreadable", path=str(path), error=str(error))
            return None
        self._claimed.add(path)
        stream = FileStream(path, tail)
        self.streams[path] = stream
        return stream

    def _is_known_file(self, path: Path) -> bool:
        """Whether a rotated name of a followed file has come to match the pattern."""
        try:
            info = path.stat()
        except OSError:
            return False
        known = {(mark.device, mark.inode) for stream in self.streams.values() for mark in stream.tail.marks}
        return (info.st_dev, info.st_ino) in known


class StdinStream:
    """Standard input, read by a thread so that a slow writer blocks nobody.

    What was read and not accepted is lost when the process dies: a pipe cannot be read again.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self.name = "-"
        self._fd = descriptor
        self._blocks: queue.Queue[bytes] = queue.Queue(maxsize=4)
        self._rest = b""
        self._ended = False
        self._waiting = 0
        self._head = b""
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                block = os.read(self._fd, _STDIN_BLOCK_BYTES)
            except OSError as error:
                log.warning("stdin_failed", error=str(error))
                block = b""
            self._blocks.put(block)
            if not block:
                return

    @property
    def finished(self) -> bool:
        """Whether the writer has closed it and everything was handed out."""
        return self._ended and not self._rest

    def poll(
        self, limit_bytes: int, *, now: float, final: bool = False
    ) -> tuple[StdinStream, bytes, object] | None:
        del now, final
        parts = [self._rest]
        size = len(self._rest)
        while size < limit_bytes and not self._ended:
            try:
                block = self._blocks.get_nowait()
            except queue.Empty:
                break
            self._ended = not block
            parts.append(block)
            size += len(block)
        data = b"".join(parts)
        end = data.rfind(b"\n") + 1
        if self._ended and end < len(data):
            data += b"\n"
            end = len(data)
        self._rest = data[end:]
        if not end:
            return None
        self._waiting += end
        if len(self._head) < 65_536:
            self._head += data[: min(end, 65_536)]
        return self, data[:end], end

    def accept(self, token: object) -> None:
        assert isinstance(token, int)
        self._waiting -= token

    def lag_bytes(self) -> int:
        return len(self._rest) + self._waiting

    def take_gaps(self) -> list[Gap]:
        return []

    def head(self) -> bytes:
        return self._head

    def close(self) -> None:
        """The thread ends with the process; there is nothing to give back."""


class SyslogStream:
    """A datagram socket that a gateway logs to: `unix:/path` or `udp:host:port`.

    Datagrams that the kernel dropped because we were slow are counted by the kernel and reported as a gap.
    """

    def __init__(self, address: str) -> None:
        """Bind.

        Raises:
            ConfigError: the address is not of these forms, or cannot be bound.
        """
        self.name = address
        self._path: Path | None = None
        kind, _, rest = address.partition(":")
        try:
            if kind == "unix":
                self._path = Path(rest)
                self._unlink_stale(self._path)
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.bind(rest)
                self._path.chmod(0o666)
            else:
                host, _, port = rest.rpartition(":")
                bare = host.strip("[]") or "127.0.0.1"
                family = socket.AF_INET6 if ":" in bare else socket.AF_INET
                self._socket = socket.socket(family, socket.SOCK_DGRAM)
                self._socket.bind((bare, int(port)))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{address}: cannot listen: {error}") from error
        with contextlib.suppress(OSError):  # the bound is the system's; smaller only means earlier drops
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        with contextlib.suppress(OSError):  # not on every kernel: then drops are not known
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        self._socket.settimeout(0.5)
        self._dropped = 0
        self._gaps: list[Gap] = []
        self._waiting = 0
        self._head = b""
        self._lines: list[bytes] = []
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        # A unix socket holds 10 datagrams by default and then its sender drops: somebody must always listen.
        self._thread = threading.Thread(target=self._receive, name="syslog", daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while not self._closed.is_set():
            if self._held_bytes > _HELD_BYTES:
                self._closed.wait(0.05)  # the queue is slow: let the kernel hold, drop and count
                continue
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_DATAGRAM_BYTES, 64)
            except TimeoutError:
                continue
            except OSError:
                return  # closed
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                    self._count_drops(struct.unpack("I", value[:4])[0])
            line = data.rstrip(b"\r\n\x00").replace(b"\n", b" ")
            if line:
                with self._lock:
                    self._lines.append(line)
                    self._held_bytes += len(line) + 1

    @staticmethod
    def _unlink_stale(path: Path) -> None:
        if path.exists():
            if not stat.S_ISSOCK(path.stat().st_mode):
                raise OSError(f"{path} exists and is no socket")
            path.unlink()

    @property
    def port(self) -> int:
        """The UDP port that was bound."""
        return int(self._socket.getsockname()[1])

    def poll(
        self, limit_bytes: int, *, now: float, final: bool = False
    ) -> tuple[SyslogStream, bytes, object] | None:
        del limit_bytes, now, final  # what is held is bounded already
        with self._lock:
            lines, self._lines = self._lines, []
            self._held_bytes = 0
        if not lines:
            return None
        block = b"\n".join(lines) + b"\n"
        self._waiting += len(block)
        if len(self._head) < 65_536:
            self._head += block
        return self, block, len(block)

    def _count_drops(self, total: int) -> None:
        fresh = total - self._dropped
        if fresh > 0:
            self._dropped = total
            self._gaps.append(
                Gap(path=Path(self.name), bytes=0, reason=f"the kernel dropped {fresh} datagrams")
            )
            log.warning("log_gap", path=self.name, datagrams=fresh)

    def accept(self, token: object) -> None:
        assert isinstance(token, int)
        self._waiting -= token

    def lag_bytes(self) -> int:
        return self._waiting + self._held_bytes

    def take_gaps(self) -> list[Gap]:
        gaps, self._gaps = self._gaps, []
        return gaps

    def head(self) -> bytes:
        return self._head

    def close(self) -> None:
        self._closed.set()
        self._thread.join(2)
        self._socket.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def is_socket(path: str) -> bool:
    """Whether the operator names a syslog socket."""
    return path.startswith(("unix:", "udp:"))
