"""`ferryman init`: every option, questions at a terminal, and nonsense; what is written can be used."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from scheduler import cli
from scheduler.commands.command_line import load
from scheduler.rules.in_force.apply import read_file_rules

#: Seconds for a question to appear on a busy machine.
PATIENCE_S = 60.0


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FERRYMAN_CONFIG", raising=False)
    return tmp_path


def init(*options: str):
    return CliRunner().invoke(cli.cli, ["init", *options])


def test_every_option_is_in_the_file_and_the_file_can_be_used(here):
    said = init(
        *("--origin", "http://old.example/base/", "--bucket", "true", "--store", "https://s3.example"),
        *("--key-id", "A:K", "--secret-file", "/etc/my secret", "--broker", "redis://r:1/0"),
        *(
            "--public-host",
            "www.example.com",
            "--public-host",
            "b.example",
            "--access-log",
            "/var/log/x: y.log",
        ),
    )
    assert (said.exit_code, said.output.startswith("config.yaml is written")) == (0, True)
    settings = load(here / "config.yaml", resolve=False)
    assert settings.buckets["true"].rules == ({"origins": ["http://old.example/base/"]},)
    assert (settings.store.endpoint, settings.store.access_key_id) == ("https://s3.example", "A:K")
    assert str(settings.store.secret_access_key_file) == "/etc/my secret"
    assert settings.broker.url == "redis://r:1/0"
    assert settings.gateway.public_hosts == ("www.example.com", "b.example")
    assert [(one.path, one.bucket) for one in settings.consume] == [("/var/log/x: y.log", "true")]
    assert set(read_file_rules(settings)[0]) == {"true"}


def test_without_options_and_without_a_terminal_there_is_a_file_to_edit(here):
    assert init().exit_code == 0
    text = (here / "config.yaml").read_text()
    assert "# consume:\n#   - {path: /var/log/nginx/access.log" in text
    assert load(here / "config.yaml", resolve=False).buckets["site"].rules


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--origin", "nonsense"], "--origin 'nonsense': a URL with http://"),
        (["--origin", 'http://o.example/"]}'], "origins"),
        (["--bucket", "a"], "3 to 63"),
        (["--bucket", "we ird"], "3 to 63"),
        (["--store", "ftp://x"], "--store 'ftp://x'"),
        (["--broker", "x"], "--broker 'x'"),
        (["--key-id", "A"], "--key-id and --secret-file go together"),
        (["--secret-file", "f"], "--key-id and --secret-file go together"),
        (["no/such/directory.yaml"], "No such file or directory"),
    ],
)
def test_nonsense_is_one_message_and_nothing_is_written(here, options, said):
    result = init(*options)
    assert (result.exit_code, said in result.output) == (2, True), result.output
    assert not (here / "config.yaml").exists()


def test_a_file_that_is_there_is_replaced_only_by_force(here):
    (here / "config.yaml").write_text("mine")
    assert init("--bucket", "other").exit_code == 2
    assert (here / "config.yaml").read_text() == "mine"
    assert init("--bucket", "other", "--force").exit_code == 0
    assert "other:" in (here / "config.yaml").read_text()


def test_at_a_terminal_it_asks_and_asks_again_after_nonsense(here):
    answers = {
        b"old server:": [b"nonsense", b"https://old.example.com"],
        b"fill [site]:": [b"x", b""],
        b"[embedded]:": [b"ftp://x", b"https://s3.example.com", b"redis://r:6379/0"],
        b"key id (empty: from the environment):": [b"AK"],
        b"secret key:": [b"/etc/store.secret"],
        b"reach the site (empty: none):": [b"www.example.com"],
        b"misses from (empty: none):": [b""],
    }
    code, shown = at_a_terminal(here, answers)
    assert code == 0, shown
    assert shown.count("Error:") == 3
    settings = load(here / "config.yaml", resolve=False)
    assert settings.buckets["site"].rules == ({"origins": ["https://old.example.com"]},)
    assert (settings.store.endpoint, settings.store.access_key_id) == ("https://s3.example.com", "AK")
    assert settings.broker.url == "redis://r:6379/0"
    assert settings.gateway.public_hosts == ("www.example.com",)
    assert settings.buckets["site"].hosts == ("www.example.com",)
    assert settings.consume == ()


def at_a_terminal(folder, answers: dict[bytes, list[bytes]]) -> tuple[int, str]:
    """Run `ferryman init` on a terminal of its own; each prompt gets its answers in turn."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "scheduler.cli", "init"], stdin=its, stdout=its, stderr=its, cwd=folder
    ) as process:
        os.close(its)
        shown = fresh = b""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.1)[0]:
                continue
            try:
                got = os.read(ours, 4096)
            except OSError:  # it has ended
                break
            shown += got
            fresh += got
            prompt = next((one for one in answers if fresh.rstrip().endswith(one) and answers[one]), None)
            if prompt is not None:
                os.write(ours, answers[prompt].pop(0) + b"\n")
                fresh = b""
        os.close(ours)
        return process.wait(PATIENCE_S), shown.decode()
