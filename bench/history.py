"""What a long past costs those who look: status, page, gate, lists and metrics after a million misses.

Each is asked over a short past and over a long one in the same run, on a real Valkey and SeaweedFS: commands,
bytes that Redis answers, and milliseconds, with their ratios. `test_a_long_past_costs_nobody_who_looks` is a
short form that looks at work, not at time.

    .venv/bin/python bench/history.py [--misses 1000000] [--failures 1000000] [--scans 100000]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from scheduler.runtime import open_services
from support.gateway import gateway_settings
from support.history import Work, counted, fill, looks, miss
from support.store.seaweed import running_seaweed
from support.valkey import running_valkey

BUCKET, TOKEN, SHORT = "bench", "t" * 32, 1_000
_TIMES = 5


async def measure(arguments: argparse.Namespace, root: Path) -> None:
    with running_seaweed() as seaweed, running_valkey() as valkey:
        async with contextlib.AsyncExitStack() as stack:
            asked = []
            long = arguments.misses, arguments.failures, arguments.scans
            for misses, failures, scans in ((SHORT, SHORT, SHORT), long):
                known = gateway_settings(
                    seaweed, valkey, BUCKET, [{"origins": ["http://o.example"]}],
                    data_dir=root / str(failures), namespace=f"n{failures}", admin={"token": TOKEN},
                )  # fmt: skip
                services = await stack.enter_async_context(open_services(known))
                began = time.perf_counter()
                await miss(services, BUCKET, range(misses))
                await fill(services, BUCKET, failures=failures, scans=scans)
                took_s = time.perf_counter() - began
                print(f"{misses} misses, {failures} failures, {scans} scans: filled in {took_s:.0f} s")
                asked.append((services, looks(services, TOKEN, bucket=BUCKET)))
            print(f"{'':34} {'commands':>16} {'bytes answered':>22} {'ms':>14} {'ratio: bytes, ms':>18}")
            for name in asked[0][1]:
                if arguments.only is None or arguments.only in name:
                    done: list[list[Work]] = [[], []]
                    for _ in range(_TIMES):  # in turns, so that what else the machine does meets both
                        for at, (services, those) in enumerate(asked):
                            done[at].append(await counted(services, those[name]))
                    _row(name, *(min(each, key=lambda one: one.took_s) for each in done))


def _row(name: str, short: Work, long: Work) -> None:
    commands = f"{short.commands:>7} {long.commands:>8}"
    answered = f"{short.answered_bytes:>10} {long.answered_bytes:>11}"
    took = f"{short.took_s * 1000:>6.0f} {long.took_s * 1000:>7.0f}"
    ratios = long.answered_bytes / max(1, short.answered_bytes), long.took_s / max(1e-6, short.took_s)
    print(f"{name:34} {commands} {answered} {took} {ratios[0]:>9.2f} {ratios[1]:>8.2f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--misses", type=int, default=1_000_000)
    parser.add_argument("--failures", type=int, default=1_000_000)
    parser.add_argument("--scans", type=int, default=100_000)
    parser.add_argument("--only", help="those whose name has this in it")
    with tempfile.TemporaryDirectory(prefix="bench-history-") as folder:
        asyncio.run(measure(parser.parse_args(), Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
