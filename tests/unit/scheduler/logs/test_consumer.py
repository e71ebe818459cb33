"""One consumer over real files and a sink that the test holds."""

# ruff: noqa: E501 -- tables of real lines read best unbroken

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import socket
import time
from collections import Counter
from pathlib import Path

import pytest
import structlog

from scheduler.dispatch.sink import DrySink
from scheduler.logs import sources
from scheduler.logs.checkpoint import Checkpoint
from scheduler.logs.collect import Collector, Recent, Tally
from scheduler.logs.consumer import Consumer, InputSpec
from scheduler.logs.formats import nginx
from support.logs.filters import filter_of
from support.logs.lines import WRITERS, Wanted
from support.patience import PATIENCE_S
from workers.errors import ConfigError
from workers.telemetry import metrics

FILTER = filter_of(bucket="site")


def line(key: str, **parts) -> bytes:
    return WRITERS["nginx"](Wanted(key=key, target=f"/{key}".encode(), **parts)) + b"\n"


def write(path: Path, *lines: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"".join(lines))


class HeldSink:
    """Takes everything; waits while `gate` is clear."""

    waiting_for = ""

    def __init__(self):
        self.keys = []
        self.deleted = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls = 0

    async def deliver(self, events, deletions):
        self.calls += 1
        await self.gate.wait()
        self.keys += [event.key for event in events]
        self.deleted += [one.key for one in deletions]
        return Counter(accepted=len(events))


async def until(condition, seconds=PATIENCE_S):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        await asyncio.sleep(0.01)


def spec(path, **parts):
    return InputSpec(**({"path": str(path), "format": None, "filter": FILTER, "fresh": "start"} | parts))


async def once(tmp_path, *specs, **options):
    sink = HeldSink()
    checkpoint = Checkpoint(tmp_path / "state" / "c.json")
    with checkpoint.hold():
        consumer = Consumer(specs, sink=sink, checkpoint=checkpoint, once=True, **options)
        await asyncio.wait_for(consumer.run(asyncio.Event()), 30)
    return sink, consumer


async def test_misses_of_many_files_reach_the_sink_once_each(tmp_path):
    for name in ("a", "b"):
        write(
            tmp_path / f"{name}.log",
            line(f"{name}1"),
            line("hit", status=200),
            line(f"{name}1"),
            line("both"),
        )
    sink, consumer = await once(tmp_path, spec(tmp_path / "*.log"))
    assert sorted(sink.keys) == ["a1", "b1", "both"]
    assert consumer.totals["lines"] == 8
    assert consumer.totals["misses"] == 6
    assert consumer.totals["repeats"] == 3


async def test_lines_are_counted_by_what_they_were(tmp_path):
    log = tmp_path / "counted.log"
    write(log, line("one"), line("hit", status=200), line("one"), b"no log line\n")
    await once(tmp_path, spec(log))
    text = metrics.render().decode()
    found = {
        result: f'ferryman_consumer_lines_total{{log="{log}",result="{result}"}} {number}.0' in text
        for result, number in (("miss", 2), ("other", 1), ("unreadable", 1))
    }
    assert found == {"miss": True, "other": True, "unreadable": True}


async def test_a_line_that_is_logged_as_a_sample_has_no_query_string(tmp_path):
    log = tmp_path / "a.log"
    broken = b'garbage "GET /k?token=hidden HTTP/1.1"\n'
    write(log, line("k"), broken, *(line(f"k{n}") for n in range(20)))
    with structlog.testing.capture_logs() as logged:
        _, consumer = await once(tmp_path, spec(log))
    assert consumer.status()["files"][0]["broken"] == 1
    told = next(entry for entry in logged if entry["event"] == "log_lines_broken")
    assert "GET /k?... HTTP/1.1" in told["sample"]
    assert "hidden" not in str(logged) + str(consumer.status())


async def test_a_second_run_goes_on_where_the_first_ended(tmp_path):
    log = tmp_path / "a.log"
    write(log, line("one"))
    assert (await once(tmp_path, spec(log)))[0].keys == ["one"]
    write(log, line("two"))
    assert (await once(tmp_path, spec(log)))[0].keys == ["two"]
    assert (await once(tmp_path, spec(log, resume=False)))[0].keys == ["one", "two"]


