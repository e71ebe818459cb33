"""An object is one complete origin answer, or nothing: bodies of the misbehaving origin."""

import gzip
from datetime import UTC, datetime

import pytest

from support.origin.chaos import ChaosOrigin
from support.origin.fetching import MemoryStore, plan_for, rig
from workers.answers import first_header
from workers.errors import (
    DigestMismatch,
    ListingMismatch,
    OriginMalformed,
    OriginNoLength,
    OriginPartial,
    OriginsExhausted,
    OriginTimeout,
    OriginTruncated,
)
from workers.origin.fetch.fetcher import Fetched
from workers.plan import FetchItem, Lane, Stored, StorePolicy, Timeouts
from workers.transfer import Mover, Try


async def moved(one, plan, path, store, *, key="k", **kwargs):
    item = FetchItem(key=key, path=path, **kwargs)
    mover = Mover(fetcher=one.fetcher, store=store, now=lambda: datetime.now(UTC))
    return await mover.move(plan, item, Try(attempt="a"), lane=Lane.HOT)


async def test_p01_a_short_body_is_truncated_and_not_stored(chaos):
    """P1, A12, S13."""
    store = MemoryStore()
    path = "truncate,at=716800,size=1048576,resume=no/big.bin"
    async with rig() as one:
        with pytest.raises(OriginsExhausted) as caught:
            await moved(one, plan_for(chaos), path, store)
        last = caught.value.last
        assert isinstance(last, OriginTruncated)
        assert (last.got, last.expected) == (716800, 1048576)
        assert one.control.bad == [(chaos.host, "origin_truncated")]
    assert store.objects == {}
    assert store.aborted == 1
    # Once for the whole, once to continue it.
    assert [entry.header("range") for entry in chaos.asked()] == [None, "bytes=716800-1048575"]


async def test_p02_after_the_origin_is_healed_the_whole_object_is_stored(chaos):
    """P2."""
    store = MemoryStore()
    chaos.put("/k", b"whole" * 1000)
    chaos.script("/k", "truncate,at=10,resume=no", "truncate,at=10,resume=no", "ok")
    async with rig() as one:
        with pytest.raises(OriginsExhausted):
            await moved(one, plan_for(chaos), "k", store)
        assert store.objects == {}
        outcome = await moved(one, plan_for(chaos), "k", store)
    assert isinstance(outcome, Stored)
    assert store.objects == {"k": b"whole" * 1000}


async def test_p06_an_unasked_206_is_stored_only_when_it_covers_everything(chaos):
    """P6, A4."""
    store = MemoryStore()
    async with rig() as one:
        with pytest.raises(OriginsExhausted) as caught:
            await moved(one, plan_for(chaos), "partial,size=100,first=0,last=9/x", store)
        assert isinstance(caught.value.last, OriginPartial)
        assert store.objects == {}
        await moved(one, plan_for(chaos), "partial,size=100,first=0,last=99/x", store)
    assert store.objects == {"k": chaos.body("/x", 100)}


@pytest.mark.parametrize("behaviour", ["no_last_chunk", "half_chunk"])
async def test_p07_a_chunked_body_without_its_end_is_not_stored(chaos, behaviour):
    """P7, A2, S2."""
    store = MemoryStore()
    async with rig() as one:
        with pytest.raises(OriginsExhausted) as caught:
            await moved(one, plan_for(chaos), f"{behaviour}/x", store)
        assert isinstance(caught.value.last, OriginTruncated)
        assert caught.value.last.expected is None
    assert store.objects == {}


async def test_a_broken_chunk_is_not_stored(chaos):
    """A2."""
    store = MemoryStore()
    async with rig() as one:
        with pytest.raises(OriginsExhausted) as caught:
            await moved(one, plan_for(chaos), "bad_chunk,size=2000000/x", store)
        assert isinstance(caught.value.last, OriginTruncated | OriginMalformed)
    assert store.objects == {}


