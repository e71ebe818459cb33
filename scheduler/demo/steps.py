"""The steps of the demo, in order. Each shows one thing and checks it.

A step is an async function of the stage; `STEPS` is the list to extend, with the title printed above it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING

from scheduler.demo import migration
from scheduler.demo.content import ARCHIVE_PREFIX, LARGE_KEY, ODD_NAMES, SLOW_KEY
from scheduler.demo.gateway_log import gateway_log
from scheduler.demo.stage import BUCKET

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from scheduler.demo.stage import Stage

#: Clients at once in the sweep.
_CLIENTS = 8


async def first_and_second_get(stage: Stage) -> None:
    """A miss is answered from the origin and stored; then the origin is not needed any more."""
    key = "index.html"
    first = await stage.http.get(stage.url(key))
    stage.check(
        first.status_code == 200, f"GET {key}: 200 expected, got {first.status_code} {first.text[:300]}"
    )
    stage.check(first.content == stage.body(key), f"GET {key}: the body differs from the origin's")
    stage.check(
        stage.origin.requests[key] == 1, f"the origin was asked {stage.origin.requests[key]} times, not once"
    )
    stage.say(f"GET /{BUCKET}/{key}: {first.status_code}, {len(first.content)} bytes from the origin")
    await stage.until("the object is in the store", lambda: _present(stage, key))
    await stage.origin.stop()
    try:
        second = await stage.http.get(stage.url(key))
    finally:
        await stage.origin.start()
    tag = second.headers.get("x-oss-tag", "")
    stage.check(second.status_code == 200, f"second GET: 200 expected, got {second.status_code}")
    stage.check(second.content == stage.body(key), "second GET: the body differs")
    stage.check(bool(tag), "second GET: x-oss-tag is missing")
    stage.say(f"origin stopped; GET again: {second.status_code} from the store, x-oss-tag: {tag}")
    stage.moved.add(key)
    stage.note("second GET with the origin stopped", "200, x-oss-tag")


async def slow_origin(stage: Stage) -> None:
    """The client reads the first bytes long before the origin has sent the last."""
    began = time.monotonic()
    first_at = 0.0
    digest = hashlib.sha256()
    async with stage.http.stream("GET", stage.url(SLOW_KEY)) as answer:
        stage.check(answer.status_code == 200, f"GET {SLOW_KEY}: 200 expected, got {answer.status_code}")
        async for chunk in answer.aiter_raw():
            first_at = first_at or time.monotonic()
            digest.update(chunk)
    total_s, first_s = time.monotonic() - began, first_at - began
    stage.check(
        digest.digest() == hashlib.sha256(stage.body(SLOW_KEY)).digest(), f"GET {SLOW_KEY}: the body differs"
    )
    stage.check(
        first_s < total_s / 2,
        f"the first byte came after {first_s:.2f} s of {total_s:.2f} s: the answer was not streamed",
    )
    stage.say(f"first byte after {first_s * 1000:.0f} ms, last after {total_s:.2f} s")
    stage.note("slow origin: first byte / last byte", f"{first_s * 1000:.0f} ms / {total_s:.2f} s")
    await stage.until("the slow object is in the store", lambda: _present(stage, SLOW_KEY))
    stage.moved.add(SLOW_KEY)


async def sweep(stage: Stage) -> None:
    """Many clients ask for pages, pictures, packed data, and names that break other tools."""
    keys = [key for key in stage.samples if key.startswith(("pages/", "img/", "data/", "names/"))]
    slots = asyncio.Semaphore(_CLIENTS)

    async def one(key: str) -> None:
        async with slots, stage.http.stream("GET", stage.url(key)) as answer:
            body = b"".join([chunk async for chunk in answer.aiter_raw()])
        stage.check(answer.status_code == 200, f"GET {key}: 200 expected, got {answer.status_code}")
        stage.check(body == stage.body(key), f"GET {key}: the body differs")

    began = time.monotonic()
    await asyncio.gather(*(one(key) for key in keys))
    took_s = time.monotonic() - began
    stage.moved.update(keys)
    stage.say(
        f"{len(keys)} misses by {_CLIENTS} clients in {took_s:.1f} s, {len(ODD_NAMES)} of them odd names"
    )
    stage.note("misses through the gateway", f"{len(keys)} in {took_s:.1f} s")


async def events(stage: Stage) -> None:
    """Nobody waits: miss events are queued and dramatiq's worker processes fetch, one object of 60 MB too."""
    keys = [LARGE_KEY, *(key for key in stage.samples if key.startswith(("downloads/", "assets/")))]
    began = time.monotonic()
    accepted = 0
    for key in keys:
        answer = await stage.http.post(
            f"{stage.system.admin}/v1/miss-events",
            json={"bucket": BUCKET, "key": key},
            headers=stage.bearer,
        )
        stage.check(
            answer.status_code == 202,
            f"event for {key}: 202 expected, got {answer.status_code} {answer.text}",
        )
        accepted += int(answer.json()["accepted"])
    stage.check(accepted == len(keys), f"{accepted} of {len(keys)} events accepted")

    async def all_there() -> bool:
        return all([await _present(stage, key) for key in keys])

    await stage.until("the workers have moved what the events named", all_there)
    took_s = time.monotonic() - began
    size = sum(stage.samples[key].size for key in keys)
    stage.moved.update(keys)
    stage.say(f"{len(keys)} events accepted, {size / 1e6:.0f} MB moved by workers in {took_s:.1f} s")
    stage.note("events to workers", f"{len(keys)} objects, {size / 1e6:.0f} MB in {took_s:.1f} s")