async def test_the_checkpoint_moves_only_after_the_sink_has_the_chunk(tmp_path):
    log = tmp_path / "a.log"
    write(log, line("one"))
    sink = HeldSink()
    sink.gate.clear()
    checkpoint = Checkpoint(tmp_path / "c.json")
    stop = asyncio.Event()
    with checkpoint.hold():
        consumer = Consumer([spec(log)], sink=sink, checkpoint=checkpoint)
        running = asyncio.create_task(consumer.run(stop))
        await until(lambda: sink.calls == 1)
        await asyncio.sleep(0.3)
        assert [mark.offset for mark in checkpoint.entry(log).marks] == [0]
        sink.gate.set()
        await until(lambda: [mark.offset for mark in checkpoint.entry(log).marks] == [log.stat().st_size])
        stop.set()
        await running


async def test_reading_waits_while_the_sink_waits(tmp_path):
    """At most one chunk is read ahead: a slow queue costs no memory and drops nothing."""
    log = tmp_path / "a.log"
    for number in range(50):
        write(log, *(line(f"k{number}-{n}") for n in range(20)))
    sink = HeldSink()
    sink.gate.clear()
    checkpoint = Checkpoint(None)
    stop = asyncio.Event()
    consumer = Consumer([spec(log)], sink=sink, checkpoint=checkpoint, chunk_bytes=4096)
    running = asyncio.create_task(consumer.run(stop))
    await until(lambda: sink.calls == 1)
    await asyncio.sleep(0.3)
    assert sink.calls == 1
    assert consumer.totals["lines"] < 100
    sink.gate.set()
    await until(lambda: len(sink.keys) == 1000)
    assert len(set(sink.keys)) == 1000
    stop.set()
    await running


async def test_a_stop_while_the_sink_waits_ends_at_once_and_forgets_nothing(tmp_path):
    from scheduler.dispatch.sink import Stopped

    class Waiting(HeldSink):
        async def deliver(self, events, deletions):
            self.calls += 1
            await stop.wait()
            raise Stopped

    log = tmp_path / "a.log"
    write(log, line("one"))
    stop = asyncio.Event()
    sink = Waiting()
    checkpoint = Checkpoint(tmp_path / "c.json")
    with checkpoint.hold():
        consumer = Consumer([spec(log)], sink=sink, checkpoint=checkpoint)
        running = asyncio.create_task(consumer.run(stop))
        await until(lambda: sink.calls == 1)
        stop.set()
        await asyncio.wait_for(running, PATIENCE_S)
    assert (await once(tmp_path / "x", spec(log)))[0].keys == ["one"]
    with Checkpoint(tmp_path / "c.json").hold() as again:
        assert again.entry(log).marks[0].offset == 0


async def test_deletions_reach_the_sink_with_the_misses_of_their_chunk(tmp_path):
    """S15."""
    log = tmp_path / "a.log"
    write(
        log,
        line("gone", method="DELETE", status=204),
        line("gone"),
        line("kept", method="DELETE", status=403),
    )
    sink, _ = await once(tmp_path, spec(log))
    assert (sink.deleted, sink.keys) == (["gone"], ["gone"])


async def test_packed_files_are_read_for_replay(tmp_path):
    with gzip.open(tmp_path / "old.log.gz", "wb") as packed:
        packed.write(line("packed") * 3 + line("last").rstrip())
    sink, _ = await once(tmp_path, spec(tmp_path / "old.log.gz"))
    assert sink.keys == ["packed", "last"]


async def test_a_pattern_reads_packed_files_only_when_asked(tmp_path):
    write(tmp_path / "a.log", line("plain"))
    with gzip.open(tmp_path / "a.log.1.gz", "wb") as packed:
        packed.write(line("packed"))
    assert (await once(tmp_path, spec(tmp_path / "a.log*"), packed=True))[0].keys == ["plain", "packed"]
    assert (await once(tmp_path / "x", spec(tmp_path / "a.log*"), packed=False))[0].keys == ["plain"]


