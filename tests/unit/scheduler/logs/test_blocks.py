"""Blocks of lines give what the lines give one by one, however they are cut, damaged and rotated."""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.logs.collect import Collector, Recent, Tally
from scheduler.logs.formats.catalog import format_by_name
from scheduler.logs.formats.prefilter import candidates, count_lines, lines_with, literal_needle
from scheduler.logs.syslog import strip_header
from scheduler.logs.tail import Tail
from scheduler.misses.event import MissEvent
from scheduler.misses.refusals import Deletion, Refused
from support.logs.filters import filter_of
from support.logs.lines import WRITERS, Wanted, target_of

HEADER = b"<190>Nov 21 03:56:35 host nginx: "

KEYS = st.sampled_from(["a.txt", "d/b 1.jpg", "404", "x 404 y", "中/é.png", "DELETE", 'q" 404 "', "k" * 300])
REQUESTS = st.builds(
    lambda key, method, status, query: Wanted(
        key=key, target=target_of(key, query), method=method, status=status, agent="DELETE 404 bot"
    ),
    key=KEYS,
    method=st.sampled_from(["GET", "GET", "GET", "HEAD", "DELETE"]),
    status=st.sampled_from([200, 204, 304, 403, 404, 404, 404, 410, 500]),
    query=st.sampled_from(["", "a=404", "uploadId=1"]),
)
FLIPPED = st.tuples(st.just("byte"), st.integers(0, 200), st.binary(min_size=1, max_size=2))
#: What is done to a line as its program wrote it.
DAMAGE = st.one_of(
    st.none(),
    st.none(),
    st.none(),
    st.tuples(st.just("carriage return")),
    st.tuples(st.just("cut"), st.integers(0, 200)),
    st.tuples(st.just("instead"), st.sampled_from([b"", b" ", b'garbage " 404 here', b"\xff\xfe 404 \x00"])),
)


def damaged(line: bytes, damage) -> bytes:
    match damage:
        case ("carriage return",):
            line += b"\r"
        case ("cut", at):
            line = line[:at]
        case ("byte", at, flip):
            line = line[:at] + flip + line[at + 1 :]
        case ("instead", other):
            line = other
    return line.replace(b"\n", b"")


def format_of(name):
    return format_by_name(name, fields={"target": "where.uri"} if name == "json" else None)


def one_by_one(line_format, judge, lines):
    """What each line says, by itself: no block, no search for a status, no memory but of requests."""
    events, deletions, counts, seen = [], [], Counter(), set()
    for line in lines:
        found = line_format.match(strip_header(line)) or line_format.match(line)
        if found is None:
            continue
        if found[0] in seen:
            counts["misses"] += 1
            counts["repeats"] += 1
            continue
        record = line_format.record(found[1])
        taken = judge(record) if record is not None else None
        if isinstance(taken, MissEvent):
            seen.add(found[0])
            counts["misses"] += 1
            events.append(taken)
        elif isinstance(taken, Refused) and record.method != "DELETE":
            counts["misses"] += 1
            counts["refused"] += 1
        elif isinstance(taken, Deletion):
            deletions.append(taken)
    return events, deletions, counts


def blocks_of(data: bytes, cuts):
    """The data in pieces of whole lines."""
    start = 0
    for cut in sorted(cuts):
        end = data.rfind(b"\n", 0, cut) + 1
        if end > start:
            yield data[start:end]
            start = end
    if start < len(data):
        yield data[start:]


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=30, deadline=None)
@given(
    wanted=st.lists(st.tuples(REQUESTS, DAMAGE), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 6000), max_size=4),
    statuses=st.sampled_from([(404,), (403, 404), (404, 410)]),
    header=st.sampled_from([b"", HEADER]),
)
def test_blocks_give_what_their_lines_give_one_by_one(name, wanted, cuts, statuses, header):
    line_format = format_of(name)
    judged = filter_of(bucket="site", statuses=statuses)
    lines = [header + damaged(WRITERS[name](request), damage) for request, damage in wanted]
    data = b"".join(line + b"\n" for line in lines)
    tally = Tally()
    collector = Collector(line_format, judged, tally=tally, recent=Recent(60.0))
    harvests = [collector.read(block, now=0.0) for block in blocks_of(data, cuts)]
    events, deletions, counts = one_by_one(line_format, judged.judge, lines)
    assert [event for one in harvests for event in one.events] == events
    assert [gone for one in harvests for gone in one.deletions] == deletions
    assert sum(one.lines for one in harvests) == tally.lines == len(lines)
    assert (tally.misses, tally.repeats) == (counts["misses"], counts["repeats"])
    assert sum(one.refused for one in harvests) == counts["refused"]
    assert tally.bytes == len(data)


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=30, deadline=None)
@given(
    wanted=st.lists(st.tuples(REQUESTS, st.one_of(st.none(), FLIPPED)), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 6000), max_size=4),
    header=st.sampled_from([b"", HEADER]),
)
def test_a_line_with_a_wrong_byte_takes_nothing_from_its_neighbours(name, wanted, cuts, header):
    """What such a line itself says is anybody's guess: a block looks for its status before it reads it."""
    line_format = format_of(name)
    judged = filter_of(bucket="site")
    lines = [header + damaged(WRITERS[name](request), damage) for request, damage in wanted]
    intact = [line for line, (_, damage) in zip(lines, wanted, strict=True) if damage is None]
    data = b"".join(line + b"\n" for line in lines)
    tally = Tally()
    collector = Collector(line_format, judged, tally=tally, recent=Recent(60.0))
    harvests = [collector.read(block, now=0.0) for block in blocks_of(data, cuts)]
    events, deletions, _ = one_by_one(line_format, judged.judge, intact)
    assert {event.key for event in events} <= {event.key for one in harvests for event in one.events}
    assert {gone.key for gone in deletions} <= {gone.key for one in harvests for gone in one.deletions}
    assert (tally.lines, tally.bytes) == (len(lines), len(data))


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    "other",
    [
        {"key": "b.txt", "target": target_of("b.txt")},
        {"target": target_of("a.txt", "x=1")},
        {"method": "HEAD"},
        {"host": "other.example"},
        {"bucket": "other"},
        {"status": 410},
    ],
    ids=["key", "query", "method", "host", "bucket", "status"],
)
def test_requests_that_a_log_tells_apart_are_no_repeats(name, other):
    """A miss that is taken for the repeat of another one is lost."""
    line_format, write = format_of(name), WRITERS[name]
    first = {"key": "a.txt", "target": target_of("a.txt"), "method": "GET", "status": 404}
    lines = [write(Wanted(**first)), write(Wanted(**{**first, **other}))]
    (one, _), (two, _) = [line_format.match(line) for line in lines]
    assert (one != two) == (lines[0] != lines[1])
    assert line_format.match(write(Wanted(**first, at=1795233399, referer="http://x.example/")))[0] == one


