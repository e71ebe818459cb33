"""`ferryman rules apply|show|history|rollback` on a real Valkey."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scheduler.cli import cli

pytestmark = pytest.mark.real

DATA = Path(__file__).parents[2] / "data" / "rules"
RULES = "rules: [{name: img, prefix: img/, origins: ['http://old.example.com']}]"


@pytest.fixture
def config(tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FERRYMAN_CONFIG", raising=False)
    path = tmp_path / "config.yaml"
    path.write_text(
        f"broker: {{url: '{valkey_url}', namespace: 'n{uuid.uuid4().hex}'}}\n"
        "store: {endpoint: 'http://127.0.0.1:1', access_key_id: a, secret_access_key: b}\n"
        f"buckets: {{site: {{{RULES}}}, api: {{}}}}\n",
        encoding="utf-8",
    )
    return path


def run(config: Path, *args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["rules", *args, "--config", str(config)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_rules_of_the_file_are_applied_once(config: Path) -> None:
    assert "changed: site" in run(config, "apply").output
    assert "unchanged: site" in run(config, "apply").output
    assert "host: old.example.com" in run(config, "show", "site").output
    assert "owner file" in run(config, "show").output


def test_tombstones_that_no_rule_in_force_could_bring_back_are_pruned(config: Path) -> None:
    def tombstone(*args: str) -> Any:
        result = CliRunner().invoke(cli, ["tombstone", *args, "site", "--json", "--config", str(config)])
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)

    run(config, "apply")
    result = CliRunner().invoke(cli, ["tombstone", "add", "site", "img/a", "css/b", "--config", str(config)])
    assert result.exit_code == 0, result.output
    assert tombstone("prune") == {"bucket": "site", "removed": 1, "left": 1}
    assert [row["key"] for row in tombstone("list")] == ["img/a"]


def test_a_vendor_document_is_applied_shown_and_rolled_back(config: Path) -> None:
    sample = str(DATA / "cos_sample.xml")
    first = json.loads(run(config, "apply", sample, "--bucket", "api", "--json").output)
    assert first["changed"]
    assert "<OriginType>Proxy</OriginType>" in run(config, "show", "api", "--as", "cos").output
    assert "rule-1: type" in run(config, "show", "api", "--as", "oss", code=1).output
    second = config.parent / "second.yaml"
    second.write_text("rules: [{origins: [http://other.example]}]", encoding="utf-8")
    run(config, "apply", str(second), "--bucket", "api")
    assert "other.example" in run(config, "show", "api").output

    rows = json.loads(run(config, "history", "api", "--json").output)
    assert [row["rules"] for row in rows] == [1, 1]
    assert all("ferryman rules apply" in row["how"] for row in rows)
    output = run(config, "rollback", "api", str(first["version"])).output
    assert f"the rules of version {first['version']} are in force as version" in output
    assert "<OriginType>Proxy</OriginType>" in run(config, "show", "api", "--as", "cos").output


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not-yet"])
def test_what_the_file_owns_is_not_replaced_by_a_document(config: Path, applied: bool) -> None:
    if applied:
        run(config, "apply")
    other = config.parent / "other.yaml"
    other.write_text("rules: [{origins: [http://other.example]}]", encoding="utf-8")
    assert "configuration file" in run(config, "apply", str(other), "--bucket", "site", code=1).output


def test_an_unknown_bucket_and_version_are_told(config: Path) -> None:
    other = config.parent / "other.yaml"
    other.write_text("rules: [{origins: [http://other.example]}]", encoding="utf-8")
    output = run(config, "apply", str(other), "--bucket", "nope", code=2).output
    assert "bucket 'nope' is not in the configuration; there: api, site" in output
    assert "never had rules" in run(config, "history", "api").output
    assert "has no rules" in run(config, "show", "api", code=1).output
    assert "no version 7" in run(config, "rollback", "api", "7", code=1).output
