"""What a process of ours loads at its start, and what it does without."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Modules that cost tens of milliseconds each.
COSTLY = ("boto3", "botocore", "rich", "pygments", "jinja2", "yaml", "uvicorn", "starlette", "httpx")
TELL = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def loaded(code: str) -> set[str]:
    found = subprocess.run(
        [sys.executable, "-P", "-c", f"{code}\n{TELL}"],
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    )
    return set(found.stdout.split())


@pytest.mark.parametrize(
    ("process", "code"),
    [
        ("worker", "import workers.queue.process, workers.queue.actors, workers.queue.broker"),
        ("master of workers", "import scheduler.machine.worker_master"),
        (
            "supervisor of workers",
            "import scheduler.commands.worker, scheduler.front.admin.standalone, scheduler.machine.processes",
        ),
        ("command line", "import scheduler.cli, scheduler.commands.command_line"),
    ],
)
def test_a_start_loads_nothing_costly_that_it_does_not_need(process, code):
    found = loaded(code)
    assert "structlog" in found
    assert found.isdisjoint(COSTLY), process


def test_a_command_finds_rich_all_the_same():
    assert "rich" in loaded("import workers, structlog, rich.console; rich.console.Console()")


def test_tracebacks_in_a_log_show_no_local_variables_even_before_it_is_configured():
    failing = """
import workers, structlog
def reads():
    local = 'the-secret'.upper()
    raise OSError('away')
try:
    reads()
except OSError:
    structlog.get_logger().exception('failed')
"""
    command = [sys.executable, "-P", "-c", failing]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    assert "OSError: away" in shown.stdout + shown.stderr
    assert "THE-SECRET" not in shown.stdout + shown.stderr