async def bad_events(stage: Stage) -> None:
    """What is wrong with an event is said, and nothing of it is queued."""
    for event, why in (
        ({"bucket": BUCKET}, "no key"),
        ({"bucket": BUCKET, "key": "k" * 1025}, "a key of 1,025 bytes"),
        ({"bucket": BUCKET, "key": "a\nb"}, "a control character"),
    ):
        answer = await stage.http.post(
            f"{stage.system.admin}/v1/miss-events", json=event, headers=stage.bearer
        )
        stage.check(
            answer.status_code == 400,
            f"event with {why}: 400 expected, got {answer.status_code} {answer.text}",
        )
    refused = await stage.http.post(
        f"{stage.system.admin}/v1/miss-events", json={"bucket": BUCKET, "key": "x"}
    )
    stage.check(refused.status_code == 401, f"event without a token: 401 expected, got {refused.status_code}")
    stage.say("events with no key, a long key, a control character, or no token are refused")


async def compare(stage: Stage) -> None:
    """What is in the bucket is byte for byte what the origin has, and nothing else is there."""
    listed: dict[str, int] = {}
    async for page in stage.store.list(BUCKET):
        listed.update(
            {entry.key: entry.size for entry in page.objects if not entry.key.startswith(".ferryman/")}
        )
    missing, more = stage.moved - listed.keys(), listed.keys() - stage.moved
    stage.check(not missing, f"not in the bucket: {_some(missing)}")
    stage.check(not more, f"in the bucket, but never moved: {_some(more)}")
    differing = [key for key in sorted(listed) if not await _same(stage, key)]
    stage.check(not differing, f"bytes differ from the origin's: {_some(differing)}")
    total = sum(listed.values())
    stage.say(f"{len(listed)} objects, {total / 1e6:.0f} MB: every byte is the origin's")
    stage.note(
        "bucket compared with the origin", f"{len(listed)} objects, {total / 1e6:.0f} MB, no difference"
    )
    left = [key for key in stage.samples if key.startswith(ARCHIVE_PREFIX) and key not in listed]
    if left:
        stage.say(f"{len(left)} objects nobody asked for are still at the origin only: that is a scan's work")


async def status(stage: Stage) -> None:
    """The same numbers for a person in a browser and for a program."""
    page = await stage.http.get(f"{stage.system.admin}/", headers=stage.bearer)
    stage.check(page.status_code == 200, f"the admin page: 200 expected, got {page.status_code}")
    stage.check("html" in page.headers.get("content-type", ""), "the admin page is not HTML")
    told = await stage.system.run("status", "--json")
    stage.check(told.lstrip().startswith("{"), "`ferryman status --json` printed no JSON object")
    stage.say("the admin page and `ferryman status --json` answer")


async def _present(stage: Stage, key: str) -> bool:
    return await stage.store.head(BUCKET, key) is not None


async def _same(stage: Stage, key: str) -> bool:
    digest = hashlib.sha256()
    async with await stage.store.get(BUCKET, key) as answer:
        async for chunk in answer.chunks():
            digest.update(chunk)
    with stage.samples[key].path.open("rb") as file:
        return digest.digest() == hashlib.file_digest(file, "sha256").digest()


def _some(keys: Iterable[str]) -> str:
    found = sorted(keys)
    return ", ".join(repr(key) for key in found[:5]) + (
        f" and {len(found) - 5} more" if len(found) > 5 else ""
    )


Step = tuple[str, "Callable[[Stage], Awaitable[None]]"]

#: What is shown, in this order.
STEPS: list[Step] = [
    ("A miss, and then a hit without the origin", first_and_second_get),
    ("A slow origin is streamed", slow_origin),
    ("Many misses at once", sweep),
    ("Miss events and workers", events),
    ("Events that are refused", bad_events),
    ("A gateway's log, consumed while it is written", gateway_log),
    ("Byte for byte", compare),
    ("What an operator sees", status),
    ("A scan moves what nobody asked for", migration.scan),
    ("Verification", migration.verify),
    ("The gate, and the end of the rule", migration.finalize),
]