async def test_p08_the_digest_of_a_second_answer_knows_nothing_of_the_first(chaos):
    """P8."""
    chaos.put("/k", b"abc" * 5000)
    chaos.script("/k", "truncate,at=5,resume=no", "status,code=500", "right_digest")
    async with rig() as one, ChaosOrigin() as other:
        other.put("/k", b"abc" * 5000)
        other.script("/k", "right_digest")
        got = await one.get(plan_for(chaos, standbys=[other]), "k")
        assert got.body == b"abc" * 5000
        assert got.way == [(200, "origin_truncated"), (200, "")]
        assert got.discarded == 1


@pytest.mark.parametrize(
    ("behaviour", "encoding", "packed"),
    [
        ("gzip_unasked", "gzip", True),
        ("gzip_mislabelled", "gzip", False),
        ("gzip_mislabelled,encoding=br", "br", False),
        ("gzip_unlabelled", None, True),
    ],
)
async def test_p09_bytes_and_label_are_those_of_the_wire(chaos, behaviour, encoding, packed):
    """P9, S2."""
    async with rig() as one:
        got = await one.get(plan_for(chaos), f"{behaviour}/x")
    plain = chaos.body("/x")
    assert got.body == (gzip.compress(plain, mtime=0) if packed else plain)
    assert first_header(got.answer.headers, "content-encoding") == encoding
    assert got.answer.length == len(got.body)


async def test_p10_the_origin_is_asked_for_identity_whatever_the_client_accepts(chaos):
    """P10, H6."""
    plan = plan_for(chaos, headers=(("Accept-Encoding", "gzip"), ("Accept-Language", "en")))
    async with rig() as one:
        await one.get(plan, "ok/x")
    [entry] = chaos.asked()
    assert [value for name, value in entry.headers if name.lower() == "accept-encoding"] == ["identity"]
    assert entry.header("accept-language") == "en"
    assert entry.header("x-ferryman-hop") == "me"
    assert entry.header("user-agent").startswith("ferryman/")
    assert entry.header("host") == chaos.host
    assert entry.header("cookie") is None


@pytest.mark.parametrize("behaviour", ["chunked", "chunked,chunk=1", "ok"])
async def test_a_whole_body_passes_in_any_proper_framing(chaos, behaviour):
    """A1, A2."""
    async with rig() as one:
        got = await one.get(plan_for(chaos), f"{behaviour},size=5000/x")
        assert one.control.good == [chaos.host]
    assert got.body == chaos.body("/x", 5000)
    assert got.answer.framing == ("chunked" if "chunked" in behaviour else "length")


async def test_a_transfer_coding_that_nobody_asked_for_is_refused(chaos):
    """S2: bytes after chunk decoding would still be packed, and no header would say so."""
    from scheduler.chaos.behaviour import Behaviour
    from scheduler.chaos.catalogue import CATALOGUE

    async def run(ex):
        await ex.head(200, [("Transfer-Encoding", "gzip, chunked")])
        await ex.chunk(gzip.compress(b"x"))
        await ex.raw(b"0\r\n\r\n", counted=False)

    chaos.server._behaviours = {
        **CATALOGUE,
        "packed": Behaviour(name="packed", summary="", params={}, run=run),
    }
    async with rig() as one:
        with pytest.raises(OriginsExhausted) as caught:
            await one.get(plan_for(chaos), "packed/x")
        assert isinstance(caught.value.last, OriginMalformed)


async def test_an_empty_object_is_whole(chaos):
    chaos.put("/empty", b"")
    async with rig() as one:
        got = await one.get(plan_for(chaos), "empty")
    assert (got.body, got.answer.length) == (b"", 0)


async def test_a_body_read_to_close_is_served_and_stored_only_when_the_rule_accepts_it(chaos):
    """A3, F57."""
    store = MemoryStore()
    async with rig() as one:
        got = await one.get(plan_for(chaos), "close/x")
        assert got.answer.framing == "close"
        assert got.body == chaos.body("/x")
        with pytest.raises(OriginsExhausted) as caught:
            await moved(one, plan_for(chaos), "close/x", store)
        assert isinstance(caught.value.__context__ or caught.value.last, OriginNoLength | OriginTimeout)
        assert store.objects == {}
        accepting = plan_for(chaos, store=StorePolicy(accept_close_delimited=True))
        await moved(one, accepting, "close/x", store)
    assert store.objects == {"k": chaos.body("/x")}


