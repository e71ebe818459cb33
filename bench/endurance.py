"""Load that lasts: mixed traffic at 80 % of what this machine can, and what grows meanwhile.

A whole `ferryman up` (Valkey, SeaweedFS, front, scans, consumer, both lanes) under visitors (hits, first
misses, absent keys), events, a log and S3 clients that write, read and delete. The best rate at which all is
answered as it comes is found out first; then requests are sent at 80 % of it, on time whether answers come or
not. Memory, descriptors, Redis, disk, processor time and latency (that of looks at the page, a scan and the
gate, too) are sampled; over the last two thirds of the time each has a slope (Theil-Sen), printed per hour
beside its bound. Controls say whose growth it is: how fast the machine is, how busy, and how long the store
takes by itself. Ends with 1 when a bound is exceeded, or an answer was wrong.

    .venv/bin/python bench/endurance.py [--minutes 60] [--share 0.8 | --rate N] [--busy] [--samples FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from lasting.growth import judge
from lasting.samples import Sampler
from lasting.traffic import BUCKET, Seen, Traffic, endless_origin

from scheduler.config.load import load_settings
from scheduler.machine.embedded import resolve_running
from support.installation import running_up_with
from workers.queue.queue import JobQueue

if TYPE_CHECKING:
    from support.installation import Up

#: Seconds in which the best rate is found out, a share of the whole time.
CALIBRATION_SHARE, CALIBRATION_LEAST_S = 0.02, 15.0
SAMPLES = 240


async def endure(up: Up, config: Path, log: Path, arguments: argparse.Namespace) -> int:
    settings = resolve_running(load_settings(config, env={"FERRYMAN_DATA_DIR": str(up.data_dir)}))
    keys, seconds = orjson.loads((up.data_dir / "credentials.json").read_bytes()), arguments.minutes * 60
    front = _s3_client(up.gateway, keys["client_access_key_id"], keys["client_secret_access_key"])
    store = _s3_client(settings.store.endpoint, keys["access_key_id"], keys["secret_access_key"])
    traffic = Traffic(up, log, front=front, store=store, clients=arguments.clients)
    sampler, queue = Sampler(up, settings.broker, traffic), JobQueue.open(settings.broker)
    try:
        await traffic.warm()
        first = max(CALIBRATION_LEAST_S, seconds * CALIBRATION_SHARE)
        rate = arguments.rate
        if rate is None:
            best = await traffic.best_rate(first, queue)
            rate = best * arguments.share
            print(f"best rate {best:.0f}/s", flush=True)
        print(f"{rate:.0f}/s for {seconds:.0f} s", flush=True)
        fixed_s = await sampler.fixed_work.took_s()
        traffic.seen = Seen(wrong=traffic.seen.wrong)
        await sampler.begin()
        load = asyncio.create_task(traffic.run(rate, seconds))
        began = time.monotonic()
        while not load.done():
            await asyncio.sleep(max(1.0, seconds / SAMPLES))
            await sampler.take(time.monotonic() - began)
            if arguments.samples is not None:
                arguments.samples.write_bytes(orjson.dumps({"fixed_work_s": fixed_s, "rows": sampler.rows}))
        await load
    finally:
        await traffic.close()
        await sampler.close()
        await queue.close()
    exceeded = judge(sampler.rows, fixed_work_s=fixed_s, busy=arguments.busy)
    seen = traffic.seen
    print(f"answers: {dict(seen.answers.most_common())}; begun late: {seen.late}")
    for text in seen.wrong[:20]:
        print(f"WRONG: {text}")
    failed = sum(number for name, number in seen.answers.items() if " " in name)
    if failed > 0.001 * sum(seen.answers.values()):
        print(f"{failed} requests without an answer")
        exceeded += 1
    return exceeded + len(seen.wrong)


def _s3_client(endpoint: str, access_key_id: str, secret_access_key: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=16, help="connections")
    parser.add_argument("--share", type=float, default=0.8, help="of the best rate")
    parser.add_argument("--rate", type=float, help="turns a second, for runs to compare; finds out none")
    parser.add_argument(
        "--busy", action="store_true", help="others use this machine: latencies are not judged"
    )
    parser.add_argument("--samples", type=Path, help="a JSON file for all that was sampled")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-endurance-")))
        origin = stack.enter_context(endless_origin(root))
        log, manifest = root / "access.log", root / "keys.txt"
        log.touch()
        manifest.write_text("k/0\n")
        config = root / "config.yaml"
        config.write_text(
            f"buckets: {{{BUCKET}: {{access: public, rules: [{{name: all, origins: ['{origin}']}}]}}}}\n"
            f"consume: [{{path: {log}, format: combined, bucket: {BUCKET}, start: start}}]\n"
            f"scans: {{{BUCKET}: {{bucket: {BUCKET}, inventory: {{manifest: {manifest}}}}}}}\n"
        )
        up = stack.enter_context(running_up_with(root / "up", "--config", str(config)))
        return 1 if uvloop.run(endure(up, config, log, arguments)) else 0


if __name__ == "__main__":
    sys.exit(main())
