"""What must hold when all is well again: nothing under way, and each key as the oracle says.

Owns the questions to the real store and the real Redis, past all cables.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from scheduler.config.load import load_settings
from torture.content import N_BIG, N_FLUX, N_GONE, at_origin, body_of, must_end
from torture.layout import BUCKET
from torture.oracle import ABSENT, value_of
from workers.errors import BrokerUnavailable
from workers.ledger.ledger import Ledger
from workers.plan import Lane
from workers.queue.queue import JobQueue
from workers.store.client import ObjectStore
from workers.store.listing import list_uploads
from workers.store.write.sweep import sweep

if TYPE_CHECKING:
    from torture.system import System

#: Seconds within which less must be under way than ever before, until all has ended: claims last 30 s,
#: orphaned uploads are swept after minutes, and a retry may be put off by 450 s. A busy machine comes on.
SETTLE_S: Final = 500.0
#: Seconds within which a process is gone that lost its parent while it booted, on a busy machine.
_BOOT_S: Final = 40.0


class Look:
    """Answers about a system that is well."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._settings = load_settings(system.root / "config.yaml", env=system.environment())

    def busy(self) -> Counter[str]:
        """What is still under way, by its kind; a Redis that comes back reads its file first."""
        for _ in range(30):
            try:
                return asyncio.run(self._busy())
            except (BrokerUnavailable, RedisError):
                time.sleep(1.0)
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
            back = await ledger.back.state(BUCKET)
            busy["keys on the way back"] = back.pending - back.failed
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

    def contents(self, groups: tuple[str, ...] = ("",)) -> dict[str, str]:
        """Every key of the store, or of groups, with what it holds."""
        return asyncio.run(self._contents(groups))

    def stored(self) -> set[str]:
        """Every key of the store."""
        return asyncio.run(self._stored())

    async def _stored(self) -> set[str]:
        async with ObjectStore(self._settings.store, self._settings.limits) as store:
            return {one.key async for page in store.list(BUCKET) for one in page.objects}

    async def _contents(self, groups: tuple[str, ...]) -> dict[str, str]:
        found: dict[str, str] = {}
        async with ObjectStore(self._settings.store, self._settings.limits) as store:
            keys = [
                one.key
                for group in groups
                async for page in store.list(BUCKET, group)
                for one in page.objects
            ]
            limit = asyncio.Semaphore(16)

            async def look(key: str) -> None:
                async with limit, await store.get(BUCKET, key) as answer:
                    if answer.status == 200:
                        found[key] = value_of(await answer.read())

            try:
                async with asyncio.TaskGroup() as tasks:
                    for key in keys:
                        if not key.startswith(".ferryman"):
                            tasks.create_task(look(key))
            except BaseExceptionGroup as several:  # whoever asks while the store is down expects its error
                raise several.exceptions[0] from several
        return found

    def remove(self, key: str) -> None:
        """Past everything that could remember it."""
        asyncio.run(self._remove(key))

    async def _remove(self, key: str) -> None:
        async with ObjectStore(self._settings.store, self._settings.limits) as store:
            await store.delete(BUCKET, key)

    def uploads(self) -> list[str]:
        """Keys with an open multipart upload that nobody would ever sweep."""
        return asyncio.run(self._uploads())

    async def _uploads(self) -> list[str]:
        async with ObjectStore(self._settings.store, self._settings.limits) as store:
            # Those of killed processes are swept after a day; here nobody is left who moves anything.
            await sweep(store, BUCKET, older_than_s=0.0, now=time.time() + 3600)
            found = list_uploads(store.transport, BUCKET, "", headers=store.common_headers)
            return [upload.key async for upload in found]


def settle(system: System, look: Look) -> None:
    """Wait until nothing is under way, and every key that somebody was promised has ended."""
    oracle, began, least = system.oracle, time.monotonic(), float("inf")
    while not oracle.violations:
        busy = look.busy()
        if not busy:
            ended = look.stored() | look.failures().keys()
            open_keys = [key for key in sorted(oracle.wanted) if must_end(key) and key not in ended]
            if not open_keys:
                break
            busy = Counter({f"keys without an end, such as {open_keys[0]}": len(open_keys)})
        if busy.total() < least:
            began, least = time.monotonic(), busy.total()
        if time.monotonic() - began > SETTLE_S:
            oracle.violated(f"nothing more ended within {SETTLE_S:.0f} s: {dict(busy)}")
            return
        time.sleep(1.0)
    if left := look.uploads():
        oracle.violated(f"open uploads that nobody sweeps: {left[:3]}")


