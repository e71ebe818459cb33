"""A sorted inventory in the store, for a fleet that shares no disk: written once, read in parts, removed.

Owns the objects below `.ferryman/scans/<run>/sorted/` of the bucket of reports (else the scan's own)::

    .ferryman/scans/<run>/sorted/<digest>/00000000   lines as in the sorted file, whole ones, about 4 MiB
    .ferryman/scans/<run>/sorted/<digest>/index      orjson: the index, where the objects begin, their sums

The index is written last, so what has one is whole; `<digest>` is that of the entries: two who publish one
run write the same. Removed when the run ends; what a killed one leaves is removed with the names of its keys
by the next run, and by the sweep.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from bisect import bisect_right
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import orjson

from scheduler.scan.compare.index import decoded
from scheduler.scan.compare.sorted_file import NotThisFile, between, blocks_of, lines_of
from workers.background import end as ended

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.scan.compare.index import Index
    from scheduler.scan.compare.merge import Block
    from scheduler.scan.inventory.entry import Entry
    from workers.store.client import ObjectStore

#: Bytes of an object, to the next end of a line; and objects on their way at once.
PART_BYTES: Final = 4 << 20
_AT_ONCE: Final = 4
_PREFIX: Final = ".ferryman/scans/"
_OURS: Final = re.compile(r"\.ferryman/scans/(?P<run>[^/]+)/sorted/.+")
_KIND: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class PublishedInventory:
    """One in the store; made on an event loop, which must run on while parts are read."""

    store: ObjectStore
    bucket: str
    place: str
    index: Index
    #: Bytes of the sorted file that the objects begin at, and the last one ends at.
    begins: list[int]
    #: BLAKE2b of each object.
    sums: list[str]
    loop: asyncio.AbstractEventLoop

    def blocks(
        self, begin: str | None = None, end: str | None = None, *, after: str | None = None
    ) -> Iterator[Block[Entry]]:
        """As `ranges.SortedInventory.blocks`; the next object is read ahead."""
        collation = self.index.collation
        start = begin if after is None or (begin is not None and begin > after) else after
        from_at, to_at = self.index.span(start, end)
        for block in blocks_of(self._lines(from_at, to_at), collation, where=self.place):
            kept = between(block, collation, begin=begin, after=after, end=end)
            if kept.places:
                yield kept

    def _lines(self, from_at: int, to_at: int) -> Iterator[bytes]:
        number = bisect_right(self.begins, from_at) - 1
        if from_at >= to_at:
            return
        ahead = asyncio.run_coroutine_threadsafe(self._part(number), self.loop)
        try:
            while True:
                body, here = ahead.result(), self.begins[number]
                number += 1
                if number < len(self.sums) and self.begins[number] < to_at:
                    ahead = asyncio.run_coroutine_threadsafe(self._part(number), self.loop)
                low, high = max(0, from_at - here), min(len(body), to_at - here)
                while low < high:
                    # As many at a time as of a file: what is made of them is held in memory.
                    cut = body.find(b"\n", min(high, low + (1 << 18)) - 1) + 1
                    yield body[low:cut]
                    low = cut
                if here + len(body) >= to_at:
                    return
        finally:
            ahead.cancel()

    async def _part(self, number: int) -> bytes:
        body = await _read(self.store, self.bucket, f"{self.place}{number:08d}")
        if body is None or (
            len(body) != self.begins[number + 1] - self.begins[number]
            or _sum(body) != self.sums[number]
            or not body.endswith(b"\n")
        ):
            msg = f"{self.bucket}/{self.place}{number:08d}: {'gone' if body is None else 'damaged'}"
            raise NotThisFile(msg)
        return body


def place_of(run: str, digest: str = "") -> str:
    """What the keys of a run's objects begin with."""
    return f"{_PREFIX}{run}/sorted/{digest and digest + '/'}"


def _sum(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


async def _read(store: ObjectStore, bucket: str, key: str) -> bytes | None:
    async with await store.get(bucket, key) as answer:
        return await answer.read() if answer.status == 200 else None


async def publish(store: ObjectStore, bucket: str, run: str, digest: str, path: Path, index: Index) -> None:
    """Put a sorted file into the store, unless it is there.

    Raises:
        StoreError: the store does not take it; nothing has an index then.
    """
    place = place_of(run, digest)
    if await _read(store, bucket, f"{place}index") is not None:
        return
    begins = [index.at[0] if index.at else index.end_at]
    sums: list[str] = []
    running: set[asyncio.Task[None]] = set()
    parts = _parts(path, begins[0], index.end_at)
    try:
        while body := await asyncio.to_thread(next, parts, b""):
            key = f"{place}{len(sums):08d}"
            running.add(asyncio.create_task(store.put_small(bucket, key, body, content_type=_KIND)))
            sums.append(_sum(body))
            begins.append(begins[-1] + len(body))
            while len(running) >= _AT_ONCE:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        for task in list(running):
            await task
    finally:
        await ended(*running)
    said = orjson.dumps({"index": asdict(index), "begins": begins, "sums": sums})
    await store.put_small(bucket, f"{place}index", said, content_type="application/json")


def _parts(path: Path, begin_at: int, end_at: int) -> Iterator[bytes]:
    held: list[bytes] = []
    for lines in lines_of(path, begin_at, end_at):
        held.append(lines)
        if sum(map(len, held)) >= PART_BYTES:
            yield b"".join(held)
            held = []
    if held:
        yield b"".join(held)


async def open_published(
    store: ObjectStore, bucket: str, run: str, digest: str, *, of: str
) -> PublishedInventory | None:
    """What `publish` put there; None when there is none.

    Raises:
        NotThisFile: it is damaged, or of something else.
        StoreError: the store does not give it.
    """
    place = place_of(run, digest)
    said = await _read(store, bucket, f"{place}index")
    if said is None:
        return None
    try:
        record = orjson.loads(said)
        index = decoded(orjson.dumps(record["index"]))
        begins, sums = [int(at) for at in record["begins"]], [str(one) for one in record["sums"]]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{bucket}/{place}index: {error}"
        raise NotThisFile(msg) from error
    fits = len(begins) == len(sums) + 1 and begins[-1] == index.end_at
    if index.of != of or not fits or any(low >= high for low, high in pairwise(begins)):
        msg = (
            f"{bucket}/{place}index: holds {index.of}, not {of}"
            if fits
            else f"{bucket}/{place}index: damaged"
        )
        raise NotThisFile(msg)
    return PublishedInventory(store, bucket, place, index, begins, sums, asyncio.get_running_loop())


async def withdraw(store: ObjectStore, bucket: str, run: str) -> None:
    """Remove what a run has published; what is not there is no error.

    Raises:
        StoreError: the store does not list or delete it; the sweep tries again.
    """
    keys = [one.key async for page in store.list(bucket, place_of(run)) for one in page.objects]
    # The index first: without it nothing is taken for whole.
    for key in sorted(keys, key=lambda key: not key.endswith("/index")):
        await store.delete(bucket, key)


async def withdraw_stale(
    store: ObjectStore, bucket: str, *, but: set[str], older_than_s: float, now: float
) -> int:
    """Remove what runs other than these have left, once it is old enough; how many objects.

    Raises:
        StoreError: the store does not list or delete.
    """
    removed = 0
    async for page in store.list(bucket, _PREFIX):
        for one in page.objects:
            found = _OURS.fullmatch(one.key)
            if found and found["run"] not in but and now - one.last_modified > older_than_s:
                await store.delete(bucket, one.key)
                removed += 1
    return removed
