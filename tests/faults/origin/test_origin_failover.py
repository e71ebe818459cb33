"""Candidates in order, each at most once, and what the way taken says (B2 to B8, A5 to A11, A36)."""

import asyncio
import time

import pytest

from support.origin.chaos import ChaosOrigin
from support.origin.fetching import QUICK, plan_for, rig
from workers.errors import (
    BudgetExhausted,
    OriginMalformed,
    OriginsExhausted,
    OriginStatus,
    OriginThrottled,
    OriginTimeout,
    OriginTruncated,
    OriginUnreachable,
    SoftNotFound,
)
from workers.origin.fetch.fetcher import Absent, Fetched
from workers.plan import FetchItem, Lane, StorePolicy, Timeouts
from workers.settings import BudgetSettings, OriginSettings

FAST = Timeouts(connect_s=0.3, first_byte_s=0.3, idle_s=0.3)


async def failing(one, plan, path, **kwargs):
    with pytest.raises(OriginsExhausted) as caught:
        await one.get(plan, path, **kwargs)
    return caught.value


@pytest.mark.parametrize(
    ("behaviour", "status", "reason"),
    [
        ("status,code=500", 500, "origin_status"),
        ("status,code=502", 502, "origin_status"),
        ("throttle,code=503", 503, "origin_throttled"),
        ("hangup", None, "origin_unreachable"),
        ("reset,at=-1", None, "origin_unreachable"),
        ("silent", None, "origin_timeout"),
        ("slow_headers,interval=0.05", None, "origin_timeout"),
        ("endless_continue", None, "origin_timeout"),
        ("garbage", None, "origin_malformed"),
        ("header_bomb", None, "origin_malformed"),
        ("header_bomb,count=1,size=100000", None, "origin_malformed"),
    ],
)
async def test_the_standby_is_asked_at_once_and_both_exactly_once(chaos, behaviour, status, reason):
    """B2, B4, A11; the outcome tells the way taken."""
    async with rig() as one, ChaosOrigin() as standby:
        path = f"{behaviour}/x"
        standby.script(f"/{path}", "ok,size=500")
        got = await one.get(
            plan_for(chaos, standbys=[standby], timeouts=FAST if reason == "origin_timeout" else QUICK), path
        )
        assert got.way == [(status, reason), (200, "")]
        assert [attempt.origin for attempt in got.attempts] == [chaos.host, standby.host]
        assert (got.answer.origin, got.answer.url) == (standby.host, standby.url("/" + path))
        assert one.control.bad == [(chaos.host, reason)]
        assert one.control.good == [standby.host]
        assert standby.count() == 1
    assert chaos.count() == 1


async def test_a_closed_port_switches_too(chaos):
    """B4."""
    async with rig() as one:
        got = await one.get(plan_for("127.0.0.1:1", standbys=[chaos]), "ok/x")
    assert got.way == [(None, "origin_unreachable"), (200, "")]


@pytest.mark.parametrize("code", [204, 400, 401, 403, 410, 416, 429, 451])
async def test_other_statuses_end_the_fetch_unless_the_rule_lists_them(chaos, code):
    """A9, B4, F24, F25."""
    async with rig() as one, ChaosOrigin() as standby:
        path = f"status,code={code}/x"
        standby.script(f"/{path}", "ok")
        error = await failing(one, plan_for(chaos, standbys=[standby]), path)
        assert error.status == code
        assert isinstance(error.last, OriginStatus)
        assert standby.count() == 0
    async with rig() as one, ChaosOrigin() as standby:
        standby.script(f"/{path}", "ok")
        switching = {"switch_all": True} if code < 400 else {"switch_codes": (code,)}
        got = await one.get(plan_for(chaos, standbys=[standby], **switching), path)
        assert got.answer.origin == standby.host


@pytest.mark.parametrize("code", [403, 401, 410])
async def test_a_4xx_is_no_fault_of_the_host(chaos, code):
    """B7."""
    async with rig() as one:
        for _ in range(8):
            await failing(one, plan_for(chaos), f"status,code={code}/x")
        assert one.control.health.usable(chaos.host)


async def test_a_404_is_absent_and_the_standby_is_not_asked(chaos):
    """A5, B5."""
    async with rig() as one, ChaosOrigin() as standby:
        got = await one.get(plan_for(chaos, standbys=[standby]), "nothing")
        assert isinstance(got.answer, Absent)
        assert standby.count() == 0
        assert one.control.good == [chaos.host]


