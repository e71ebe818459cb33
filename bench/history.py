"""What a long past costs those who look: status, page, gate, lists and metrics over a million failures.

Each is asked over a short past and over a long one in the same run, on a real Valkey and SeaweedFS: commands,
bytes that Redis answers, and milliseconds, with their ratios. `test_a_long_past_costs_nobody_who_looks` is a
short form that looks at work, not at time.

    .venv/bin/python bench/history.py [--failures 1000000] [--scans 100000]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from scheduler.runtime import open_services
from support.gateway import gateway_settings
from support.history import Work, counted, fill, looks
from support.store.seaweed import running_seaweed
from support.valkey import running_valkey

BUCKET, TOKEN, SHORT = "bench", "t" * 32, 1_000
_TIMES = 3


async def measure(arguments: argparse.Namespace, root: Path) -> None:
    found: dict[str, list[Work]] = {}
    with running_seaweed() as seaweed, running_valkey() as valkey:
        for failures, scans in ((SHORT, SHORT), (arguments.failures, arguments.scans)):
            known = gateway_settings(
                seaweed, valkey, BUCKET, [{"origins": ["http://o.example"]}], data_dir=root / str(failures),
                namespace=f"n{failures}", admin={"token": TOKEN},
            )  # fmt: skip
            async with open_services(known) as services:
                began = time.perf_counter()
                await fill(services, BUCKET, failures=failures, scans=scans)
                print(f"{failures} failures, {scans} scans: filled in {time.perf_counter() - began:.0f} s")
                for name, look in looks(services, TOKEN, bucket=BUCKET).items():
                    if arguments.only is None or arguments.only in name:
                        done = [await counted(services, look) for _ in range(_TIMES)]
                        found.setdefault(name, []).append(min(done, key=lambda one: one.took_s))
    print(f"{'':34} {'commands':>16} {'bytes answered':>22} {'ms':>14} {'ratio: bytes, ms':>18}")
    for name, (short, long) in found.items():
        commands = f"{short.commands:>7} {long.commands:>8}"
        answered = f"{short.answered_bytes:>10} {long.answered_bytes:>11}"
        took = f"{short.took_s * 1000:>6.0f} {long.took_s * 1000:>7.0f}"
        ratios = long.answered_bytes / max(1, short.answered_bytes), long.took_s / max(1e-6, short.took_s)
        print(f"{name:34} {commands} {answered} {took} {ratios[0]:>9.2f} {ratios[1]:>8.2f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--failures", type=int, default=1_000_000)
    parser.add_argument("--scans", type=int, default=100_000)
    parser.add_argument("--only", help="those whose name has this in it")
    with tempfile.TemporaryDirectory(prefix="bench-history-") as folder:
        asyncio.run(measure(parser.parse_args(), Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
