"""Upload: bytes in, then exactly one commit or one abort.

Owns the cutting of bytes into parts and the decision how they are committed: one PUT (`single_put`) or a
multipart upload (`assembly`). Must not know origins. Leaving without `commit` undoes everything.

Where one PUT is guarded and completing parts is not, or there are no parts, an object goes in one PUT as far
as memory and disk reach (`StoreGuarantees.prefers_one_put`).

Memory: a whole part is reserved before its first byte is taken (`part`).
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Self

from workers.errors import KeyNotRepresentable, StoreError
from workers.store.write.assembly import Assembly
from workers.store.write.intent import Intent
from workers.store.write.part import reserve_part
from workers.store.write.parts import growing_part_bytes, one_put_bytes, uniform_part_bytes
from workers.store.write.settling import Settling
from workers.store.write.single_put import put_whole

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from workers.store.access import StoreAccess
    from workers.store.guarantees import StoreGuarantees
    from workers.store.memory import Reservation
    from workers.store.model import Commit, ObjectMeta
    from workers.store.write.part import Part


class Upload:
    """One object on its way in; use as an async context.

    `write` as often as there are bytes, then `commit` once. An upload that is left without a commit is
    aborted and leaves nothing behind. For the arguments see `ObjectStore.upload`;
    `guarantees` proves what a bucket honours where that is not known yet.
    """

    def __init__(
        self,
        store: StoreAccess,
        bucket: str,
        key: str,
        meta: ObjectMeta,
        *,
        attempt: str,
        size: int | None,
        replace_etag: str | None,
        lease: Reservation | None,
        guarantees: Callable[[str], Awaitable[StoreGuarantees]],
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._key = key
        self._meta = meta
        self._attempt = attempt
        self._size = size
        self._replace_etag = replace_etag
        self._lease = lease
        self._guarantees = guarantees
        self._sha = sha256()
        #: Bytes taken so far.
        self._taken = 0
        #: The part that is being filled, and its number from 1.
        self._part: Part
        self._number = 1
        #: Bytes of the largest object that goes in one PUT rather than in parts; 0 where parts do as well.
        self._one_put = 0
        self._intent: Intent
        self._assembly: Assembly | None = None
        #: It is among the objects that go in parts.
        self._in_parts = False
        self._finished = False
        self._settling: Settling | None = None

    @property
    def at_large(self) -> bool:
        """Whether the store was asked to make the object appear and gave no answer: it may yet do it.

        Also after a commit that came about by a later try than the one that had no answer.
        """
        return self._settling is not None and self._settling.unanswered > 0

    @property
    def _what(self) -> str:
        return f"{self._bucket}/{self._key}"

    # ------------------------------------------------------------------ bytes in

    async def __aenter__(self) -> Self:
        store = self._store
        lease, self._lease = self._lease, None
        try:
            known = store.known(self._bucket) or await self._guarantees(self._bucket)
            self._intent = Intent(
                store=store,
                known=known,
                bucket=self._bucket,
                key=self._key,
                meta=self._meta,
                attempt=self._attempt,
                replace_etag=self._replace_etag,
            )
            if known.prefers_one_put:
                self._one_put = one_put_bytes(
                    store.settings.part_size_bytes,
                    memory_bytes=store.memory.limit_bytes,
                    spool_bytes=store.spool.limit_bytes,
                )
            self._refuse_key(self._size)
            limit = self._part_bytes(1)
        except BaseException:
            if lease is not None:
                lease.release()
            raise
        self._part = await reserve_part(store, limit, lease=lease, what=self._what)
        if self._size is not None and self._size > limit:
            self._enter_parts()
        return self

    def _enter_parts(self) -> None:
        self._in_parts = True
        self._store.part_turns.enter()

    def _refuse_key(self, size: int | None) -> None:
        refusal = self._intent.known.refuses(self._key, size)
        if refusal is not None:
            raise KeyNotRepresentable(f"{self._what}: in this store {refusal}")

    async def write(self, data: bytes) -> None:
        """Take more bytes of the object; waits while the budget or the store is busy.

        Raises:
            StoreError: a part could not be sent, or more bytes come than were promised.
        """
        n_bytes = len(data)
        self._taken += n_bytes
        if self._size is not None and self._taken > self._size:
            raise StoreError(f"{self._what}: {self._taken} bytes came where {self._size} were promised")
        self._sha.update(data)
        part = self._part
        if n_bytes <= part.limit - part.filled:
            part.fill(data, n_bytes)
            return
        rest = memoryview(data)
        while rest:
            if part.filled == part.limit and not self._extended():
                part = await self._next_part()
            take = rest[: part.limit - part.filled]
            part.fill(take, len(take))
            rest = rest[len(take) :]

    def _extended(self) -> bool:
        """Whether a first part of unknown length goes on as one PUT, where that is the better way in."""
        settings = self._store.settings
        if not self._one_put or self._size is not None or self._number > 1 or settings.uniform_parts:
            return False
        part = self._part
        more = min(part.limit, self._one_put - part.limit)
        return more > 0 and part.extend(more, self._store)

    async def _next_part(self) -> Part:
        await self._send_part()
        self._number += 1
        limit = self._part_bytes(self._number)
        self._part = await reserve_part(self._store, limit, lease=None, what=self._what)
        return self._part

    async def _send_part(self) -> None:
        if self._assembly is None:
            self._assembly = Assembly(self._intent)
            if not self._in_parts:
                self._enter_parts()
        await self._assembly.add(self._part)

    def _part_bytes(self, number: int) -> int:
        settings = self._store.settings
        base = settings.part_size_bytes
        if self._size is None:
            return growing_part_bytes(number, base, uniform=settings.uniform_parts)
        if self._size <= self._one_put:
            return self._size
        part = uniform_part_bytes(self._size, base)
        return min(part, self._size - (number - 1) * part)

    # ------------------------------------------------------------------ commit

    async def commit(self) -> Commit:
        """Make the object appear, whole, unless another one holds the key.

        Raises:
            StoreError: it is not there, or nobody can tell (`at_large`); nothing half-written is left.
            KeyNotRepresentable: the store cannot hold this key beside another one (S17).
        """
        if self._finished:
            raise RuntimeError("an upload is committed once")
        if self._size is not None and self._taken != self._size:
            raise StoreError(f"{self._what}: {self._taken} bytes came where {self._size} were promised")
        if self._size is None:
            self._refuse_key(self._taken)
        settling = self._settling = Settling(intent=self._intent, sha256=self._sha.hexdigest())
        if self._assembly is None:
            commit = await put_whole(self._intent, self._part, settling)
        else:
            if self._part.filled:
                await self._send_part()
            commit = await self._assembly.complete(settling, self._taken)
        self._finished = True
        return commit

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._assembly is not None:
                await self._assembly.close()
        finally:
            if self._in_parts:
                self._in_parts = False
                self._store.part_turns.leave()
            self._part.close()
