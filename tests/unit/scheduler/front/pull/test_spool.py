"""One writer, many readers, memory then disk."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.front.pull.spool import BodyFailed, BodyUnavailable, Spool

KIB = 1024


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool", memory_bytes=256 * KIB, disk_bytes=4096 * KIB, window_bytes=64 * KIB)


async def read_all(reader):
    found = bytearray()
    try:
        while chunk := await reader.read_some():
            found += chunk
    finally:
        reader.close()
    return bytes(found)


async def test_readers_who_come_at_any_time_get_every_byte_from_the_first(spool):
    data = os.urandom(700 * KIB)
    body = spool.body()
    readers = [asyncio.create_task(read_all(body.reader()))]
    for at in range(0, len(data), 10_000):
        await body.write(data[at : at + 10_000])
        if at % 200_000 == 0:
            readers.append(asyncio.create_task(read_all(body.reader())))
    body.finish()
    readers.append(asyncio.create_task(read_all(body.reader())))
    body.close()
    assert all(got == data for got in await asyncio.gather(*readers))
    assert spool.memory.used_bytes == 0
    assert spool.disk.used_bytes == 0


async def test_what_does_not_fit_the_window_goes_to_an_unlinked_file(spool):
    body = spool.body()
    await body.write(b"x" * 300 * KIB)
    await body.write(b"y" * 10)
    assert spool.disk.used_bytes >= 300 * KIB
    assert list(spool.directory.iterdir()) == []
    assert spool.memory.used_bytes <= 64 * KIB
    body.fail(RuntimeError("over"))
    body.close()
    assert spool.disk.used_bytes == 0


async def test_a_failed_body_is_never_taken_for_a_whole_one(spool):
    body = spool.body()
    reader = body.reader()
    await body.write(b"abc")
    body.fail(ValueError("cut"))
    assert await reader.read_some() == b"abc"
    assert not reader.at_end
    with pytest.raises(BodyFailed) as caught:
        await reader.read_some()
    assert isinstance(caught.value.cause, ValueError)


async def test_the_end_is_there_only_when_the_writer_has_said_so(spool):
    body = spool.body()
    reader, part = body.reader(), body.reader(1, 2)
    await body.write(b"abc")
    assert await reader.read_some() == b"abc"
    assert await part.read_some() == b"b"
    assert not reader.at_end  # a digest may still be wrong
    assert part.at_end
    body.finish()
    assert reader.at_end
    assert await reader.read_some() == await part.read_some() == b""


async def test_a_reader_that_was_cancelled_while_it_waited_is_not_waited_for(spool):
    body = spool.body()
    gone, reader = body.reader(), body.reader()
    waiting = asyncio.create_task(gone.read_some())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    stays = asyncio.create_task(reader.read_some())
    await asyncio.sleep(0)
    await body.write(b"abc")
    assert await stays == b"abc"


async def test_the_end_is_held_back_until_it_is_known_to_be_good_a13(spool):
    body = spool.body()
    body.hold_back_bytes = 8
    reader = body.reader()
    await body.write(b"0123456789")
    assert await reader.read_some() == b"01"
    body.finish()
    assert await read_all(reader) == b"23456789"


async def test_held_back_bytes_never_go_out_when_the_body_fails_a13(spool):
    body = spool.body()
    body.hold_back_bytes = 64 * KIB
    await body.write(b"small")
    body.fail(ValueError("digest"))
    with pytest.raises(BodyFailed):
        await read_all(body.reader())
    assert body.readable == 0


async def test_a_reader_of_a_part_gets_that_part(spool):
    body = spool.body()
    await body.write(b"0123456789")
    await body.write(b"abcdef")
    assert await read_all(body.reader(8, 12)) == b"89ab"


async def test_with_memory_and_disk_spent_the_writer_waits_for_the_slowest_reader(tmp_path):
    spool = Spool(tmp_path, memory_bytes=64 * KIB, disk_bytes=0, window_bytes=32 * KIB)
    body = spool.body()
    slow = body.reader()

    async def write():
        for _ in range(20):
            await body.write(b"z" * 8 * KIB)
        body.finish()

    writing = asyncio.create_task(write())
    await asyncio.sleep(0.05)
    assert not writing.done()
    assert body.written < 80 * KIB
    assert len(await read_all(slow)) == 160 * KIB
    await writing


async def test_once_the_beginning_is_gone_nobody_can_join(tmp_path):
    spool = Spool(tmp_path, memory_bytes=64 * KIB, disk_bytes=0, window_bytes=32 * KIB)
    body = spool.body()
    for _ in range(20):
        await body.write(b"z" * 8 * KIB)
    assert not body.joinable
    with pytest.raises(BodyUnavailable):
        body.reader()


async def test_a_reader_that_leaves_frees_the_writer(tmp_path):
    spool = Spool(tmp_path, memory_bytes=64 * KIB, disk_bytes=0, window_bytes=32 * KIB)
    body = spool.body()
    reader = body.reader()
    writing = asyncio.create_task(body.write(b"z" * 100 * KIB))
    await asyncio.sleep(0.05)
    assert not writing.done()
    reader.close()
    await asyncio.wait_for(writing, 1)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40_000), min_size=1, max_size=30),
    window=st.integers(1, 60_000),
    memory=st.integers(0, 100_000),
    start=st.integers(0, 50_000),
    length=st.integers(1, 200_000),
)
def test_any_chunking_gives_the_same_bytes(tmp_path_factory, sizes, window, memory, start, length):
    async def run():
        spool = Spool(
            tmp_path_factory.mktemp("s"), memory_bytes=memory, disk_bytes=10**8, window_bytes=window
        )
        data = os.urandom(sum(sizes))
        body = spool.body()
        early = asyncio.create_task(read_all(body.reader()))
        at = 0
        for size in sizes:
            await body.write(data[at : at + size])
            at += size
        body.finish()
        late = body.reader(start, start + length)
        body.close()
        assert await read_all(late) == data[start : start + length]
        assert await early == data
        assert (spool.memory.used_bytes, spool.disk.used_bytes) == (0, 0)

    asyncio.run(run())


async def test_a_full_disk_slows_the_writer_and_spoils_nothing(spool, monkeypatch):
    body = spool.body()
    reader = body.reader()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scheduler.front.pull.spool._File.write_all", full)
    data = os.urandom(300 * KIB)

    async def write():
        for at in range(0, len(data), 10_000):
            await body.write(data[at : at + 10_000])
        body.finish()

    writing = asyncio.create_task(write())
    assert await read_all(reader) == data
    await writing
    assert spool.disk.used_bytes == 0