def judge_contents(system: System, look: Look) -> None:
    """Each object of the store is one that it may be, and what was written is there."""
    oracle, contents = system.oracle, look.contents()
    for key, value in contents.items():
        if key.startswith(("pub/", "big/")):
            if value != value_of(body_of(key)):
                oracle.violated(f"the store's {key} has other bytes than the origin's")
        elif value not in oracle.possible(key, time.monotonic()):
            oracle.violated(f"the store's {key} has bytes that it must not have (now)")
    for key in oracle.written():
        possible = oracle.possible(key, time.monotonic())
        # Where the origin's own content is possible nobody has written it, and nobody need have asked for it.
        theirs = {value_of(body_of(key, version)) for version in range(oracle.version(key) + 1)}
        if key not in contents and not (at_origin(key) and theirs & possible) and ABSENT not in possible:
            oracle.violated(f"{key} was written and is not in the store")
    for key in (f"gone/{n}" for n in range(N_GONE)):
        if key in contents:
            oracle.violated(f"{key} is in the store, and no origin ever had it")


def unbalanced(status: dict[str, Any]) -> str:
    """What is wrong with the account of a scan that is done; nothing when it balances."""
    total = status["total"]
    terms = sum(number for name, number in total.items() if name not in {"found", "bytes"})
    read = status["read"] - status["duplicates"]
    if total["found"] != terms or total["pending"] or total["found"] != read:
        return f"{read} keys were read, and the account is {total}"
    return ""


def judge_processes(system: System) -> None:
    """Nobody outlives who started them: they would work on, in the version of then, stopped by nobody."""
    deadline = time.monotonic() + _BOOT_S
    while (left := system.orphans()) and time.monotonic() < deadline:
        time.sleep(0.5)
    for pid, command in left.items():
        system.oracle.violated(f"process {pid} has outlived the part that started it: {command}")


#: What the command says of a run before: that it has lost something, and that it is this one.
_LOST: Final = "Redis lost some of what it was told"
_GOES_ON: Final = "goes on with its run of"


def judge_scan(system: System, look: Look) -> None:
    """A scan over all that the origins have: its account balances, and nothing is missing afterwards."""
    oracle = system.oracle
    keys = [key for key in sorted(oracle.lost.union(oracle.wanted)) if at_origin(key)]
    keys += [f"flux/{n}" for n in range(N_FLUX)] + [f"big/{n}" for n in range(N_BIG)]
    (system.root / "keys.txt").write_text("".join(f"{key}\n" for key in keys))
    done = system.command("scan", "start", BUCKET, "--wait", timeout_s=300)
    lost = done.returncode != 0 and oracle.ever_forgot and _LOST in done.stderr
    if lost or (done.returncode == 0 and _GOES_ON in done.stderr):
        # One that began before a power cut, or before this list; whoever reads what it says begins anew.
        done = system.command("scan", "start", BUCKET, "--wait", timeout_s=300)
    if done.returncode != 0:
        oracle.violated(f"the last scan ends with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
        return
    status = system.command("scan", "status", BUCKET, "--json")
    if status.returncode != 0:
        oracle.violated(f"scan status ends with {status.returncode}: {status.stderr[-500:]}")
    elif wrong := unbalanced(json.loads(status.stdout)):
        oracle.violated(f"the account of the last scan does not balance: {wrong}")
    stored = look.stored()
    lost = [key for key in keys if key not in stored]
    if lost:
        oracle.violated(f"{len(lost)} keys are missing after a scan that is done, such as {lost[:3]}")


def judge_gate(system: System, look: Look) -> None:
    """Of a bucket that lacks one key of the inventory the gate stays shut, whatever was found before."""
    oracle, named = system.oracle, set((system.root / "keys.txt").read_text().split())
    victim = next((key for key in sorted(named & look.stored()) if key.startswith("pub/")), None)
    if victim is None:
        return
    look.remove(victim)
    verified = system.command("verify", BUCKET, "--json", timeout_s=300).stdout
    if not verified.startswith("{"):
        oracle.violated(f"verify says {verified[-500:]!r}")
    elif json.loads(verified)["clean"] and victim not in look.stored():
        oracle.violated(f"verify finds nothing, and the store lacks {victim}")
    looked = system.command("finalize", BUCKET, "--check", "--quiet", "1s", "--json").stdout
    if not looked.startswith("{"):
        oracle.violated(f"finalize --check says {looked[-500:]!r}")
    elif json.loads(looked)["open"] and victim not in look.stored():
        oracle.violated(f"the gate is open, and the store lacks {victim}")
    judge_scan(system, look)