@pytest.mark.parametrize(
    ("form", "content", "message"),
    [
        (None, b"nothing that anybody logs\n", r"a\.log:1: no known log format"),
        (None, b"\x00\x01\x02" * 100, r"a\.log:1: no known log format"),
        (nginx.COMBINED, WRITERS["haproxy"](Wanted()) + b"\n", r"a\.log:1: not in format 'nginx'; it looks like 'haproxy'"),
    ],
)  # fmt: skip
async def test_a_file_of_another_format_is_said_with_file_and_line(tmp_path, form, content, message):
    log = tmp_path / "a.log"
    log.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        await once(tmp_path, spec(log, format=form), strict=True)


async def test_a_follower_holds_a_file_it_cannot_read_and_goes_on_with_the_others(tmp_path):
    write(tmp_path / "bad.log", b"rubbish\n" * 5)
    write(tmp_path / "good.log", line("k"))
    sink = HeldSink()
    stop = asyncio.Event()
    consumer = Consumer([spec(tmp_path / "*.log")], sink=sink, checkpoint=Checkpoint(None))
    running = asyncio.create_task(consumer.run(stop))
    await until(lambda: sink.keys == ["k"])
    assert next(one for one in consumer.status()["files"] if "bad" in one["path"])["lag_bytes"] == 40
    stop.set()
    await running


async def test_broken_lines_are_counted_and_kept_as_samples(tmp_path):
    log = tmp_path / "a.log"
    write(
        log,
        line("one"),
        b'garbage " 404 here\n',
        b'\xff\xfe binary " 404 x\n',
        line("two"),
        line("three"),
        line("four"),
    )
    sink, consumer = await once(tmp_path, spec(log))
    assert sink.keys == ["one", "two", "three", "four"]
    status = consumer.status()["files"][0]
    assert status["broken"] >= 2
    assert any("garbage" in one["line"] for one in status["samples"])


async def test_files_that_appear_are_followed(tmp_path):
    sink = HeldSink()
    stop = asyncio.Event()
    consumer = Consumer([spec(tmp_path / "*.log", fresh="end")], sink=sink, checkpoint=Checkpoint(None))
    running = asyncio.create_task(consumer.run(stop))
    await asyncio.sleep(0.05)
    write(tmp_path / "new.log", line("first"))
    await until(lambda: sink.keys == ["first"])
    stop.set()
    await running


async def test_a_unix_syslog_socket_is_a_log(tmp_path):
    address = f"unix:{tmp_path}/log.sock"
    sink = HeldSink()
    stop = asyncio.Event()
    consumer = Consumer([spec(address)], sink=sink, checkpoint=Checkpoint(None))
    running = asyncio.create_task(consumer.run(stop))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for number in range(3):
            sender.sendto(b"<190>Nov 21 03:56:35 host nginx: " + line(f"k{number}").rstrip(), address[5:])
    await until(lambda: sink.keys == ["k0", "k1", "k2"])
    stop.set()
    await running
    assert not Path(address[5:]).exists()


async def test_a_udp_syslog_socket_counts_what_the_kernel_dropped(monkeypatch):
    monkeypatch.setattr(sources, "_HELD_BYTES", -1)  # nobody listens: the queue is slow
    stream = sources.SyslogStream("udp:127.0.0.1:0")
    stream._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.sleep(0.6)  # the receiver is past its first wait
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:

        def send(text: bytes) -> None:
            sender.sendto(b"<190>Nov 21 03:56:35 host nginx: " + text, ("127.0.0.1", stream.port))

        for number in range(200):
            send(line(f"k{number}").rstrip())
        monkeypatch.setattr(sources, "_HELD_BYTES", 1 << 20)
        received = 0

        def more() -> bool:
            nonlocal received
            got = stream.poll(1 << 20, now=0.0)
            received += got[1].count(b"\n") if got else 0
            return got is not None

        await until(more)
        await asyncio.sleep(0.2)
        more()
        send(b"one more")
        await until(lambda: bool(stream._gaps))
        await until(more)
    gaps = stream.take_gaps()
    stream.close()
    assert 0 < received < 200
    assert sum(int(gap.reason.split()[3]) for gap in gaps) == 201 - received