async def test_a_reset_of_a_body_read_to_close_is_no_end(chaos):
    """aiohttp reports it as a clean end; found by experiment."""
    from scheduler.chaos.behaviour import Behaviour
    from scheduler.chaos.catalogue import CATALOGUE

    async def run(ex):
        import asyncio

        await ex.head(200, [("Connection", "close")])
        await ex.raw(b"half")
        await asyncio.sleep(0.05)
        ex.reset()

    chaos.server._behaviours = {
        **CATALOGUE,
        "close_reset": Behaviour(name="close_reset", summary="", params={}, run=run),
    }
    async with rig() as one:
        with pytest.raises(OriginsExhausted) as caught:
            await one.get(plan_for(chaos), "close_reset/x")
        assert isinstance(caught.value.last, OriginTruncated)


async def test_a_length_that_is_too_large_or_too_small_is_never_a_whole_body(chaos):
    """S2."""
    async with rig() as one:
        with pytest.raises(OriginsExhausted) as caught:
            await one.get(plan_for(chaos), "wrong_length,by=10/x")
        assert isinstance(caught.value.last, OriginTruncated)


@pytest.mark.parametrize("behaviour", ["truncate", "reset", "stall"])
async def test_a_broken_body_is_continued_where_it_stopped(chaos, behaviour):
    """B6."""
    path = f"{behaviour},at=5000,size=20000/x"
    async with rig() as one:
        got = await one.get(plan_for(chaos), path)
        assert one.control.bad == []
    assert got.body == chaos.body("/x", 20000)
    assert got.way == [(200, "")]
    first, second = chaos.asked()
    assert second.header("range") == "bytes=5000-19999"
    assert second.header("if-range") == first_header(got.answer.headers, "etag")
    assert first.header("range") is None


async def test_a_body_that_breaks_again_and_again_is_continued_as_long_as_bytes_come(chaos):
    """B6."""
    async with rig() as one:
        got = await one.get(plan_for(chaos), "trickle_cuts,step=4000,size=40000/x")
    assert got.body == chaos.body("/x", 40000)
    assert chaos.count() == 10


@pytest.mark.parametrize("resume", ["no", "changed", "total", "shifted"])
async def test_a_continuation_of_something_else_is_discarded_for_the_next_candidate(chaos, resume):
    """B6: unchanged total, same object, exactly the missing part."""
    path = f"truncate,at=5000,size=20000,resume={resume}/x"
    async with rig() as one, ChaosOrigin() as other:
        other.script(f"/{path}", "ok,size=20000")
        plan = plan_for(chaos, standbys=[other])
        got = await one.get(plan, path)
        assert one.control.bad == [(chaos.host, "origin_truncated")]
        assert got.body == other.body(f"/{path}", 20000)
    assert got.way == [(200, "origin_truncated"), (200, "")]
    assert chaos.count() == 2


async def test_a_weak_validator_starts_over_instead_of_continuing(chaos):
    """B6."""
    chaos.put("/k", b"x" * 1000, [("ETag", 'W/"a"'), ("Last-Modified", "Fri, 01 Jan 2100 00:00:00 GMT")])
    chaos.script("/k", "truncate,at=10")
    async with rig() as one:
        with pytest.raises(OriginsExhausted):
            await one.get(plan_for(chaos), "k")
    assert chaos.count() == 1


@pytest.mark.parametrize(
    "kind",
    ["content-md5", "digest", "repr-digest", "x-goog-hash", "x-amz-checksum-sha256", "x-amz-checksum-crc32"],
)
async def test_bytes_that_differ_from_an_offered_digest_are_never_stored_and_eject_the_host(chaos, kind):
    """F43, B8; issue: wrong MD5."""
    store = MemoryStore()
    async with rig() as one:
        with pytest.raises(OriginsExhausted) as caught:
            await moved(one, plan_for(chaos), f"wrong_digest,kind={kind}/x", store)
        assert isinstance(caught.value.last, DigestMismatch)
        assert store.objects == {}
        assert not one.control.health.usable(chaos.host)
    async with rig() as one:
        await moved(one, plan_for(chaos), f"right_digest,kind={kind}/x", store)
    assert store.objects == {"k": chaos.body("/x")}