def test_a_line_with_a_syslog_header_among_lines_without_is_read():
    tally = Tally()
    collector = Collector(format_of("nginx"), filter_of(bucket="site"), tally=tally, recent=Recent(60.0))
    lines = [WRITERS["nginx"](Wanted(key=key, target=target_of(key))) for key in ("a", "b", "c")]
    block = lines[0] + b"\n" + HEADER + lines[1] + b"\n" + lines[2] + b"\n"
    harvest = collector.read(block, now=0.0)
    assert [event.key for event in harvest.events] == ["a", "b", "c"]
    assert tally.broken == 0


@given(
    lines=st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"-")), max_size=20),
    literal=st.sampled_from([b" 404 ", b"D", b"-"]),
)
def test_a_literal_is_found_in_each_line_that_has_it_and_once(lines, literal):
    lines = [line + literal * (number % 3) for number, line in enumerate(lines)]
    block = b"".join(line + b"\n" for line in lines)
    wanted = [line for line in lines if literal in line]
    assert list(candidates(block, literal_needle(literal))) == wanted
    assert list(lines_with(block, literal, literal_needle(literal))) == wanted
    assert count_lines(block) == len(lines)


@pytest.mark.parametrize("others", [0, 3, 1000])
def test_a_literal_is_found_behind_any_number_of_lines_with_its_first_byte(others):
    block = b"a\n" + b"Dalvik DELE\n" * others + b"1 DELETE\nD\n2 DELETE DELETE\n"
    assert list(lines_with(block, b"DELETE", literal_needle(b"DELETE"))) == [b"1 DELETE", b"2 DELETE DELETE"]
    assert list(lines_with(block, b"DELETED", literal_needle(b"DELETED"))) == []


STEPS = st.one_of(
    st.tuples(st.just("write"), st.binary(max_size=30).map(lambda data: data.replace(b"\n", b" "))),
    st.tuples(st.just("end a line"), st.sampled_from([b"\n", b"\r\n"])),
    st.tuples(st.just("end a line"), st.sampled_from([b"\n", b"\r\n"])),
    st.tuples(st.just("rename")),
    st.tuples(st.just("read"), st.integers(1, 64)),
    st.tuples(st.just("accept")),
    st.tuples(st.just("crash")),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEPS, max_size=40))
def test_every_line_is_given_and_offsets_are_ends_of_lines_through_rotation_and_crashes(
    steps, tmp_path_factory
):
    path = tmp_path_factory.mktemp("rotated") / "access.log"
    path.write_bytes(b"")
    written = bytearray()
    tail = Tail(path, from_start=True)
    given_lines: list[bytes] = []
    waiting = []
    crashed = False
    rotations = number = 0

    def look(limit, *, final=False):
        chunk = tail.poll(limit, now=time.monotonic(), final=final)
        if chunk is not None:
            assert chunk.data.endswith(b"\n")
            given_lines.extend(chunk.data.split(b"\n")[:-1])
            waiting.append(chunk)
        return chunk

    def write(data):
        written.extend(data)
        with path.open("ab") as file:
            file.write(data)

    for step in steps:
        match step:
            case ("write", data):
                write(data)
            case ("end a line", end):
                number += 1
                write(b"%d" % number + end)
            case ("rename",):
                if written and not written.endswith(b"\n"):
                    write(b"\n")  # a writer does not give up a file in the middle of a line
                tail.watch(time.monotonic())
                rotations += 1
                path.rename(path.with_name(f"access.log.{rotations}"))
                path.write_bytes(b"")
            case ("read", limit):
                look(limit)
            case ("accept",):
                for chunk in waiting:
                    tail.accept(chunk)
                waiting.clear()
                for one in tail._all():
                    offset = one.accepted.offset
                    assert offset == 0 or os.pread(one.reader.descriptor, 1, offset - 1) == b"\n"
            case ("crash",):
                crashed = True
                marks, waiting = tail.marks, []
                tail.close()
                tail = Tail(path, marks=marks, saved_at=time.time() - 60, from_start=True)
    while look(1 << 16, final=True) is not None:
        pass
    tail.close()
    expected = bytes(written).split(b"\n")
    if not expected[-1]:
        del expected[-1]
    if not crashed:
        assert given_lines == expected
    assert not Counter(expected).keys() - Counter(given_lines).keys()
