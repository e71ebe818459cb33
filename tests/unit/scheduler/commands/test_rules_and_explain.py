# ruff: noqa: E501 - tables and command lines read best in one row
"""`ferryman rules check|convert` and `ferryman explain` on files, as an operator runs them."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scheduler.cli import cli

DATA = Path(__file__).parents[3] / "data" / "rules"
RULES = """
buckets:
  site:
    rules:
    - {name: img, prefix: img/, origins: ["http://old.example.com/files/"]}
    - {name: rest, origins: ["http://o.example"]}
"""
LOG = (
    '192.0.2.1 - - [21/Nov/2026:10:00:00 +0000] "GET /img/a%20b.png HTTP/1.1" 404 10 "-" "curl/8"\n'
    '192.0.2.1 - - [21/Nov/2026:10:00:01 +0000] "GET /doc/1 HTTP/1.1" 404 10 "-" "curl/8"\n'
    '192.0.2.1 - - [21/Nov/2026:10:00:02 +0000] "GET /doc/2 HTTP/1.1" 200 10 "-" "curl/8"\n'
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("FERRYMAN_CONFIG",):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "rules.yaml").write_text(RULES, encoding="utf-8")
    return tmp_path


def run(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, args, catch_exceptions=True)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_check_takes_a_whole_configuration(here: Path) -> None:
    assert "bucket site: 2 rules, 0 warnings" in run("rules", "check", "rules.yaml", "--no-resolve").output


@pytest.mark.parametrize("name", ["cos_sample.xml", "cos_structure.xml", "oss_full.xml"])
def test_check_takes_vendor_documents(here: Path, name: str) -> None:
    assert re.search(
        r"^\d+ rules?, \d+ warnings?$",
        run("rules", "check", str(DATA / name), "--no-resolve").output,
        re.MULTILINE,
    )


def test_check_lists_all_problems_and_exits_with_2(here: Path) -> None:
    (here / "bad.yaml").write_text(
        "rules:\n- prefx: a\n  origins: ['http://u@o.example']\n", encoding="utf-8"
    )
    output = run("rules", "check", "bad.yaml", code=2).output
    assert "bad.yaml:2: rules[0].prefx: unknown key 'prefx'; did you mean 'prefix'?" in output
    assert "user info" in output
    data = json.loads(run("rules", "check", "bad.yaml", "--json", code=2).output)
    assert {problem["kind"] for problem in data["problems"]} == {"unknown_element", "unsafe_origin"}


def test_check_fails_on_warnings_when_asked_to(here: Path) -> None:
    (here / "w.yaml").write_text(
        "rules: [{origins: [http://o.example], request: {follow_query: true}}]", encoding="utf-8"
    )
    run("rules", "check", "w.yaml", "--no-resolve", "--strict", code=1)
    data = json.loads(run("rules", "check", "w.yaml", "--no-resolve", "--json").output)
    assert data["ok"]
    assert data["warnings"][0]["path"] == "rules[0].request.follow_query"


def test_check_says_which_names_do_not_resolve(here: Path) -> None:
    (here / "n.yaml").write_text("rules: [{origins: [http://no-such-name.invalid]}]", encoding="utf-8")
    assert "no-such-name.invalid does not resolve" in run("rules", "check", "n.yaml").output


def test_convert_writes_another_form_or_lists_what_it_cannot(here: Path) -> None:
    sample = str(DATA / "cos_sample.xml")
    assert "type: proxy" in run("rules", "convert", sample, "--to", "yaml").output
    output = run("rules", "convert", sample, "--to", "oss", code=1).output
    assert "rule-1: type" in output
    run("rules", "convert", sample, "--to", "oss", "--lossy", "--out", "out.xml")
    assert "<WebsiteConfiguration>" in (here / "out.xml").read_text(encoding="utf-8")
    assert (
        json.loads(run("rules", "convert", "rules.yaml", "--to", "json").output)["rules"][0]["name"] == "img"
    )


def test_a_file_that_is_not_there_is_a_usage_error(here: Path) -> None:
    run("rules", "check", "nowhere.yaml", code=2)


def test_explain_tells_rule_url_and_tag(here: Path) -> None:
    output = run(
        "explain", "http://cdn.example/site/img/a b.png?x=1", "--rules", "rules.yaml", "-H", "Accept: x"
    ).output
    assert "=> img (priority -, mirror): matched" in output
    assert "origin URL: http://old.example.com/files/img/a%20b.png" in output
    assert "Accept: not_listed" in output
    assert "x-oss-tag: MIRROR http%3a%2f%2fold.example.com%2ffiles%2fimg%2fa%2520b.png" in output


def test_explain_gives_json_and_takes_the_bucket_by_name(here: Path) -> None:
    args = ("explain", "/img/1", "--bucket", "site", "--rules", "rules.yaml", "--method", "HEAD", "--json")
    data = json.loads(run(*args).output)
    assert (data["bucket"], data["key"], data["refused"]) == ("site", "img/1", "method")


def test_explain_reads_the_rules_of_the_configuration(here: Path) -> None:
    (here / "rules.yaml").rename(here / "config.yaml")
    # Rules of the file need no running broker, but the embedded parts are looked up where no --rules is given.
    text = (here / "config.yaml").read_text(encoding="utf-8")
    stores = "store: {endpoint: 'http://127.0.0.1:1', access_key_id: a, secret_access_key: b}\nbroker: {url: 'redis://127.0.0.1:1'}\n"
    (here / "config.yaml").write_text(stores + text, encoding="utf-8")
    assert "origin URL: http://o.example/x" in run("explain", "/site/x").output


def test_explain_refuses_a_path_that_names_no_object(here: Path) -> None:
    assert "400 InvalidURI" in run("explain", "/site/", "--rules", "rules.yaml", code=1).output


@pytest.mark.parametrize("packed", [False, True])
def test_replay_shows_what_other_rules_would_alter(here: Path, packed: bool) -> None:
    name = "access.log.gz" if packed else "access.log"
    (here / name).write_bytes(gzip.compress(LOG.encode()) if packed else LOG.encode())
    (here / "new.yaml").write_text(RULES.replace("/files/", "/other/"), encoding="utf-8")
    args = ("explain", "--replay", name, "--against", "new.yaml", "--rules", "rules.yaml", "--bucket", "site")
    output = run(*args).output
    assert "2 misses, 1 answered as before, 1 otherwise" in output
    assert (
        "http://old.example.com/files/img/a%20b.png -> http://old.example.com/other/img/a%20b.png" in output
    )
    data = json.loads(run(*args, "--json").output)
    assert (data["total"], data["changes"][0]["count"]) == (2, 1)


def test_replay_needs_rules_to_compare_with(here: Path) -> None:
    (here / "a.log").write_text(LOG, encoding="utf-8")
    run("explain", "--replay", "a.log", code=2)
    run("explain", code=2)


def test_every_problem_of_a_file_has_file_and_line(here: Path) -> None:
    text = "buckets:\n  site:\n    rules:\n    - {origins: [//o.example]}\n    - {type: redirct, origins: [http://o.example]}\n"
    (here / "config.yaml").write_text(text, encoding="utf-8")
    lines = run("rules", "check", "config.yaml", code=2).output.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["Error", "config.yaml:5"]
    assert lines[0].startswith("Error: config.yaml:4: buckets.site.rules[0].origins[0]: ")
    assert (
        run("explain", "/a", "--rules", "config.yaml", "--bucket", "site", code=2).output.splitlines()
        == lines
    )


def test_rules_of_a_broken_configuration_are_not_checked_with_the_settings_of_another(here: Path) -> None:
    """Not with ./config.yaml, which says nothing about it; and what is broken is told."""
    (here / "config.yaml").write_text("gateway: {public_hosts: [o.example]}", encoding="utf-8")
    (here / "other.yaml").write_text("store: {endpont: x}\n" + RULES, encoding="utf-8")
    result = run("rules", "check", "other.yaml", "--no-resolve")
    assert "bucket site: 2 rules, 0 warnings" in result.output
    assert "other.yaml:1: store.endpont: unknown key" in result.stderr
    run("rules", "check", "rules.yaml", "--no-resolve", "--config", "config.yaml", code=2)


def test_a_file_that_cannot_be_read_is_named_once(here: Path) -> None:
    assert run("rules", "check", "no.yaml", code=2).output == "Error: no.yaml: No such file or directory\n"
    (here / "latin.yaml").write_bytes(b"rules: [\xe9]")
    assert run("rules", "check", "latin.yaml", code=2).output == "Error: latin.yaml: not UTF-8\n"


def test_a_bucket_that_a_document_does_not_have_is_a_usage_error(here: Path) -> None:
    for command in (["check"], ["convert", "--to", "cos"]):
        output = run("rules", *command, "rules.yaml", "--bucket", "nope", code=2).output
        assert "no rules for bucket 'nope'; the document has site" in output


def test_convert_as_json_has_the_document_and_what_is_lost(here: Path) -> None:
    data = json.loads(run("rules", "convert", "rules.yaml", "--to", "cos", "--json").output)
    assert (data["ok"], data["form"], data["lost"]) == (True, "cos", [])
    assert "<OriginConfiguration>" in data["document"]
    sample = str(DATA / "cos_sample.xml")
    data = json.loads(run("rules", "convert", sample, "--to", "oss", "--json", code=1).output)
    assert (data["ok"], data["document"]) == (False, None)
    assert "rule-1: type" in data["lost"]
    args = ("rules", "convert", sample, "--to", "oss", "--json", "--lossy", "--out", "o.xml")
    data = json.loads(run(*args).output)
    assert (data["ok"], data["out"]) == (True, "o.xml")
    assert "<WebsiteConfiguration>" in (here / "o.xml").read_text(encoding="utf-8")
    (here / "bad.yaml").write_text("rules: [{}]", encoding="utf-8")
    data = json.loads(run("rules", "convert", "bad.yaml", "--to", "cos", "--json", code=2).output)
    assert [problem["path"] for problem in data["problems"]] == ["rules[0].type", "rules[0].origin.hosts"]


CONFIG = """
gateway: {domains: [cdn.example]}
buckets:
  site:
    hosts: [img.example]
    rules: [{name: all, origins: ["http://o.example"]}]
  api: {}