@pytest.mark.parametrize(
    ("first", "second", "absent"),
    [
        ("status,code=404", "status,code=404", True),
        ("status,code=410", "status,code=404", True),
        ("status,code=404", "status,code=410", False),
        ("status,code=500", "status,code=404", False),
        ("hangup", "status,code=404", False),
        ("status,code=404", "status,code=500", False),
    ],
)
async def test_absent_needs_every_candidate_that_was_asked(chaos, first, second, absent):
    """B5."""
    async with rig() as one, ChaosOrigin() as standby:
        chaos.script("/k", first)
        standby.script("/k", second)
        plan = plan_for(chaos, standbys=[standby], switch_codes=(404, 410))
        if absent:
            assert isinstance((await one.get(plan, "k")).answer, Absent)
        else:
            await failing(one, plan, "k")
        assert chaos.count() == standby.count() == 1


async def test_no_host_is_asked_twice_and_never_more_than_max_attempts(chaos):
    """B3."""
    async with rig() as one, ChaosOrigin() as second, ChaosOrigin() as third:
        for origin in (chaos, second, third):
            origin.script("/k", "status,code=500")
        plan = plan_for(chaos, second, standbys=[chaos, second, third], across_groups=True)
        error = await failing(one, plan, "k", item=FetchItem(key="k", path="k", pick=0))
        assert [attempt.origin for attempt in error.attempts] == [chaos.host, second.host, third.host]
        bounded = plan_for(chaos, standbys=[second, third], max_attempts=2)
        async with rig() as other:
            error = await failing(other, bounded, "k")
        assert len(error.attempts) == 2


async def test_a_broken_body_is_discarded_and_the_next_candidate_gives_all_of_it(chaos):
    """B6; issue: failover on a truncated body."""
    async with rig() as one, ChaosOrigin() as standby:
        path = "truncate,at=100,resume=no/x"
        standby.script(f"/{path}", "ok")
        got = await one.get(plan_for(chaos, standbys=[standby]), path)
        assert got.body == standby.body(f"/{path}")
        assert got.way == [(200, "origin_truncated"), (200, "")]
        assert one.control.bad == [(chaos.host, "origin_truncated")]


async def test_five_failures_eject_and_a_flapping_host_stays(chaos):
    """B8, through real answers."""
    async with rig() as one:
        plan = plan_for(chaos)
        for _ in range(5):
            await one.get(plan, "flapping/x")
            assert isinstance((await failing(one, plan, "flapping/x")).last, OriginStatus)
        assert one.control.health.usable(chaos.host)
        for _ in range(5):
            await failing(one, plan, "status,code=500/x")
        assert not one.control.health.usable(chaos.host)


async def test_a_host_that_cuts_every_body_is_ejected_although_its_heads_are_fine(chaos):
    """B7: a good head is no success yet."""
    async with rig() as one:
        for _ in range(5):
            error = await failing(one, plan_for(chaos), "truncate,at=1,resume=no/x")
            assert isinstance(error.last, OriginTruncated)
        assert not one.control.health.usable(chaos.host)


async def test_a_429_names_its_time(chaos):
    """B8; issue: 429 with Retry-After."""
    async with rig() as one:
        error = await failing(one, plan_for(chaos), "throttle,retry_after=7/x")
    assert isinstance(error.last, OriginThrottled)
    assert error.retry_after_s == 7.0


async def test_n_failures_then_fine(chaos):
    async with rig() as one:
        for _ in range(2):
            await failing(one, plan_for(chaos), "fail_first,n=2/x")
        assert (await one.get(plan_for(chaos), "fail_first,n=2/x")).body == chaos.body("/x")


async def test_a_pooled_connection_that_the_origin_closed_is_no_failure(chaos):
    """The origin is asked again on a fresh connection, and only then believed."""
    async with rig() as one:
        plan = plan_for(chaos)
        await one.get(plan, "ok/x")
        got = await one.get(plan, "fail_first,code=hangup/x")
        assert got.body == chaos.body("/x")
        assert got.way == [(200, "")]
        assert one.control.bad == []
        assert chaos.count("/fail_first,code=hangup/x") == 2
        await failing(one, plan, "hangup/x")
        await failing(one, plan, "hangup/x")
    # The first time a pooled connection was there, the second time only a fresh one.
    assert chaos.count("/hangup/x") == 3


async def test_deadlines_are_apart_and_named(chaos):
    """L9."""
    async with rig() as one:
        started = time.monotonic()
        error = await failing(one, plan_for(chaos, timeouts=FAST), "silent/x")
        assert isinstance(error.last, OriginTimeout)
        assert error.last.phase == "first_byte"
        assert 0.25 <= time.monotonic() - started < 2


