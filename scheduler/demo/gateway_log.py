"""The demo's gateway log: written while the demo runs, rotated in the middle, and consumed.

Owns one step. The clients of that gateway never touch Ferryman: it learns of their misses from the log alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from scheduler.demo.content import ARCHIVE_PREFIX
from scheduler.demo.stage import BUCKET

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.demo.stage import Stage

#: Objects that only the log asks for.
_COUNT = 12
_AGENT = "Mozilla/5.0 (X11; Linux x86_64)"


async def gateway_log(stage: Stage) -> None:
    """A gateway that knows nothing of Ferryman writes its log; what it missed arrives in the bucket."""
    keys = sorted(key for key in stage.samples if key.startswith(ARCHIVE_PREFIX))[:_COUNT]
    log = stage.system.root / "gateway.log"
    log.unlink(missing_ok=True)
    _write(log, "index.html", 200)
    consumer = await asyncio.create_subprocess_exec(
        *stage.system.command("consume", str(log), "--bucket", BUCKET, "--from-start"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    lines = 1
    try:

        async def following() -> bool:
            stage.check(consumer.returncode is None, f"`ferryman consume` ended with {consumer.returncode}")
            return any((stage.system.data_dir / "consume").glob("*.json"))

        await stage.until("the consumer follows the log", following)
        began = time.monotonic()
        for number, key in enumerate(keys):
            if number == len(keys) // 2:
                log.rename(log.with_name("gateway.log.1"))
            # Every miss is asked for three times, between hits, and by a client that only looks.
            for _ in range(3):
                _write(log, key, 404)
                _write(log, "index.html", 200)
            _write(log, f"{key}.never", 404, method="HEAD")
            lines += 7
            await asyncio.sleep(0.05)

        async def all_there() -> bool:
            stage.check(consumer.returncode is None, f"`ferryman consume` ended with {consumer.returncode}")
            return all([await stage.store.head(BUCKET, key) is not None for key in keys])

        await stage.until("the workers have moved what the log says is missing", all_there)
    finally:
        if consumer.returncode is None:
            consumer.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(consumer.wait(), 20)
        if consumer.returncode is None:
            consumer.kill()
    took_s = time.monotonic() - began
    stage.moved.update(keys)
    stage.check(consumer.returncode == 0, f"`ferryman consume` ended with {consumer.returncode}, not 0")
    stage.say(f"{lines} log lines over a rotation: {len(keys)} misses found and moved in {took_s:.1f} s")
    stage.note("gateway log to workers", f"{lines} lines, {len(keys)} objects in {took_s:.1f} s")


def _write(log: Path, key: str, status: int, *, method: str = "GET") -> None:
    """One line of nginx's combined format."""
    now = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    with log.open("a", encoding="utf-8") as file:
        file.write(f'203.0.113.7 - - [{now}] "{method} /{quote(key)} HTTP/1.1" {status} 153 "-" "{_AGENT}"\n')
