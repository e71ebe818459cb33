"""`consume --dry-run` promises what a real run would fetch, and says why it leaves the rest."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from scheduler import cli
from scheduler.config.data_dir import DataDirLock
from scheduler.config.load import load_settings
from scheduler.config.run_settings import UP, note_source, write_run_settings
from support.logs.lines import WRITERS, Wanted

CONFIG = """
data_dir: {root}/data
buckets:
  site:
    rules:
      - {{name: images, prefix: img/, origins: [http://o.example]}}
      - name: elsewhere
        type: redirect
        when: {{prefix: old/}}
        origin: {{hosts: [o.example]}}
  api: {{}}
"""


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "access.log"
    paths = ["/img/a.png", "/img/../b", "/css/c.css", "/old/d", "/.ferryman/e"]
    lines = (WRITERS["nginx"](Wanted(target=one.encode())) + b"\n" for one in paths)
    path.write_bytes(b"".join(lines))
    return path


def dry(*arguments: str):
    result = CliRunner().invoke(cli.cli, ["consume", "--dry-run", "--json", *arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_what_the_real_run_would_not_fetch_is_left_with_its_reason(tmp_path, log):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(root=tmp_path))
    found = dry("--config", str(config), "--bucket", "site", str(log))
    assert [(one["do"], one["key"]) for one in found["found"]] == [("fetch", "img/a.png")]
    assert {one["key"]: one["reason"] for one in found["left"]} == {
        "img/../b": "dot_segment",
        "css/c.css": "unmatched",
        "old/d": "unmatched",
        ".ferryman/e": "reserved_key",
    }
    assert (found["would_fetch"], found["unmatched"], found["refused"]) == (1, 2, 2)


def test_commands_beside_an_up_without_a_file_mean_its_buckets(tmp_path, log, monkeypatch):
    """`ferryman up --origin … --bucket …` has no file: doctor and a dry run read what it runs with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FERRYMAN_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "given.yaml").write_text(CONFIG.format(root=tmp_path))
    running = load_settings(tmp_path / "given.yaml")
    with DataDirLock(running.data_dir):
        write_run_settings(running, UP)
        note_source(running, None)
        assert [one["key"] for one in dry("--bucket", "site", str(log))["found"]] == ["img/a.png"]
        result = CliRunner().invoke(cli.cli, ["doctor", "--json"])
    findings = json.loads(result.stdout)["findings"]
    told = [one["message"] for one in findings if one["subject"] == "configuration"]
    assert "read; buckets: site, api" in told
    assert not [message for message in told if "no bucket is configured" in message]