async def test_an_md5_shaped_etag_is_checked_only_where_the_rule_trusts_it(chaos):
    """F54."""
    async with rig() as one:
        assert (await one.get(plan_for(chaos), "wrong_digest,kind=etag/x")).body == chaos.body("/x")
        trusting = plan_for(chaos, store=StorePolicy(trust_etag_md5=True))
        with pytest.raises(OriginsExhausted) as caught:
            await one.get(trusting, "wrong_digest,kind=etag/x")
        assert isinstance(caught.value.last, DigestMismatch)


async def test_a_digest_survives_a_continued_body(chaos):
    """B6, P8: the digest covers both pieces."""
    import base64
    import hashlib

    body = b"0123456789" * 2000
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    chaos.put("/k", body, [("Content-MD5", md5)])
    chaos.script("/k", "truncate,at=777")
    async with rig() as one:
        got = await one.get(plan_for(chaos), "k")
    assert got.body == body
    assert got.answer.digests_offered


async def test_what_a_listing_promised_is_checked_without_blaming_the_host(chaos):
    import hashlib

    chaos.put("/k", b"body")
    good = hashlib.sha256(b"body").hexdigest()
    async with rig() as one:
        item = FetchItem(key="k", path="k", size=4, digest=f"sha256:{good}")
        assert (await one.get(plan_for(chaos), "k", item=item)).body == b"body"
        for wrong in (
            FetchItem(key="k", path="k", size=5),
            FetchItem(key="k", path="k", digest=f"sha256:{'0' * 64}"),
        ):
            with pytest.raises(OriginsExhausted) as caught:
                await one.get(plan_for(chaos), "k", item=wrong)
            assert isinstance(caught.value.last, ListingMismatch)
        assert one.control.health.usable(chaos.host)


async def test_an_endless_body_ends_by_the_total_deadline(chaos):
    """L10."""
    timeouts = Timeouts(connect_s=2, first_byte_s=2, idle_s=1, total_s=0.3)
    async with rig() as one:
        with pytest.raises(OriginsExhausted) as caught:
            await one.get(plan_for(chaos, timeouts=timeouts), "endless,interval=0.01,chunk=10/x")
        assert isinstance(caught.value.last, OriginTimeout)
        assert caught.value.last.phase == "total"


async def test_p45_a_slow_body_that_moves_is_not_interrupted_and_a_stalled_one_ends_by_idle(chaos):
    """P45, L9: steps shorter than the idle deadline, altogether longer."""
    async with rig() as one:
        got = await one.get(plan_for(chaos), "slow_body,step=10,interval=0.1,size=100/x")
        assert got.body == chaos.body("/x", 100)
        with pytest.raises(OriginsExhausted) as caught:
            await one.get(plan_for(chaos), "stall,at=10,resume=no/x")
        assert isinstance(caught.value.last, OriginTimeout)
        assert caught.value.last.phase == "idle"


async def test_a_consumer_that_leaves_early_frees_connection_and_slot(chaos):
    """P50: no fault of the origin."""
    async with rig() as one:
        item = FetchItem(key="k", path="ok,size=5000000/x")
        async with one.fetcher.session(plan_for(chaos), item, lane=Lane.HOT) as session:
            answer = await session.open()
            assert isinstance(answer, Fetched)
            async for _ in answer.chunks():
                break
        assert one.control.in_flight() == 0
        assert one.control.bad == []


async def test_a_slow_consumer_is_no_stalled_origin(chaos):
    """L9: the idle deadline measures the origin."""
    import asyncio

    async with rig() as one:
        item = FetchItem(key="k", path="ok,size=3000000/x")
        size = 0
        async with one.fetcher.session(plan_for(chaos), item, lane=Lane.HOT) as session:
            answer = await session.open()
            assert isinstance(answer, Fetched)
            async for chunk in answer.chunks():
                if size == 0:
                    await asyncio.sleep(0.9)  # longer than the idle deadline of 0.4 s
                size += len(chunk)
        assert size == 3000000
        assert one.control.bad == []
