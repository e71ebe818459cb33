"""The README's console blocks look like what is printed."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from scheduler.config.ports import free_ports
from support.installation import ferryman, plain_environment, running_origin
from support.patience import PATIENCE_S
from support.processes import die_with_parent

README = Path(__file__).parents[2] / "README.md"


def blocks() -> dict[str, list[str]]:
    """Printed lines by the command that they follow."""
    found: dict[str, list[str]] = {}
    for block in re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL):
        command = ""
        for line in block.splitlines():
            if line.startswith("$ "):
                command = line.removeprefix("$ ")
                found[command] = []
            else:
                found[command].append(line)
    return found


def plain(line: str) -> str:
    """Without colours, and with numbers, paths and addresses as placeholders."""
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).replace("\r", "")
    line = re.sub(r"https?://\S+", "URL", line)
    line = re.sub(r"(?<![\w.])[\w./-]*/[\w./-]+", "PATH", line)
    line = re.sub(r"\d[\d.,]*\d|\d", "N", line)
    return re.sub(r"\s+", " ", line).strip()


def missing(shown: list[str], printed: list[str]) -> list[str]:
    """Lines of the README that were not printed. Order is not looked at: parts are ready when they are."""
    there = {plain(line) for line in printed}
    return [line for line in shown if line.strip(" …") and plain(line) not in there]


def on_a_terminal(command: list[str], root: Path, *, last: str) -> list[str]:
    """What a program prints on a terminal until a line with `last`; then it is ended by Ctrl-C."""
    master, slave = pty.openpty()
    text = ""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, cwd=root, start_new_session=True,
        env={**plain_environment(), "TERM": "dumb"},
        preexec_fn=die_with_parent,  # noqa: PLW1509 -- the origin's thread holds no lock that it needs
    ) as process:  # fmt: skip
        os.close(slave)
        deadline = time.monotonic() + 3 * PATIENCE_S
        ended = False
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 0.2)[0]:
                continue
            try:
                chunk = os.read(master, 65536)
            except OSError:
                break
            if not chunk:
                break
            text += chunk.decode(errors="replace")
            if last in text and not ended:
                process.send_signal(signal.SIGINT)
                ended = True
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)
    os.close(master)
    return text.splitlines()


@pytest.mark.real
def test_what_up_prints_is_what_the_readme_shows(tmp_path):
    (shown,) = [lines for command, lines in blocks().items() if command.startswith("ferryman up")]
    gateway, admin = free_ports(2)
    with running_origin() as origin:
        command = ferryman(
            "up", "--origin", origin.url, "--bucket", "site",
            "--gateway-listen", f"127.0.0.1:{gateway}", "--admin-listen", f"127.0.0.1:{admin}",
        )  # fmt: skip
        printed = on_a_terminal(command, tmp_path, last="Ctrl-C stops everything")
    assert missing(shown, printed) == [], "\n".join(printed)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_the_demo_prints_is_what_the_readme_shows(tmp_path):
    (shown,) = [lines for command, lines in blocks().items() if command == "make demo"]
    printed = on_a_terminal(ferryman("demo"), tmp_path, last="Ctrl-C ends the demo")
    assert missing(shown, printed) == [], "\n".join(printed)
