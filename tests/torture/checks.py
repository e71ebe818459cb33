"""What must hold when all is well again: nothing under way, and each key as the oracle says.

Owns the questions to the real store and the real Redis, past all cables.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from scheduler.config.load import load_settings
from torture.content import N_BIG, N_FLUX, N_GONE, N_RW, at_origin, body_of
from torture.oracle import ABSENT, value_of
from torture.system import BUCKET
from workers.ledger.ledger import Ledger
from workers.plan import Lane
from workers.queue.queue import JobQueue
from workers.store.client import ObjectStore
from workers.store.listing import list_uploads

if TYPE_CHECKING:
    from torture.system import System

#: Seconds for everything to end: claims last 30 s, orphaned uploads are swept after minutes.
SETTLE_S: Final = 240.0


class Look:
    """Answers about a system that is well."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._settings = load_settings(system.root / "config.yaml", env=system.environment())

    def busy(self) -> Counter[str]:
        """What is still under way, by its kind."""
        return asyncio.run(self._busy())

    async def _busy(self) -> Counter[str]:
        ledger, queue = Ledger.open(self._settings.broker), JobQueue.open(self._settings.broker)
        busy: Counter[str] = Counter()
        try:
            for lane in Lane:
                depth = await queue.depth(lane)
                busy[f"messages of {lane}"] = depth.waiting + depth.running + depth.delayed
            names = [name async for name in ledger.redis.scan_iter(match="ferryman:claim:*", count=1000)]
            for value in await ledger.redis.mget(names) if names else []:
                state = str(value).split("|")[0]
                if state in {"running", "queued", "pending"}:
                    busy[f"claims {state}"] += 1
        finally:
            await ledger.close()
            await queue.close()
        return +busy

    def failures(self) -> dict[str, str]:
        """Listed keys with their reasons."""
        return asyncio.run(self._failures())

    async def _failures(self) -> dict[str, str]:
        ledger = Ledger.open(self._settings.broker)
        try:
            return {failure.key: failure.reason async for failure in ledger.failures.iterate(BUCKET)}
        finally:
            await ledger.close()

    def contents(self) -> dict[str, str]:
        """Every key of the store with what it holds."""
        return asyncio.run(self._contents())

    async def _contents(self) -> dict[str, str]:
        found: dict[str, str] = {}
        async with ObjectStore(self._settings.store, self._settings.limits) as store:
            keys = [one.key async for page in store.list(BUCKET) for one in page.objects]
            limit = asyncio.Semaphore(16)

            async def look(key: str) -> None:
                async with limit, await store.get(BUCKET, key) as answer:
                    if answer.status == 200:
                        found[key] = value_of(await answer.read())

            async with asyncio.TaskGroup() as group:
                for key in keys:
                    if not key.startswith(".ferryman"):
                        group.create_task(look(key))
        return found

    def uploads(self) -> list[str]:
        """Keys with an open multipart upload."""
        return asyncio.run(self._uploads())

    async def _uploads(self) -> list[str]:
        async with ObjectStore(self._settings.store, self._settings.limits) as store:
            found = list_uploads(store.transport, BUCKET, "", headers=store.common_headers)
            return [upload.key async for upload in found]


def settle(system: System, look: Look) -> None:
    """Wait until nothing is under way, and every key that somebody was promised has ended."""
    oracle, started = system.oracle, time.monotonic()
    while True:
        busy = look.busy()
        if not busy:
            ended = look.contents().keys() | look.failures().keys()
            open_keys = [key for key in sorted(oracle.wanted) if at_origin(key) and key not in ended]
            if not open_keys:
                return
            busy = Counter({f"keys without an end, such as {open_keys[0]}": len(open_keys)})
        if time.monotonic() - started > SETTLE_S:
            oracle.violated(f"not ended within {SETTLE_S:.0f} s: {dict(busy)}")
            return
        time.sleep(1.0)


def judge_contents(system: System, look: Look) -> None:
    """Each object of the store is one that it may be, and what was written is there."""
    oracle, contents = system.oracle, look.contents()
    for key, value in contents.items():
        if key.startswith(("pub/", "big/")):
            if value != value_of(body_of(key)):
                oracle.violated(f"the store's {key} has other bytes than the origin's")
        elif value not in oracle.possible(key, time.monotonic()):
            oracle.violated(f"the store's {key} has bytes that it must not have (now)")
    for key in (f"rw/{n}" for n in range(N_RW)):
        # What only clients wrote is nowhere else: absent in the store is absent.
        possible = oracle.possible(key, time.monotonic())
        if key not in contents and not at_origin(key) and ABSENT not in possible:
            oracle.violated(f"{key} was written and is not in the store")
    for key in (f"gone/{n}" for n in range(N_GONE)):
        if key in contents:
            oracle.violated(f"{key} is in the store, and no origin ever had it")


def judge_scan(system: System, look: Look) -> None:
    """A scan over all that the origins have: its account balances, and nothing is missing afterwards."""
    oracle = system.oracle
    keys = [key for key in sorted(oracle.lost.union(oracle.wanted)) if at_origin(key)]
    keys += [f"flux/{n}" for n in range(N_FLUX)] + [f"big/{n}" for n in range(N_BIG)]
    (system.root / "keys.txt").write_text("".join(f"{key}\n" for key in keys))
    done = system.command("scan", "start", BUCKET, "--wait", timeout_s=300)
    if done.returncode != 0:
        oracle.violated(f"the last scan ends with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
        return
    status = json.loads(system.command("scan", "status", BUCKET, "--json").stdout)
    total = status["total"]
    terms = sum(number for name, number in total.items() if name != "listed" and isinstance(number, int))
    if total.get("listed") is not None and terms < total["listed"]:
        oracle.violated(f"the account of the last scan does not balance: {total}")
    contents = look.contents()
    lost = [key for key in keys if key not in contents]
    if lost:
        oracle.violated(f"{len(lost)} keys are missing after a scan that is done, such as {lost[:3]}")
