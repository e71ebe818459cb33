"""One answer of an origin to readers and store: the same for what is stored at once and for what streams."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import pytest

from scheduler.front.pull.fill import Fill, Opened
from scheduler.front.pull.spool import BodyFailed, Spool
from scheduler.front.pull.tee import AT_ONCE_BYTES, Tee
from workers.errors import ControlCharacter, DigestMismatch, OriginTruncated, StoreError, StoreUnavailable
from workers.origin.fetch.fetched import Fetched
from workers.plan import FetchItem, FetchPlan, Origin, OriginGroup
from workers.store.model import Commit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workers.store.model import ObjectMeta

PIECE = b"0123456789abcdef" * 1024
#: Bytes of the body: stored at once when all of it is here, and by a task of its own while it comes.
WAYS = pytest.mark.parametrize("size", [1, AT_ONCE_BYTES, AT_ONCE_BYTES + 1, 5 * AT_ONCE_BYTES])


class _Upload:
    def __init__(self, store: _Store, size: int | None) -> None:
        self._store = store
        self._size = size
        self._got = bytearray()
        self.at_large = False

    async def __aenter__(self) -> Self:
        self._store.open += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._store.open -= 1

    async def write(self, data: bytes) -> None:
        await asyncio.sleep(0)
        self._got += data

    async def commit(self) -> Commit:
        if self._store.error is not None:
            self.at_large = self._store.at_large
            raise self._store.error
        self._store.committing.set()
        await self._store.may_commit.wait()
        assert self._size is None or len(self._got) == self._size
        self._store.objects.append(bytes(self._got))
        return Commit(created=True, etag="e", size=len(self._got), sha256="")


class _Store:
    """Keeps what is committed."""

    def __init__(self) -> None:
        self.objects: list[bytes] = []
        self.open = 0
        self.error: BaseException | None = None
        self.at_large = False
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.committing = asyncio.Event()

    def upload(
        self, _bucket: str, _key: str, _meta: ObjectMeta, *, attempt: str, size: int | None
    ) -> _Upload:
        assert attempt
        return _Upload(self, size)


class _Stats:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def outcome(self, _bucket: str, _rule: str, outcome: str, **_: object) -> None:
        self.counts[outcome] += 1

    def failed(self, _bucket: str, _rule: str, reason: str) -> None:
        self.counts[reason] += 1


class _World:
    def __init__(self, tmp_path: Any) -> None:
        self.store, self.stats = _Store(), _Stats()
        self.spool = Spool(tmp_path, memory_bytes=1 << 20, disk_bytes=1 << 24, window_bytes=64 * 1024)
        self.remembered: list[str] = []
        self.late: list[str] = []
        self.deleted = False
        self.tee = Tee(
            store=self.store,  # type: ignore[arg-type]  # as far as it is used
            claims=SimpleNamespace(deleted_meanwhile=self._deleted_meanwhile, note_late=self._note_late),  # type: ignore[arg-type]
            spool=self.spool,
            stats=self.stats,  # type: ignore[arg-type]
            afterwards=SimpleNamespace(stored=lambda _b, key: self.remembered.append(key)),  # type: ignore[arg-type]
            max_object_bytes=None,
        )

    async def _note_late(self, _bucket: str, key: str) -> None:
        self.late.append(key)

    async def _deleted_meanwhile(self, _bucket: str, _key: str) -> bool:
        return self.deleted

    def is_clean(self) -> bool:
        return not (self.store.open or self.spool.memory.used_bytes or self.spool.disk.used_bytes)


@pytest.fixture
async def world(tmp_path: Any) -> _World:
    return _World(tmp_path)


def _fill(key: str = "k", **store: Any) -> Fill:
    base = FetchPlan(bucket="b", rule="r", groups=(OriginGroup(primary=Origin(host="o")),))
    if store:
        from dataclasses import replace

        base = replace(base, store=replace(base.store, **store))
    fill = Fill(plan=base, item=FetchItem(key=key, path=key), looked_at=0.0)
    fill.followers = fill.waiting = 1
    return fill


def _answer(size: int, *, error: BaseException | None = None, hold: asyncio.Event | None = None) -> Fetched:
    async def pieces() -> AsyncIterator[bytes]:
        body = (PIECE * (size // len(PIECE) + 1))[:size]
        half = max(1, size // 2)
        for piece in (body[:half], body[half:]):
            await asyncio.sleep(0)
            if piece:
                yield piece
            if hold is not None:
                await hold.wait()
        if error is not None:
            raise error

    coming = pieces()
    return Fetched(
        status=200,
        headers=(("Content-Type", "text/plain"),),
        length=size,
        framing="length",
        content_range=None,
        origin="o",
        url="http://o/k",
        digests_offered=False,
        _read=lambda _: anext(coming, b""),
    )


async def _read(fill: Fill) -> bytes:
    """What a client gets of it."""
    opened = await fill.opening
    assert isinstance(opened, Opened)
    reader = opened.body.reader()
    opened.body.arrived()
    got = bytearray()
    try:
        while chunk := await reader.read_some():
            got += chunk
    finally:
        reader.close()
        fill.followers -= 1
    return bytes(got)


@WAYS
async def test_client_and_store_get_every_byte(world: _World, size: int) -> None:
    fill = _fill()
    client = asyncio.create_task(_read(fill))
    assert await world.tee.run(fill, _answer(size), save=True) is None
    assert await client == world.store.objects[0]
    assert len(world.store.objects[0]) == size
    assert fill.committed
    assert world.remembered == ["k"]
    assert world.stats.counts == {"stored": 1}
    assert world.is_clean()


@WAYS
async def test_the_client_has_everything_before_the_store_has_committed(world: _World, size: int) -> None:
    world.store.may_commit.clear()
    fill = _fill()
    running = asyncio.create_task(world.tee.run(fill, _answer(size), save=True))
    async with asyncio.timeout(10):
        assert len(await _read(fill)) == size
    assert not running.done()
    world.store.may_commit.set()
    assert await running is None
    assert world.is_clean()


@WAYS
async def test_an_origin_that_breaks_off_leaves_nothing_in_the_store(world: _World, size: int) -> None:
    fill = _fill()
    client = asyncio.create_task(_read(fill))
    broken = OriginTruncated("cut", origin="o")
    assert await world.tee.run(fill, _answer(size, error=broken), save=True) is broken
    with pytest.raises(BodyFailed):
        await client
    assert world.store.objects == []
    assert not fill.committed
    assert world.is_clean()


@WAYS
async def test_bytes_that_are_wrong_are_not_stored_though_a_rule_hands_them_out_f43(
    world: _World, size: int
) -> None:
    fill = _fill(check_md5="off")
    client = asyncio.create_task(_read(fill))
    wrong = DigestMismatch("x", origin="o", algorithm="md5", expected="a", actual="b")
    assert await world.tee.run(fill, _answer(size, error=wrong), save=True) is wrong
    assert len(await client) == size
    assert world.store.objects == []
    assert world.is_clean()


@WAYS
@pytest.mark.parametrize("at_large", [False, True])
async def test_a_store_that_fails_costs_the_client_nothing(world: _World, size: int, at_large: bool) -> None:
    world.store.error, world.store.at_large = StoreUnavailable("away"), at_large
    fill = _fill()
    client = asyncio.create_task(_read(fill))
    assert await world.tee.run(fill, _answer(size), save=True) is world.store.error
    assert len(await client) == size
    assert world.stats.counts == {"store_unavailable": 1}
    assert world.late == ["k"] * at_large, "for a minute nobody deletes what may yet appear"
    assert world.is_clean()


@WAYS
async def test_a_fault_of_ours_at_the_store_costs_the_client_nothing(world: _World, size: int) -> None:
    world.store.error = ValueError("a fault")
    fill = _fill()
    client = asyncio.create_task(_read(fill))
    failed = await world.tee.run(fill, _answer(size), save=True)
    assert isinstance(failed, StoreError)
    assert len(await client) == size
    assert world.is_clean()


@WAYS
async def test_a_key_that_no_list_could_show_is_not_stored(world: _World, size: int) -> None:
    fill = _fill("k\x01")
    client = asyncio.create_task(_read(fill))
    assert isinstance(await world.tee.run(fill, _answer(size), save=True), ControlCharacter)
    assert len(await client) == size
    assert world.store.objects == []
    assert world.is_clean()


@WAYS
async def test_what_was_deleted_while_it_was_pulled_without_a_claim_is_not_stored_s15(
    world: _World, size: int
) -> None:
    world.deleted = True
    fill = _fill()
    fill.unclaimed = True
    client = asyncio.create_task(_read(fill))
    assert await world.tee.run(fill, _answer(size), save=True) is None
    assert len(await client) == size
    assert world.store.objects == []
    assert not fill.committed
    assert world.is_clean()


@WAYS
async def test_what_a_rule_finds_too_large_is_handed_out_and_not_stored(world: _World, size: int) -> None:
    fill = _fill(max_object_bytes=size - 1) if size > 1 else _fill(save=False)
    client = asyncio.create_task(_read(fill))
    assert await world.tee.run(fill, _answer(size), save=size > 1) is None
    assert len(await client) == size
    assert world.store.objects == []
    assert world.is_clean()


@WAYS
async def test_the_store_gets_it_though_every_client_has_left(world: _World, size: int) -> None:
    fill = _fill()
    fill.followers = fill.waiting = 0
    assert await world.tee.run(fill, _answer(size), save=True) is None
    assert [len(one) for one in world.store.objects] == [size]
    assert world.is_clean()


@WAYS
@pytest.mark.parametrize("at", ["origin", "store"])
async def test_a_pull_that_is_cancelled_leaves_nothing_behind(world: _World, size: int, at: str) -> None:
    hold = asyncio.Event() if at == "origin" else None
    world.store.may_commit.clear()
    fill = _fill()
    client = asyncio.create_task(_read(fill))
    running = asyncio.create_task(world.tee.run(fill, _answer(size, hold=hold), save=True))
    async with asyncio.timeout(10):
        await (fill.opening if at == "origin" else world.store.committing.wait())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    if hold is not None:
        with pytest.raises(BodyFailed):
            await client
    else:
        assert len(await client) == size
    assert world.store.objects == []
    assert world.is_clean()
