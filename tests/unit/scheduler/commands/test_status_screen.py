"""The screen of `ferryman status`: it fits a terminal, and without one nothing is cut."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from scheduler.commands.command_line import console
from scheduler.commands.status import screen
from scheduler.config.load import load_settings
from scheduler.scan.progress import Progress
from scheduler.scan.record.account import Account
from scheduler.status import (
    PART_TIMEOUT_S,
    ConsumerStatus,
    QueueStatus,
    RuleStatus,
    ScanStatus,
    Status,
    collect,
    open_readers,
)
from workers.origin.control.health import State
from workers.origin.control.overview import OriginOverview


def usual(*, origin: State = State.WELL) -> Status:
    """One bucket, one origin, one log, one scan that runs, some failures."""
    return Status(
        at=1795238532.5,
        queues=tuple(
            QueueStatus(lane=lane, waiting=1234, running=64, delayed=12, oldest_age_s=61.0)
            for lane in ("hot", "cold")
        ),
        workers=2,
        rules=(
            RuleStatus(bucket="site", rule="images", counts={"stored": 1_234_567, "bytes": 98_765_432_100}),
        ),
        failures={"site": 4},
        failure_reasons={"origin_timeout": 3, "digest_mismatch": 1},
        origins=(
            OriginOverview(
                host="old.example.com",
                state=origin,
                out_s=29.0 if origin is State.OUT else None,
                ejections=1,
                cause="failures",
                in_flight=30,
                adaptive_limit=32,
                concurrency=32,
                requests_per_s=200.0,
                answers=3101,
                p50_s=0.01,
                p90_s=0.1,
                p99_s=0.9,
            ),
        ),
        consumers=(
            ConsumerStatus(
                instance="c", path="/var/log/nginx/access.log", lag_bytes=123_456, lag_s=1.2, misses=12_345,
                silent_s=1.0,
            ),
        ),
        scans=(
            ScanStatus(
                name="site",
                bucket="site",
                phase="move",
                paused=False,
                total=Account(found=1_234_567, pending=234_567, stored=1_000_000, bytes=87_654_321_000),
                progress=Progress(
                    settled=1_000_000, expected=1_234_567, duration_s=900, objects_per_s=1111.0,
                    bytes_per_s=1.2e9, eta_s=211.0,
                ),
            ),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("origin", [State.WELL, State.OUT])
def test_the_usual_screen_fits_80_by_24(origin):
    terminal = Console(width=80, record=True, file=io.StringIO())
    terminal.print(screen(usual(origin=origin)))
    lines = terminal.export_text().rstrip("\n").split("\n")
    assert len(lines) <= 24
    text = "\n".join(lines)
    assert "…" not in text
    for word in ("2 worker processes", "site/images", "1,234,567", "origin_timeout", "old.example.com",
                 "access.log", "81.0%"):  # fmt: skip
        assert word in text


def test_without_a_terminal_nothing_is_cut(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    path = "/var/log/" + "long/" * 20 + "access.log"
    status = Status(
        at=1.0,
        consumers=(ConsumerStatus(instance="c", path=path, lag_bytes=1, lag_s=1.0, misses=1, silent_s=1.0),),
    )
    console().print(screen(status))
    shown = capsys.readouterr().out
    assert path in shown
    assert "\x1b" not in shown


def test_what_was_not_read_is_said_once_and_shown_as_nothing_else():
    status = Status(at=1.0, problems=dict.fromkeys(("queues", "workers", "rules", "scans"), "no answer"))
    terminal = Console(width=80, record=True, file=io.StringIO())
    terminal.print(screen(status))
    text = terminal.export_text()
    assert "queues, workers, rules, scans: not read: no answer" in text
    assert "none" not in text
    assert "worker process" not in text


async def test_a_redis_that_is_away_is_told_within_seconds(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        f"data_dir: {tmp_path}\nbroker: {{url: 'redis://127.0.0.1:1/0'}}\nbuckets: {{site: {{}}}}\n"
    )
    async with asyncio.timeout(2 * PART_TIMEOUT_S), open_readers(load_settings(path, env={})) as sources:
        found = await collect(sources)
    assert set(found.problems) >= {"queues", "workers", "rules", "failures", "origins", "scans"}