def test_standard_input_is_read_to_its_end():
    read, written = os.pipe()
    stream = sources.StdinStream(read)
    os.write(written, line("one") + line("two").rstrip())
    os.close(written)
    got = b""
    deadline = time.monotonic() + 5
    while not stream.finished and time.monotonic() < deadline:
        found = stream.poll(1 << 20, now=0.0)
        got += found[1] if found else b""
    assert got == line("one") + line("two")


async def test_a_full_disk_ends_no_consumer_and_the_checkpoint_follows(tmp_path, monkeypatch):
    log = tmp_path / "a.log"
    write(log, line("one"))
    checkpoint = Checkpoint(tmp_path / "c.json")
    save = checkpoint.save
    refused = 0

    def full():
        nonlocal refused
        if refused < 2:
            refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save()

    monkeypatch.setattr(checkpoint, "save", full)
    sink = HeldSink()
    stop = asyncio.Event()
    with checkpoint.hold():
        consumer = Consumer([spec(log, fresh="start")], sink=sink, checkpoint=checkpoint)
        running = asyncio.create_task(consumer.run(stop))
        await until(lambda: refused >= 1)
        write(log, line("two"))
        # Both refusals have to be over, or the second is that of the save at the end.
        await until(lambda: sink.keys == ["one", "two"] and refused == 2)
        stop.set()
        await running
    with Checkpoint(tmp_path / "c.json").hold() as again:
        assert again.entry(log).marks[0].offset == log.stat().st_size


async def test_a_dry_run_shows_every_key_once(tmp_path):
    write(tmp_path / "a.log", line("one"), line("two"), line("one"))
    shown = []
    consumer = Consumer(
        [spec(tmp_path / "a.log")], sink=DrySink(lambda one: shown.append(one.key)), checkpoint=Checkpoint(None), once=True
    )  # fmt: skip
    await consumer.run(asyncio.Event())
    assert shown == ["one", "two"]
    assert (consumer.totals["would_fetch"], consumer.totals["accepted"]) == (2, 0), "nothing was queued"


def test_two_consumers_of_one_checkpoint_are_refused(tmp_path):
    with Checkpoint(tmp_path / "c.json").hold(), pytest.raises(ConfigError, match="another consumer"):
        Checkpoint(tmp_path / "c.json").hold().__enter__()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": 9}', b'{"version": 1, "files": {"x": 3}}']
)
def test_a_damaged_checkpoint_is_an_error_and_no_fresh_start(tmp_path, content):
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(ConfigError, match="checkpoint"):
        Checkpoint(tmp_path / "c.json").hold().__enter__()


def test_a_repeat_is_let_through_again_after_the_window():
    recent = Recent(4.0)
    collector = Collector(nginx.COMBINED, FILTER, tally=Tally(), recent=recent)
    chunk = line("k") * 3
    assert [len(collector.read(chunk, now=at).events) for at in (0.0, 1.0, 1.9, 10.0)] == [1, 0, 0, 1]


def test_a_head_that_is_no_miss_is_never_counted_as_a_repeat():
    tally = Tally()
    collector = Collector(nginx.COMBINED, FILTER, tally=tally, recent=Recent())
    collector.read(line("k", method="HEAD") * 5, now=0.0)
    assert (tally.misses, tally.ignored["method"]) == (0, 5)


def test_a_bad_line_is_counted_once_whether_it_looks_like_a_miss_or_not():
    tally = Tally()
    collector = Collector(nginx.COMBINED, FILTER, tally=tally, recent=Recent())
    collector.read(line("k") + b'damaged "GET /x HTTP/1.1" 404 line\n' + b"something else\n", now=0.0)
    assert (tally.broken, len(tally.samples)) == (2, 2)
    collector.read(b'damaged "GET /x HTTP/1.1" 404 line\n' * 2, now=0.0)
    assert tally.broken == 4
