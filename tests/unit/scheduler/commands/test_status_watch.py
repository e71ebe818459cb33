"""`ferryman status --watch`: the page's own words and curves, on terminals of any width and on none."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console, Group

from scheduler.commands.status import _draws_blocks
from scheduler.commands.watching import glance_screen
from scheduler.front.admin.dashboard.glance import glance
from scheduler.scan.progress import Progress
from scheduler.scan.record.account import Account
from scheduler.status import QueueStatus, ScanStatus, Status
from support.processes import die_with_parent
from workers.ledger.history import Sample

NOW = 1_795_238_532.0
PATIENCE_S = 60.0


def usual():
    scan = ScanStatus(
        name="s", bucket="site", phase="move", paused=False,
        total=Account(found=100, stored=41, pending=56, failed=3),
        progress=Progress(settled=44, expected=100, duration_s=9, objects_per_s=5, bytes_per_s=9, eta_s=11),
    )  # fmt: skip
    status = Status(
        at=NOW, workers=2, scans=(scan,), failures={"site": 3},
        queues=(QueueStatus(lane="hot", waiting=2, running=1, delayed=0, oldest_age_s=3.0),),
    )  # fmt: skip
    minutes = [
        Sample(
            at=int(NOW) - 60 * back, hits=1000 - back, origin=back, stored=500 - back, waiting={"hot": back},
            first_bytes={"hit": {"9": 90, "30": 1}, "miss": {"25": 4}},
        )
        for back in range(120, 0, -1)
    ]  # fmt: skip
    hours = [
        Sample(at=int(NOW) // 3600 * 3600 - 3600 * back, hits=9, origin=2**back) for back in range(8, 0, -1)
    ]
    return glance(status, minutes, hours, notice="Staging")


def drawn(found, width, *, stale="", plain=False, **console):
    terminal = Console(width=width, file=io.StringIO(), **console)
    terminal.print(Group(*glance_screen(found, stale, width=width, plain=plain)))
    return terminal.file.getvalue()


def test_the_headline_and_the_advice_are_the_pages_own():
    found = usual()
    text = drawn(found, 100)
    assert found.headline.replace("\u202f", " ") in text
    assert "41 % moved, 3 keys need you" in text
    assert all(line in text for line in found.advice)
    assert "Staging" in text


def test_curves_have_a_name_a_line_and_their_numbers():
    lines = drawn(usual(), 100).splitlines()
    by_name = {line[:22].strip(): line for line in lines}
    assert by_name["origin/min, 24 h"].endswith("1, top 120")
    assert by_name["origin/min, 24 h"][22] == "█"
    assert by_name["origin/h, 30 d"][22] == "█"
    assert "p50 7 ms" in by_name["hit p99, 3 h"]
    assert by_name["hot queue, 3 h"].endswith("5, top 120")


@pytest.mark.parametrize("width", [20, 40, 56, 80, 200])
def test_no_line_is_wider_than_the_terminal(width):
    lines = drawn(usual(), width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("origin/min" in line for line in lines)


def test_on_a_phone_the_numbers_stay_and_the_lines_go():
    text = drawn(usual(), 40)
    assert "origin/min, 24 h: 1, top 120" in text
    assert "█" not in text


def test_where_blocks_cannot_be_written_plain_signs_are():
    text = drawn(usual(), 80, plain=True)
    text.encode("ascii")
    assert "#" in text
    assert [_draws_blocks(one) for one in ("utf-8", "ascii", "latin-1", None)] == [True, False, False, False]


def test_a_notice_or_reason_cannot_steer_the_terminal():
    found = glance(Status(at=NOW), [], [], notice="a\x1b[2Jb\u202e")
    text = drawn(found, 80, stale="x\x1b]0;y\x07")
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_colours_go_with_no_color(monkeypatch):
    found = usual()
    coloured = drawn(found, 80, force_terminal=True, color_system="standard", _environ={"TERM": "xterm"})
    bare = drawn(found, 80, force_terminal=True, _environ={"TERM": "xterm", "NO_COLOR": "1"})
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
    assert colour.search(coloured)
    assert not colour.search(bare)


def command(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        f"data_dir: {tmp_path}\nbroker: {{url: 'redis://127.0.0.1:1/0'}}\nbuckets: {{site: {{}}}}\n"
        "store: {endpoint: 'http://127.0.0.1:1', access_key_id: a, secret_access_key: b}\n"
    )
    return [sys.executable, "-P", "-m", "scheduler.cli", "status", "--watch", "--config", str(path)]


def test_without_a_terminal_one_screen_follows_another_and_nothing_is_erased(tmp_path):
    with subprocess.Popen(
        command(tmp_path), stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"},
        preexec_fn=die_with_parent,  # noqa: PLW1509 -- nothing else runs in this process
    ) as process:  # fmt: skip
        seen = [process.stdout.readline()]
        while sum("Redis does not answer" in line for line in seen) < 2:
            seen.append(process.stdout.readline())
            assert seen[-1], seen
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(PATIENCE_S) in {0, 130}
    assert not any("\x1b" in line for line in seen)


def test_on_a_terminal_it_keeps_one_screen_and_gives_it_back(tmp_path):
    master, slave = pty.openpty()
    with subprocess.Popen(
        command(tmp_path), stdin=slave, stdout=slave, stderr=slave,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
        preexec_fn=die_with_parent,  # noqa: PLW1509 -- nothing else runs in this process
    ) as process:  # fmt: skip
        os.close(slave)
        text, deadline = "", time.monotonic() + PATIENCE_S
        stopped = False
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 0.2)[0]:
                continue
            try:
                text += os.read(master, 65536).decode(errors="replace")
            except OSError:
                break
            if "Redis does not answer" in text and not stopped:
                process.send_signal(signal.SIGINT)
                stopped = True
        process.wait(PATIENCE_S)
    os.close(master)
    assert "\x1b[?1049h" in text
    assert text.rindex("\x1b[?1049l") > text.index("\x1b[?1049h")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", text)
