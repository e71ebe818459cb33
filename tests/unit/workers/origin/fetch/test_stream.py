"""The bytes of one answer under a fake clock and arbitrary breaks (B6, L10, P45)."""

import asyncio

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import OriginTimeout, OriginTruncated
from workers.origin.fetch.stream import MAX_RESUMES, BodyStream
from workers.plan import Timeouts

MIB = 1024 * 1024


class FakeAnswer:
    """Gives its pieces one a read; an exception among them is raised."""

    def __init__(self, pieces, *, status=200, headers=(("ETag", '"e"'),), tick=lambda: None):
        self.pieces = list(pieces)
        self.status, self.headers, self.url = status, headers, "http://o/x"
        self.was_reset = False
        self.closed = 0
        self._tick = tick

    async def read(self):
        self._tick()
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def header(self, name):
        return {"content-length": "1"}.get(name)

    def close(self):
        self.closed += 1


def stream_of(answer, *, length, ask_again=None, clock=lambda: 0.0, framing="length", timeouts=None):
    async def nobody(_url, _headers):
        pytest.fail("asked again")

    return BodyStream(
        answer,
        origin="o",
        length=length,
        framing=framing,
        timeouts=timeouts or Timeouts(),
        clock=clock,
        ask_again=ask_again or nobody,
    )


async def everything(stream):
    got = b""
    while chunk := await stream.read():
        got += chunk
    return got


def broken():
    return aiohttp.ClientPayloadError("cut")


@settings(max_examples=60)
@given(st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=MAX_RESUMES))
def test_however_a_body_breaks_the_whole_of_it_arrives_once(cuts):
    """B6."""
    body = bytes(range(256)) * 4
    asked = []

    def rest(start, cut):
        last = len(body) - 1
        headers = (("ETag", '"e"'), ("Content-Range", f"bytes {start}-{last}/{len(body)}"))
        pieces = [body[start : start + cut], broken()] if cut is not None else [body[start:]]
        return FakeAnswer(pieces, status=206, headers=headers)

    left = [*cuts[1:], None]

    async def ask_again(url, headers):
        named = dict(headers)
        assert named["If-Range"] == '"e"'
        assert url == "http://o/x"
        start = int(named["Range"].removeprefix("bytes=").split("-")[0])
        asked.append(start)
        return rest(start, left.pop(0))

    first = FakeAnswer([body[: cuts[0]], broken()])
    assert asyncio.run(everything(stream_of(first, length=len(body), ask_again=ask_again))) == body
    assert asked == [sum(cuts[: n + 1]) for n in range(len(cuts))]
    assert first.closed == 1


async def test_a_body_that_brings_no_byte_any_more_is_given_up():
    """B6: continuing is for progress."""
    asked = 0

    async def ask_again(_url, _headers):
        nonlocal asked
        asked += 1
        headers = (("ETag", '"e"'), ("Content-Range", "bytes 3-9/10"))
        return FakeAnswer([broken()], status=206, headers=headers)

    stream = stream_of(FakeAnswer([b"abc", broken()]), length=10, ask_again=ask_again)
    with pytest.raises(OriginTruncated) as caught:
        await everything(stream)
    assert (caught.value.got, caught.value.expected) == (3, 10)
    assert 1 <= asked <= 4


async def test_a_clean_end_that_comes_early_is_a_break():
    """P1, P2: whatever the client library thinks of it."""
    with pytest.raises(OriginTruncated) as caught:
        await everything(stream_of(FakeAnswer([b"abc"], headers=()), length=10))
    assert (caught.value.got, caught.value.expected) == (3, 10)


class Clock:
    def __init__(self, step_s):
        self.now, self.step_s = 0.0, step_s

    def __call__(self):
        return self.now

    def tick(self):
        self.now += self.step_s


async def test_p45_a_transfer_of_twenty_minutes_that_is_fast_enough_passes():
    """P45, L10: 10 minutes and a second for each MiB."""
    clock = Clock(75.0)
    piece = bytes(64 * MIB)
    answer = FakeAnswer([piece] * 16, tick=clock.tick)
    stream = stream_of(answer, length=16 * len(piece), clock=clock)
    while await stream.read():
        pass
    assert stream.got == 1024 * MIB
    assert clock.now >= 1200


async def test_a_trickle_that_never_stalls_ends_by_the_total_deadline():
    """L10."""
    clock = Clock(20.0)
    answer = FakeAnswer([b"x"] * 1000, tick=clock.tick)
    with pytest.raises(OriginTimeout) as caught:
        await everything(stream_of(answer, length=1000, clock=clock))
    assert caught.value.phase == "total"
    assert 600 <= clock.now <= 660


async def test_the_time_of_a_slow_consumer_is_not_the_origins():
    """L10: back-pressure of store, budget or client does not count."""
    clock = Clock(1.0)
    stream = stream_of(FakeAnswer([b"x"] * 20, tick=clock.tick), length=20, clock=clock)
    while await stream.read():
        clock.now += 500.0
    assert stream.got == 20


async def test_a_total_deadline_of_the_rule_counts_from_its_first_second():
    """F52."""
    clock = Clock(3.0)
    answer = FakeAnswer([b"x"] * 20, tick=clock.tick)
    with pytest.raises(OriginTimeout):
        await everything(stream_of(answer, length=20, clock=clock, timeouts=Timeouts(total_s=10.0)))


async def test_looking_ahead_changes_nothing_of_the_body():
    """F59."""
    stream = stream_of(FakeAnswer([b"abc", b"def", b"ghi"]), length=9)
    assert await stream.look(5) == b"abcdef"
    assert await everything(stream) == b"abcdefghi"
    whole = stream_of(FakeAnswer([b"abc"]), length=3)
    assert await whole.look(100) == b"abc"
    assert await everything(whole) == b"abc"


async def test_a_body_read_to_close_that_was_reset_is_no_end():
    """A3."""
    answer = FakeAnswer([b"abc"])
    answer.was_reset = True
    with pytest.raises(OriginTruncated):
        await everything(stream_of(answer, length=None, framing="close"))


async def test_only_a_body_that_did_not_end_closes_its_connection():
    done = FakeAnswer([b"abc"])
    stream = stream_of(done, length=3)
    await everything(stream)
    stream.close()
    assert done.closed == 0
    left = FakeAnswer([b"abc"])
    stream_of(left, length=3).close()
    assert left.closed == 1
