"""Origins that say odd bytes: an object is whole or not there, whatever comes, and nothing of ours breaks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from support.origin.fetching import MemoryStore, plan_for, rig
from support.origin.scripted import CLOSE, RESET, scripted
from workers.errors import OriginMalformed, OriginNoLength, OriginsExhausted, OriginStatus, OriginTruncated
from workers.plan import FetchItem, Lane, Stored, Timeouts
from workers.queue.retry import root_cause
from workers.settings import OriginSettings
from workers.transfer import Mover, Try

if TYPE_CHECKING:
    from collections.abc import Iterable

ETAG = 'ETag: "v1"\r\n'
ABSENT = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def head(status: str, *lines: str) -> bytes:
    return "".join([f"HTTP/1.1 {status}\r\n", *(f"{line}\r\n" for line in lines), "\r\n"]).encode("latin-1")


async def pulled(one, plan, store):
    mover = Mover(fetcher=one.fetcher, store=store, now=lambda: datetime.now(UTC))
    return await mover.move(plan, FetchItem(key="k", path="k"), Try(attempt="a"), lane=Lane.COLD)


async def failure_of(one, plan, store):
    with pytest.raises(OriginsExhausted) as caught:
        await pulled(one, plan, store)
    assert store.objects == {}
    return root_cause(caught.value)


# ---------------------------------------------------------------------- framing


async def test_a03_the_failure_of_a_body_without_an_end_says_so():
    """A3: no_length, not a timeout that nobody saw."""
    store = MemoryStore()
    async with scripted([b"HTTP/1.1 200 OK\r\n\r\nbody", CLOSE]) as origin, rig() as one:
        error = await failure_of(one, plan_for(origin.host), store)
        assert isinstance(error, OriginNoLength)
        assert error.retryable
        assert one.control.bad == []


async def test_a03_the_next_candidate_may_have_a_length():
    """A3, B6."""
    store = MemoryStore()
    async with (
        scripted([b"HTTP/1.1 200 OK\r\n\r\nbody", CLOSE]) as first,
        scripted(OK) as second,
        rig() as one,
    ):
        outcome = await pulled(one, plan_for(first.host, standbys=[second.host]), store)
    assert isinstance(outcome, Stored)
    assert [attempt.error for attempt in outcome.attempts] == ["no_length", ""]


@pytest.mark.parametrize(("sent", "whole"), [(b"5\r\nabcde\r\n", False), (b"a\r\nabcdefghij\r\n", True)])
async def test_p06_a_chunked_206_holds_all_that_it_names_or_is_not_stored(sent, whole):
    """P6, A4: Content-Range 0-9/10, and its chunks end properly after five or ten bytes."""
    store = MemoryStore()
    answer = head("206 Partial Content", "Content-Range: bytes 0-9/10", "Transfer-Encoding: chunked")
    async with scripted(answer + sent + b"0\r\n\r\n") as origin, rig() as one:
        if whole:
            await pulled(one, plan_for(origin.host), store)
            assert store.objects == {"k": b"abcdefghij"}
        else:
            assert isinstance(await failure_of(one, plan_for(origin.host), store), OriginTruncated)


async def test_a15_a_chunked_part_that_is_short_is_no_clean_end():
    """A15, A12."""
    answer = head("206 Partial Content", "Content-Range: bytes 4-9/10", "Transfer-Encoding: chunked")
    async with scripted(answer + b"3\r\nefg\r\n0\r\n\r\n") as origin, rig() as one:
        item = FetchItem(key="k", path="k")
        plan = plan_for(origin.host)
        async with one.fetcher.session(plan, item, lane=Lane.HOT, range_header="bytes=4-9") as session:
            answer = await session.open()
            assert answer.length == 6
            with pytest.raises(OriginTruncated):
                async for _ in answer.chunks():
                    pass


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5, 6",),
        ("Content-Length: +5",),
        ("Content-Length: 0x5",),
        ("Content-Length: -1",),
        ("Content-Length: 99999999999999999999999",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: chunked, chunked",),
        ("Transfer-Encoding: xchunked",),
    ],
    ids=" / ".join,
)
async def test_a_framing_that_can_be_read_in_two_ways_stores_nothing(lines):
    """S2, A2."""
    store = MemoryStore()
    async with scripted([head("200 OK", *lines) + b"hello\r\n0\r\n\r\n", CLOSE]) as origin, rig() as one:
        await failure_of(one, plan_for(origin.host), store)


# ---------------------------------------------------------------------- resuming


def broken_off(*lines: str) -> list[bytes | str]:
    return [head("200 OK", "Content-Length: 10", *lines) + b"abcde", CLOSE]


@pytest.mark.parametrize(
    ("validators", "continued"),
    [
        (('ETag: "v1"',), ("Content-Length: 5", 'ETag: "v2"')),
        (('ETag: "v1"',), ("Content-Length: 5", 'ETag: W/"v1"')),
        (
            ("Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT", "Date: Thu, 01 Jan 2026 00:00:00 GMT"),
            ("Content-Length: 5", "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT"),
        ),
    ],
    ids=["etag", "weak-etag", "last-modified"],
)
async def test_b06_an_origin_that_ignores_if_range_cannot_splice_two_versions(validators, continued):
    """B6, P1: the part that comes back says that it is of another object."""
    store = MemoryStore()
    part = head("206 Partial Content", "Content-Range: bytes 5-9/10", *continued) + b"FGHIJ"
    async with scripted(broken_off(*validators), [part, CLOSE]) as origin, rig() as one:
        assert isinstance(await failure_of(one, plan_for(origin.host), store), OriginTruncated)
        assert "Range: bytes=5-9" in origin.heads[1]


async def test_b06_a_continuation_with_more_than_was_asked_for_is_the_origins_fault():
    """B6: nine bytes where five were missing; the store is not blamed."""
    store = MemoryStore()
    part = head(
        "206 Partial Content", "Content-Range: bytes 5-9/10", ETAG.strip(), "Transfer-Encoding: chunked"
    )
    async with (
        scripted(broken_off(ETAG.strip()), part + b"9\r\nFGHIJKLMN\r\n0\r\n\r\n") as origin,
        rig() as one,
    ):
        assert isinstance(await failure_of(one, plan_for(origin.host), store), OriginMalformed)


async def test_b06_a_chunked_continuation_is_taken():
    """B6."""
    store = MemoryStore()
    part = head(
        "206 Partial Content", "Content-Range: bytes 5-9/10", ETAG.strip(), "Transfer-Encoding: chunked"
    )
    async with (
        scripted(broken_off(ETAG.strip()), part + b"5\r\nfghij\r\n0\r\n\r\n") as origin,
        rig() as one,
    ):
        await pulled(one, plan_for(origin.host), store)
    assert store.objects == {"k": b"abcdefghij"}


# ---------------------------------------------------------------------- headers that make no sense

HUGE = "9" * 5000


@pytest.mark.parametrize(
    "line",
    [
        f"Content-Range: bytes 0-{HUGE}/{HUGE}",
        f"x-oss-hash-crc64ecma: {HUGE}",
        f"Expires: {HUGE}",
        "Expires: Thu, 01 Jan 19788888888888 00:00:00 GMT",
        "Last-Modified: Thu, 01 Jan 1970 00:00:00 +99999999999999",
        f"Retry-After: {HUGE}",
        "Content-MD5: ====",
        "Repr-Digest: sha-256=:::, md5=:",
        "Digest: ,=,;,md5",
        "x-goog-hash: crc32c=, md5==",
    ],
    ids=lambda line: line[:40],
)
async def test_a_header_without_sense_does_not_cost_the_object(line):
    """S3, S4, S10: it offers nothing, and is kept or counted, never a crash."""
    store = MemoryStore()
    broken = [head("200 OK", "Content-Length: 2", ETAG.strip(), line) + b"o", CLOSE]
    rest = head("206 Partial Content", "Content-Length: 1", "Content-Range: bytes 1-1/2", ETAG.strip()) + b"k"
    async with scripted(broken, rest) as origin, rig() as one:
        await pulled(one, plan_for(origin.host), store)
    assert store.objects == {"k": b"ok"}


async def test_a_206_with_unreadable_positions_is_not_the_whole_object():
    """A4."""
    store = MemoryStore()
    answer = head("206 Partial Content", "Content-Length: 2", f"Content-Range: bytes 0-{HUGE}/{HUGE}") + b"ok"
    async with scripted(answer) as origin, rig() as one:
        assert (await failure_of(one, plan_for(origin.host), store)).reason == "partial_answer"


@pytest.mark.parametrize("value", [HUGE, "-5", "tomorrow", "Thu, 01 Jan 19788888888888 00:00:00 GMT"])
async def test_b08_a_retry_after_without_sense_is_bounded(value):
    """B8."""
    store = MemoryStore()
    answer = head("503 Service Unavailable", "Content-Length: 0", f"Retry-After: {value}")
    async with scripted(answer) as origin, rig() as one:
        error = await failure_of(one, plan_for(origin.host), store)
        assert isinstance(error, OriginStatus)
        assert one.control.health.pause_s(origin.host) <= 300
        one.control.report()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40_000 + b"\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 2000 + b"Content-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 " + b"O" * 40_000 + b"\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent Length: 2\r\n\r\nok",
        b"ICY 200 OK\r\n\r\n",
        b"\x16\x03\x01\x00",
    ],
    ids=["long-header", "many-headers", "long-reason", "status", "name-with-blank", "icy", "tls"],
)
async def test_a_head_beyond_bounds_or_no_http_is_the_origins_fault(answer):
    """A9, A11, B7."""
    store = MemoryStore()
    async with scripted([answer, CLOSE]) as origin, rig() as one:
        await failure_of(one, plan_for(origin.host), store)
        assert [reason for _, reason in one.control.bad] == ["origin_malformed"]


# ---------------------------------------------------------------------- connections


async def test_a_switch_of_protocols_that_nobody_asked_for_is_a_failure():
    """A9: 101 is no answer to a GET; the connection is not used again."""
    store = MemoryStore()
    upgrade = head("101 Switching Protocols", "Upgrade: x", "Connection: Upgrade")
    async with scripted(upgrade, OK) as origin, rig() as one:
        await failure_of(one, plan_for(origin.host), store)
        await pulled(one, plan_for(origin.host), store)
        assert origin.connections == [0, 1]


async def test_early_hints_come_before_the_answer():
    store = MemoryStore()
    hints = head("103 Early Hints", "Link: </x>; rel=preload")
    async with scripted(hints + head("100 Continue") + OK) as origin, rig() as one:
        await pulled(one, plan_for(origin.host), store)
    assert store.objects == {"k": b"ok"}


POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


@pytest.mark.parametrize(
    "step",
    [
        [OK + POISON],
        [OK, 0.05, POISON],
        [OK, 0.05, b"late"],
    ],
    ids=["same-packet", "while-idle", "body-beyond-its-length"],
)
async def test_bytes_that_nobody_asked_for_never_answer_the_next_request(step):
    """S2: an answer belongs to its request; the connection ends instead."""
    store = MemoryStore()
    async with scripted(step, OK, OK) as origin, rig() as one:
        plan = plan_for(origin.host)
        await one.get(plan, "first")
        await asyncio.sleep(0.2)  # the late bytes are to arrive before the next request
        await pulled(one, plan, store)
        assert origin.connections == [0, 1]
    assert store.objects == {"k": b"ok"}


async def test_a_head_that_is_answered_with_a_body_does_not_poison_the_next_request():
    """A36, S2."""
    store = MemoryStore()
    answer = head("200 OK", "Content-Length: 42")
    async with scripted([answer, 0.05, POISON], OK, OK) as origin, rig() as one:
        plan = plan_for(origin.host)
        got = await one.get(plan, "first", method="HEAD")
        assert got.answer.length == 42
        await asyncio.sleep(0.2)
        await pulled(one, plan, store)
    assert store.objects == {"k": b"ok"}


@pytest.mark.parametrize(
    "answer",
    [
        head("200 OK", "Content-Length: 5") + b"hello",
        head("200 OK", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    ],
    ids=["length", "chunked"],
)
async def test_a36_a_head_that_is_answered_like_a_get_is_asked_for_one_byte(answer):
    """A36, B7: the head is answered, and the host is not blamed."""
    part = head("206 Partial Content", "Content-Length: 1", "Content-Range: bytes 0-0/5") + b"h"
    async with scripted([answer, CLOSE], part) as origin, rig() as one:
        got = await one.get(plan_for(origin.host), "k", method="HEAD")
        assert (got.answer.status, got.answer.length) == (200, 5)
        assert "Range: bytes=0-0" in origin.heads[1]
        assert one.control.bad == []


async def test_a_body_longer_than_it_says_is_no_whole_object():
    """S2: the length and the bytes disagree; which of them is wrong nobody can know."""
    store = MemoryStore()
    async with scripted(OK + b"ay and more", OK) as origin, rig() as one:
        assert isinstance(await failure_of(one, plan_for(origin.host), store), OriginMalformed)


@pytest.mark.parametrize("end", [CLOSE, RESET])
async def test_a_pooled_connection_that_ended_costs_nobody_a_failure(end):
    """B7: it says nothing of the origin."""
    store = MemoryStore()
    async with scripted([OK], [end], OK) as origin, rig() as one:
        plan = plan_for(origin.host)
        await one.get(plan, "first")
        await pulled(one, plan, store)
        assert origin.connections == [0, 0, 1]
        assert one.control.bad == []


# ---------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "name", ["2130706433", "0177.0.0.1", "127.1", "0x7f.1", "0x7f000001", "017700000001", "[::ffff:7f00:1]"]
)
async def test_b11_an_address_in_another_spelling_is_refused_all_the_same(name):
    """B11: literals included; nothing is asked."""
    async with scripted(OK) as origin, rig(OriginSettings()) as one:
        plan = plan_for(f"{name}:{origin.port}", trusted_hosts=False)
        with pytest.raises(OriginsExhausted) as caught:
            await one.get(plan, "k")
        assert caught.value.last.reason == "address_refused"
        assert origin.seen == []


@pytest.mark.parametrize("name", ["2130706433", "0177.0.0.1", "0x7f.1", "localhost", "127.0.0.1", "[::1]"])
async def test_b11_a_redirect_to_an_inner_address_is_refused_in_any_spelling(name):
    """B11, A7: also of a rule whose own host may be private."""
    async with scripted(OK) as inner:
        location = f"Location: http://{name}:{inner.port}/latest/meta-data"
        async with scripted(head("302 Found", location, "Content-Length: 0")) as origin, rig() as one:
            with pytest.raises(OriginsExhausted) as caught:
                await one.get(plan_for(origin.host), "k")
            assert caught.value.last.reason == "address_refused"
        assert inner.seen == []


def names_of(heads: Iterable[str]) -> set[str]:
    return {line.partition(":")[0].lower() for text in heads for line in text.split("\r\n")[1:] if line}


async def test_p12_nothing_of_ours_comes_back_after_a_detour_over_another_host():
    """P12, H10: first host, second host, first host again: what was dropped stays dropped."""
    async with scripted() as first, scripted() as second:
        first.script += [
            head("302 Found", f"Location: http://{second.host}/there", "Content-Length: 0"),
            OK,
        ]
        second.script += [head("302 Found", f"Location: http://{first.host}/again", "Content-Length: 0")]
        settings = OriginSettings(allow_networks=["127.0.0.0/8"])
        async with rig(settings) as one:
            plan = plan_for(
                first.host,
                headers=(("Cookie", "secret"), ("X-Who", "me")),
                new_headers=(("X-Token", "secret"),),
            )
            assert (await one.get(plan, "k")).body == b"ok"
        assert {"cookie", "x-who", "x-token"} <= names_of(first.heads[:1])
        assert not {"cookie", "x-who", "x-token"} & names_of([*second.heads, first.heads[1]])
        assert "secret" not in second.heads[0] + first.heads[1]


@pytest.mark.parametrize("status", ["302 Found", "403 Forbidden", "508 Loop Detected"])
async def test_a_fetch_that_is_left_in_the_middle_of_a_refusal_ends_its_connection(status):
    """Cancelled while a small body is read so that the connection could be used again."""
    answer = head(status, "Content-Length: 100", "Content-Type: application/xml", "Location: /there")
    async with scripted([answer + b"half", 30.0], OK) as origin, rig() as one:
        plan = plan_for(origin.host, timeouts=Timeouts(connect_s=2.0, first_byte_s=5.0, idle_s=20.0))
        task = asyncio.create_task(one.get(plan, "k", keep_error_body=True))
        async with asyncio.timeout(5):
            while not origin.seen:  # noqa: ASYNC110 -- the server's list is all there is to look at
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not any(pool.connector._acquired for pool in one.client._pools.values())
        assert (await one.get(plan, "k")).body == b"ok"
        assert origin.connections == [0, 1]
