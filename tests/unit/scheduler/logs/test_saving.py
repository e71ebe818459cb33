"""The checkpoint is written beside the reading: one write at a time, and what came last is on the disk."""

from __future__ import annotations

import asyncio
import threading

from scheduler.logs import checkpoint as checkpoints
from scheduler.logs.checkpoint import Checkpoint
from scheduler.logs.identity import Mark
from scheduler.logs.saving import Saver


def mark(offset: int) -> Mark:
    return Mark(device=1, inode=2, offset=offset, head="", tail="", size=offset)


class SlowDisk:
    """Writes wait until they are let through; counted."""

    def __init__(self, monkeypatch):
        self.begun = threading.Semaphore(0)
        self.through = threading.Semaphore(0)
        self.writes = 0
        write = checkpoints._write

        def slow(path, entries):
            self.begun.release()
            assert self.through.acquire(timeout=20)
            self.writes += 1
            write(path, entries)

        monkeypatch.setattr(checkpoints, "_write", slow)


def saved(path, log):
    with Checkpoint(path).hold() as again:
        return again.entry(log).marks[0].offset


async def test_what_moves_while_a_write_is_under_way_is_written_by_one_more(tmp_path, monkeypatch):
    disk = SlowDisk(monkeypatch)
    log = tmp_path / "a.log"
    checkpoint = Checkpoint(tmp_path / "c.json")
    with checkpoint.hold():
        saver = Saver(checkpoint)
        checkpoint.put(log, [mark(1)], seen_at=0.0)
        saver.soon()
        assert await asyncio.to_thread(disk.begun.acquire, timeout=20)
        for offset in range(2, 50):  # the loop is free: nothing here waits for the disk
            checkpoint.put(log, [mark(offset)], seen_at=0.0)
            saver.soon()
            await asyncio.sleep(0)
        disk.through.release(2)
        assert await asyncio.to_thread(disk.begun.acquire, timeout=20)
        saver.finish()
    assert disk.writes == 2
    assert saved(tmp_path / "c.json", log) == 49


async def test_the_end_waits_for_the_write_under_way_and_writes_the_rest(tmp_path, monkeypatch):
    disk = SlowDisk(monkeypatch)
    log = tmp_path / "a.log"
    checkpoint = Checkpoint(tmp_path / "c.json")
    with checkpoint.hold():
        saver = Saver(checkpoint)
        checkpoint.put(log, [mark(1)], seen_at=0.0)
        saver.soon()
        assert await asyncio.to_thread(disk.begun.acquire, timeout=20)
        checkpoint.put(log, [mark(2)], seen_at=0.0)
        threading.Timer(0.1, disk.through.release, (2,)).start()
        saver.finish()
    assert saved(tmp_path / "c.json", log) == 2
