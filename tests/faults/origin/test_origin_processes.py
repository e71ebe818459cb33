"""Real processes that share an origin: killed ones, many, and a Valkey that goes away and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import textwrap
import uuid
from pathlib import Path

import pytest
import redis.asyncio

from scheduler.config.ports import free_ports
from support.valkey import running_valkey
from workers.errors import BudgetExhausted, OriginUnreachable
from workers.origin.control.control import OriginControl
from workers.plan import FetchItem, FetchPlan, Lane, Origin, OriginGroup
from workers.settings import BudgetSettings, OriginSettings

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[3]
A, B = "a.example", "b.example"
PLAN = FetchPlan(
    bucket="site", rule="r", groups=(OriginGroup(primary=Origin(host=A)), OriginGroup(primary=Origin(host=B)))
)

PROCESS = """
    import asyncio, sys
    import redis.asyncio
    from workers.origin.control.control import OriginControl
    from workers.plan import FetchItem, FetchPlan, Lane, Origin, OriginGroup
    from workers.settings import BudgetSettings, OriginSettings

    url, namespace, what = sys.argv[1:]
    groups = tuple(OriginGroup(primary=Origin(host=host)) for host in ("a.example", "b.example"))
    PLAN = FetchPlan(bucket="site", rule="r", groups=groups)

    async def main():
        client = redis.asyncio.Redis.from_url(url, db=1)
        settings = OriginSettings(adaptive=False, budgets={"a.example": BudgetSettings(concurrency=4)})
        async with OriginControl(settings, redis=client, namespace=namespace, lease_s=2.0) as control:
            if what == "hold":
                slots = [await control.acquire("a.example", Lane.HOT, timeout_s=10) for _ in range(4)]
                print("holds", len(slots), flush=True)
                await asyncio.sleep(60)
            else:
                print("ready", flush=True)
                item = FetchItem(key="k", path="k", pick=0)
                while control.candidates(PLAN, item)[0].host == "a.example":
                    await asyncio.sleep(0.05)
                print("knows", flush=True)

    asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def process(url: str, namespace: str, what: str):
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(PROCESS),
        url,
        namespace,
        what,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def said(child, word: str) -> None:
    async with asyncio.timeout(60):
        while word not in (line := (await child.stdout.readline()).decode()):
            assert line, "it ended before it said so"


async def test_slots_of_a_sigkilled_process_are_free_again_when_its_lease_ends(valkey_url):
    namespace = f"t{uuid.uuid4().hex[:8]}"
    async with contextlib.AsyncExitStack() as stack:
        victim = await stack.enter_async_context(process(valkey_url, namespace, "hold"))
        await said(victim, "holds 4")
        client = redis.asyncio.Redis.from_url(valkey_url, db=1)
        stack.push_async_callback(client.aclose)
        settings = OriginSettings(adaptive=False, budgets={A: BudgetSettings(concurrency=4)})
        heir = await stack.enter_async_context(
            OriginControl(settings, redis=client, namespace=namespace, lease_s=2.0)
        )
        with pytest.raises(BudgetExhausted):
            await heir.acquire(A, Lane.HOT, timeout_s=3.0)
        os.kill(victim.pid, signal.SIGKILL)
        await victim.wait()
        began = asyncio.get_running_loop().time()
        slots = [await heir.acquire(A, Lane.HOT, timeout_s=10) for _ in range(4)]
        assert len(slots) == 4
        assert asyncio.get_running_loop().time() - began < 4.0
        for slot in slots:
            slot.release()


async def test_five_failures_in_one_process_eject_in_four_others(valkey_url):
    namespace = f"t{uuid.uuid4().hex[:8]}"
    async with contextlib.AsyncExitStack() as stack:
        others = [await stack.enter_async_context(process(valkey_url, namespace, "watch")) for _ in range(4)]
        for other in others:
            await said(other, "ready")
        client = redis.asyncio.Redis.from_url(valkey_url, db=1)
        stack.push_async_callback(client.aclose)
        one = await stack.enter_async_context(
            OriginControl(OriginSettings(), redis=client, namespace=namespace)
        )
        for _ in range(5):
            one.failed(A, OriginUnreachable("refused", origin=A))
        async with asyncio.timeout(10):
            for other in others:
                await said(other, "knows")


async def test_a_valkey_that_is_killed_and_comes_back_costs_neither_work_nor_the_budget(tmp_path):
    """Guarantee 5: without Redis each process keeps its last share; and it shares again by itself."""
    (port,) = free_ports(1)
    settings = OriginSettings(
        adaptive=False, budgets={A: BudgetSettings(concurrency=6, requests_per_s=10_000)}
    )
    running = peak = done = 0
    stop = asyncio.Event()

    async def work(control: OriginControl) -> None:
        nonlocal running, peak, done
        while not stop.is_set():
            try:
                slot = await control.acquire(A, Lane.HOT, timeout_s=5)
            except BudgetExhausted:
                continue
            async with slot:
                running += 1
                peak = max(peak, running)
                await asyncio.sleep(0.005)
                running -= 1
                done += 1

    async def more(n: int) -> None:
        target = done + n
        async with asyncio.timeout(20):
            while done < target:  # noqa: ASYNC110 - counted by the workers
                await asyncio.sleep(0.02)

    async with contextlib.AsyncExitStack() as stack:
        server = contextlib.ExitStack()
        stack.callback(server.close)
        url = server.enter_context(running_valkey(port=port, directory=tmp_path))
        controls = []
        for _ in range(2):
            client = redis.asyncio.Redis.from_url(url, db=1)
            stack.push_async_callback(client.aclose)
            controls.append(await stack.enter_async_context(OriginControl(settings, redis=client)))
        tasks = [asyncio.create_task(work(control)) for control in controls for _ in range(6)]
        await more(50)
        server.close()
        await more(100)
        server.enter_context(running_valkey(port=port, directory=tmp_path))
        await more(100)
        async with asyncio.timeout(20):
            while not all(control._shared for control in controls):  # noqa: ASYNC110 - their own loops
                await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*tasks)
    assert peak <= 6
    item = FetchItem(key="k", path="k")
    assert controls[0].candidates(PLAN, item)