async def test_a_cancelled_fetch_leaves_nothing_behind(chaos):
    """The stop signal, a client that leaves: no deadline swallows the cancellation."""
    async with rig() as one:
        task = asyncio.create_task(one.get(plan_for(chaos), "silent/x"))
        async with asyncio.timeout(5):
            while chaos.count() == 0:  # noqa: ASYNC110 -- the origin has no event to wait for
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert one.control.in_flight() == 0


async def test_no_slot_in_time_is_no_failure_of_the_origin(chaos):
    """A25: costs no attempt, switches nowhere."""
    settings = OriginSettings(
        budgets={chaos.host: BudgetSettings(concurrency=1)}, hot_share=0, adaptive=False
    )
    async with rig(settings) as one, ChaosOrigin() as standby:
        plan = plan_for(chaos, standbys=[standby])
        item = FetchItem(key="k", path="ok,size=9000000/x")
        async with one.fetcher.session(plan, item, lane=Lane.HOT) as holding:
            assert isinstance(await holding.open(), Fetched)
            with pytest.raises(BudgetExhausted):
                await one.get(plan, "ok/x", budget_timeout_s=0.1)
        assert standby.count() == 0
        assert one.control.bad == []
        assert (await one.get(plan, "ok/x", budget_timeout_s=5)).body


async def test_the_slot_is_held_while_bytes_flow_and_free_afterwards(chaos):
    """L15."""
    async with rig() as one:
        item = FetchItem(key="k", path="ok,size=9000000/x")
        async with one.fetcher.session(plan_for(chaos), item, lane=Lane.COLD) as session:
            answer = await session.open()
            assert isinstance(answer, Fetched)
            async for _ in answer.chunks():
                assert one.control.in_flight() == 1
            assert one.control.in_flight() == 0


# ---------------------------------------------------------------- for those who answer a client


async def test_the_body_of_a_final_error_is_kept_up_to_one_mebibyte_when_asked(chaos):
    """A6, A10."""
    async with rig() as one:
        error = await failing(one, plan_for(chaos), "status,code=403,body=denied/x", keep_error_body=True)
        assert error.answer is not None
        assert (error.answer.status, error.answer.body, error.answer.cut) == (403, b"denied", False)
        got = await one.get(plan_for(chaos), "nothing", keep_error_body=True)
        assert got.answer.answer.body == b"not found\n"
        error = await failing(one, plan_for(chaos), "status,code=500,bytes=2000000/x", keep_error_body=True)
        assert error.answer is not None
        assert (len(error.answer.body), error.answer.cut) == (1048576, True)
        error = await failing(one, plan_for(chaos), "status,code=403,body=denied/x")
        assert error.answer is not None
        assert error.answer.body == b""


async def test_a_range_gives_206_and_416_tells_the_size(chaos):
    """A15, A16, A18, H7."""
    async with rig() as one:
        got = await one.get(plan_for(chaos), "ok,size=100/x", range_header="bytes=10-19")
        assert (got.answer.status, got.answer.content_range) == (206, "bytes 10-19/100")
        assert (got.body, got.answer.length) == (chaos.body("/x", 100)[10:20], 10)
        got = await one.get(plan_for(chaos), "no_range,size=100/x", range_header="bytes=10-19")
        assert (got.answer.status, got.answer.content_range, len(got.body)) == (200, None, 100)
        error = await failing(one, plan_for(chaos), "ok,size=100/x", range_header="bytes=100-")
        assert error.status == 416
        assert error.answer is not None
        assert error.answer.header("content-range") == "bytes */100"


async def test_a_broken_range_is_continued_within_itself(chaos):
    """B6."""
    async with rig() as one:
        got = await one.get(
            plan_for(chaos), "trickle_cuts,step=100,size=1000/x", range_header="bytes=200-599"
        )
    assert got.body == chaos.body("/x", 1000)[200:600]
    assert [entry.header("range") for entry in chaos.asked()] == [
        f"bytes={first}-599" for first in (200, 300, 400, 500)
    ]


@pytest.mark.parametrize(
    ("path", "length"),
    [("ok,size=100/x", 100), ("no_head,size=100/x", 100), ("no_head,code=501,size=100/x", 100)],
)
async def test_head_gives_the_size_also_where_only_get_is_allowed(chaos, path, length):
    """A36."""
    async with rig() as one:
        got = await one.get(plan_for(chaos), path, method="HEAD")
    assert (got.answer.status, got.answer.length, got.body) == (200, length, b"")