"""


@pytest.mark.parametrize(
    "words",
    [
        ["http://gateway.example/site/a%20b"],
        ["/site/a%20b"],
        ["GET", "/site/a%20b"],
        ["http://site.cdn.example/a%20b"],
        ["http://IMG.example:8080/a%20b"],
        ["http://site.cos.local.myqcloud.com/a%20b"],
        ["http://site.oss-cn-x.aliyuncs.com/a%20b"],
        ["http://127.0.0.1:8080/site/a%20b"],
        ["/a%20b", "--bucket", "site"],
    ],
    ids=" ".join,
)
def test_explain_needs_nothing_running_for_rules_of_the_file(here: Path, words: list[str]) -> None:
    """G11, and *Bucket lookup* of section 9: the bucket is found where the gateway finds it."""
    (here / "config.yaml").write_text(CONFIG, encoding="utf-8")
    data = json.loads(run("explain", *words, "--json").output)
    assert (data["bucket"], data["key"], data["url"]) == ("site", "a b", "http://o.example/a%20b")


def test_explain_takes_the_method_before_the_url(here: Path) -> None:
    (here / "config.yaml").write_text(CONFIG, encoding="utf-8")
    output = run("explain", "head", "/site/a").output
    assert "matched, but HEAD does not trigger it" in output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "a URL, or --replay LOG"),
        (["GET", "/site/a", "/site/b"], "a URL, or --replay LOG"),
        (["/nope/a"], "bucket 'nope' is not in the configuration; there: api, site"),
        (["/api/a"], "start `ferryman up` first"),
    ],
)
def test_explain_says_what_is_wrong_with_its_arguments(here: Path, args: list[str], message: str) -> None:
    (here / "config.yaml").write_text(CONFIG, encoding="utf-8")
    assert message in run("explain", *args, code=2).output
