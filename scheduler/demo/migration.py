"""The end of the demo's migration: scan, verify, finalize, by the same commands as an operator's.

Owns three steps. After them the rule is retired and the origin is needed no more.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from scheduler.demo.stage import BUCKET
from scheduler.demo.system import DemoFailed

if TYPE_CHECKING:
    from scheduler.demo.stage import Stage

SCAN = "archive"
#: Objects compared byte by byte.
_SAMPLE = 50
#: Seconds without a miss that the demo's gate asks for; 24 h is the default for real sites.
_QUIET_S = 4


async def scan(stage: Stage) -> None:
    """Everything that nobody asked for: the inventory against the bucket."""
    inventory = stage.system.root / "urls.txt"
    keys = sorted(stage.samples)
    absent = "never/was.txt"
    inventory.write_text("".join(f"{key}\n" for key in [*keys, absent]), encoding="utf-8")
    await _run(
        stage, "scan", "start", SCAN, "--bucket", BUCKET, "--manifest", str(inventory), "--wait", shown=True
    )
    report = await _json(stage, "scan", "status", SCAN)
    total = report["total"]
    stage.check(report["phase"] == "done", f"the scan is done, found {report['phase']}")
    stage.check(total["found"] == len(keys) + 1, f"the scan found {len(keys) + 1} keys, not {total['found']}")
    stage.check(total["absent"] == 1, "the key that the origin does not have is absent, and only it")
    terms = ("present", "stored", "absent", "differs", "excluded", "failed", "skipped", "pending")
    stage.check(total["found"] == sum(total[term] for term in terms), f"the account balances: {total}")
    stage.check(total["failed"] == 0, f"no key failed, found {total['failed']}")
    stage.say(f"{total['found']} named = {total['present']} present + {total['stored']} stored + 1 absent")
    stage.moved.update(keys)
    stage.note("objects moved by the scan", str(total["stored"]))


async def verify(stage: Stage) -> None:
    """By the listing, and a sample byte by byte against the origin."""
    report = await _json(stage, "verify", SCAN, "--sample", str(_SAMPLE))
    stage.check(report["clean"], f"the verification is clean, found {report['counts']}")
    stage.check(report["compared"] == _SAMPLE, f"{_SAMPLE} objects were compared, not {report['compared']}")
    stage.say(f"{report['checked']} keys by listing, {report['compared']} objects byte by byte: clean")
    stage.note("bad objects per million, at 99 %, at most", f"{report['bad_per_million']:.0f}")


async def finalize(stage: Stage) -> None:
    """The gate: shut while misses are fresh, open after a quiet period; the rule is retired with a report."""
    stage.say(f"waiting {_QUIET_S} s without a miss (real sites: 24 h)")
    await asyncio.sleep(_QUIET_S + 2)
    result = await _json(stage, "finalize", SCAN, "--quiet", f"{_QUIET_S}s")
    for one in result["conditions"]:
        stage.say(f"{'holds' if one['ok'] else 'warning':<8} {one['name']}")
    stage.check(result["open"], f"the gate is open: {result['conditions']}")
    stage.check(bool(result["retired"]), "the rule is retired")
    for report in result["reports"]:
        stage.say(f"report: {report}")
    missing = stage.url("after/the-end.txt")

    async def retired() -> bool:
        before = len(stage.origin.requests)
        answer = await stage.http.get(missing)
        return answer.status_code == 404 and len(stage.origin.requests) == before

    await stage.until("the retired rule asks no origin any more", retired, timeout_s=10)
    stage.note("rules retired by the gate", ", ".join(result["retired"]))


async def _json(stage: Stage, *arguments: str) -> Any:
    return json.loads(await _run(stage, *arguments, "--json"))


async def _run(stage: Stage, *arguments: str, shown: bool = False) -> str:
    """Run a command; with `shown`, what it says on stderr (its progress bar) is the audience's.

    Raises:
        DemoFailed: it did not end with 0.
    """
    name, *rest = arguments
    process = await asyncio.create_subprocess_exec(
        *stage.system.command(name, *rest),
        stdout=asyncio.subprocess.PIPE,
        stderr=sys.stderr if shown else asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    if process.returncode != 0:
        said = (stdout + (stderr or b"")).decode(errors="replace")
        msg = f"`ferryman {' '.join(arguments)}` ended with {process.returncode}:\n{said}"
        raise DemoFailed(msg)
    return stdout.decode()