async def test_head_of_an_empty_object_and_of_none(chaos):
    """A36, A37."""
    chaos.put("/e", b"")
    chaos.script("/e", "no_head")
    async with rig() as one:
        got = await one.get(plan_for(chaos), "e", method="HEAD")
        assert (got.answer.status, got.answer.length) == (200, 0)
        assert isinstance((await one.get(plan_for(chaos), "none", method="HEAD")).answer, Absent)
        await failing(one, plan_for(chaos), "status,code=403/x", method="HEAD")


async def test_the_asynchronous_status_goes_to_the_client_and_not_to_the_standby(chaos):
    """F28."""
    async with rig() as one, ChaosOrigin() as standby:
        standby.script("/status,code=503/x", "ok")
        plan = plan_for(chaos, standbys=[standby], async_status=503)
        error = await failing(one, plan, "status,code=503/x", keep_error_body=True)
        assert error.status == 503
        assert standby.count() == 0
        # The queued pull takes it for what it is.
        assert (await one.get(plan, "status,code=503/x")).answer.origin == standby.host


# ---------------------------------------------------------------- soft 404

LEARN = StorePolicy(soft_404="learn")


async def test_a_200_page_for_everything_is_refused_and_learned_by_two_questions(chaos):
    """F59, G5; issue: 200 error page."""
    async with rig() as one, ChaosOrigin() as standby:
        plan = plan_for(chaos, standbys=[standby], store=LEARN)
        for name in ("a", "b", "c"):
            error = await failing(one, plan, f"error_page,echo=1/{name}.txt")
            assert isinstance(error.last, SoftNotFound)
            assert not error.last.retryable
        assert standby.count() == 0
        assert one.control.health.usable(chaos.host)
    assert chaos.count() == 2 + 3


async def test_real_objects_of_such_a_site_pass_whole(chaos):
    """F59."""
    body = b"the real thing" * 10000
    chaos.put("/docs/real.txt", body)
    chaos.put("/docs/real.html", b"<html><title>Real</title><body>really</body></html>")
    async with rig() as one:
        plan = plan_for(chaos, store=LEARN)
        got = await one.get(plan, "soft_site/docs/real.txt")
        assert got.body == body
        assert (await one.get(plan, "soft_site/docs/real.html")).body.startswith(b"<html><title>Real")
        assert isinstance((await failing(one, plan, "soft_site/docs/none.html")).last, SoftNotFound)


async def test_html_under_an_image_name_is_refused_even_where_random_keys_get_404(chaos):
    """F59."""
    chaos.put("/img/a.jpg", b"<!doctype html><html><body>please log in</body></html>")
    chaos.put("/img/b.jpg", b"\xff\xd8\xff\xe0 picture")
    async with rig() as one:
        plan = plan_for(chaos, store=LEARN)
        assert isinstance((await failing(one, plan, "img/a.jpg")).last, SoftNotFound)
        assert (await one.get(plan, "img/b.jpg")).body.endswith(b"picture")
    # One question for the prefix, then the two objects.
    assert chaos.count() == 3


async def test_without_the_rule_nothing_is_looked_at(chaos):
    async with rig() as one:
        assert (await one.get(plan_for(chaos), "error_page/a.jpg")).body.startswith(b"<!DOCTYPE")
    assert chaos.count() == 1


async def test_a_question_that_fails_does_not_stop_the_fetch(chaos):
    chaos.put("/d/k.txt", b"fine")
    async with rig() as one:
        got = await one.get(plan_for(chaos, store=LEARN, timeouts=QUICK), "d/k.txt")
    assert got.body == b"fine"


def test_kinds_of_errors_are_what_they_are_called():
    assert OriginUnreachable.health_failure
    assert OriginMalformed.health_failure
    assert not SoftNotFound.health_failure


async def test_connections_are_used_again_after_objects_errors_and_redirects(chaos):
    """One connection for a row of small answers: the origin's accept queue is its owner's, too."""
    async with rig() as one:
        plan = plan_for(chaos)
        for _ in range(5):
            await one.get(plan, "ok/x")
            await one.get(plan, "nothing")
            await one.get(plan, "redirect/x")
            await failing(one, plan, "status,code=403/x")
            await one.get(plan, "chunked/x")
            await one.get(plan, "ok/x", method="HEAD")
    assert chaos.count() == 35
    assert {entry.connection for entry in chaos.asked()} == {1}
