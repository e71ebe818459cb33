"""One part of an upload while it is being filled and sent.

Owns where its bytes lie: in memory, or on disk when the part is larger than an eighth of the memory budget.
The whole of it is reserved before its first byte is taken, so that nobody ever waits with a half-filled part.
Knows no request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.errors import StoreRejected, StoreUnavailable
from workers.store.wire.checksums import checked, checked_file
from workers.store.write.body import FileBody, body_of
from workers.store.write.spool import SpoolFile

if TYPE_CHECKING:
    from workers.store.access import StoreAccess
    from workers.store.memory import Reservation
    from workers.store.wire.checksums import Checked


class Part:
    """Up to `limit` bytes; `close` gives back whatever it holds."""

    __slots__ = ("_chunks", "_lease", "_spool", "filled", "limit")

    def __init__(self, limit: int, *, lease: Reservation | None, spool: SpoolFile | None) -> None:
        #: Bytes that fit, and bytes taken so far.
        self.limit = limit
        self.filled = 0
        self._lease = lease
        self._spool = spool
        self._chunks: list[bytes | memoryview] = []

    def fill(self, data: bytes | memoryview, n_bytes: int) -> None:
        """Take bytes; the caller sees that they fit."""
        self.filled += n_bytes
        if self._spool is None:
            self._chunks.append(data)
        else:
            self._spool.write(data)

    def extend(self, n_bytes: int, store: StoreAccess) -> bool:
        """Make room for so many bytes more, on disk; False where that is not free now: nobody waits for it.

        Raises:
            StoreUnavailable: the disk is full, or fails.
        """
        spool = self._spool
        lease = store.spool.try_reserve(n_bytes if spool is not None else self.limit + n_bytes)
        if lease is None:
            return False
        if spool is not None:
            spool.extend(lease)
        else:
            try:
                self._spool = SpoolFile(lease, store.spool_dir)
            except StoreUnavailable:
                return False  # in memory it goes on as it is
            for chunk in self._chunks:
                self._spool.write(chunk)
            self._chunks.clear()
            if self._lease is not None:
                self._lease.release()
                self._lease = None
        self.limit += n_bytes
        return True

    def trim(self) -> None:
        """Nothing more will come: give back the memory that was not needed."""
        if self._lease is not None:
            self._lease.shrink(self.filled)

    async def checked(self, honoured: tuple[str, ...], *, known_sha256: str = "") -> Checked:
        """The checksum that goes with its bytes; see `checksums.checked`."""
        if self._spool is None:
            return await checked(self._chunks, self.filled, honoured, known_sha256=known_sha256)
        return await checked_file(self._spool.file, self.filled, honoured, known_sha256=known_sha256)

    def body(self, *, idle_s: float) -> Any:
        """Its bytes as the body of a request, which may be sent again."""
        if self._spool is None:
            return body_of(self._chunks, self.filled, idle_s=idle_s)
        return FileBody(self._spool.file, self.filled, idle_s=idle_s)

    def close(self) -> None:
        """Give memory and disk back; harmless when repeated."""
        self._chunks.clear()
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        if self._lease is not None:
            self._lease.release()
            self._lease = None


async def reserve_part(store: StoreAccess, limit: int, *, lease: Reservation | None, what: str) -> Part:
    """A part of `limit` bytes, once there is room for it.

    `lease` is memory that is held already; it is taken over, whatever happens. `what` names the object.

    Raises:
        StoreRejected: the part fits neither budget.
        StoreUnavailable: there is no room for it on the disk.
    """
    if limit <= store.memory.limit_bytes // 8:
        if lease is not None and lease.n_bytes >= limit:
            lease.shrink(limit)
        else:
            # Given back first: who waits for more must not hold what others wait for.
            if lease is not None:
                lease.release()
            lease = store.memory.try_reserve(limit) or await store.memory.reserve(limit)
        return Part(limit, lease=lease, spool=None)
    if lease is not None:
        lease.release()
    if limit > store.spool.limit_bytes:
        raise StoreRejected(
            f"{what}: a part of {limit} bytes fits neither limits.memory_bytes / 8 nor "
            f"limits.spool_bytes ({store.spool.limit_bytes})",
        )
    return Part(limit, lease=None, spool=SpoolFile(await store.spool.reserve(limit), store.spool_dir))
