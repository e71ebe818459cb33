"""YAML and JSON as documents: shapes, lines, types."""

from __future__ import annotations

import json

import pytest

from scheduler.rules.problems import DocumentError, ReadOptions
from scheduler.rules.yaml import document
from support.rules.documents import one

RULE = {"name": "a", "prefix": "\U0001f600/", "origins": ["http://o.example"]}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"rules": [RULE]}, indent="\t"),
        json.dumps({"rules": [RULE]}, indent="\t", ensure_ascii=False),
        json.dumps([RULE]),
        json.dumps({"buckets": {"site": {"rules": [RULE]}}}),
    ],
    ids=["escaped", "tabs", "list", "buckets"],
)
def test_json_is_read_however_it_is_written(text: str) -> None:
    rule = one(text)
    assert (rule.name, rule.when.prefix, rule.request.protocol) == ("a", "\U0001f600/", "http")


def test_half_a_character_is_refused() -> None:
    with pytest.raises(DocumentError):
        document.parse('rules: [{prefix: "\\ud83d", origins: [http://o.example]}]')
    with pytest.raises(DocumentError) as caught:
        document.read_rules([{"prefix": "\ud83d", "origins": ["http://o.example"]}])
    assert caught.value.problems[0].path == "rules[0].prefix"


def test_several_buckets_are_read_at_once_and_one_is_chosen_by_name() -> None:
    text = (
        "buckets:\n"
        "  one: {rules: [{origins: [http://a.example]}]}\n"
        "  two: {rules: [{origins: [http://b.example]}]}\n"
        "  api: {}\n"
    )
    found = document.parse_buckets(text)
    assert sorted(found) == ["one", "two"]
    assert (
        document.parse(text, ReadOptions(bucket="two"))[0].rules[0].origin.hosts[0].primary.host
        == "b.example"
    )
    with pytest.raises(DocumentError, match="one, two"):
        document.parse(text, ReadOptions(bucket="three"))


def test_problems_of_all_buckets_come_together() -> None:
    text = "buckets:\n  one:\n    rules:\n    - {}\n  two:\n    rules: 5\n"
    with pytest.raises(DocumentError) as caught:
        document.parse_buckets(text)
    assert {(problem.path, problem.line) for problem in caught.value.problems} >= {
        ("buckets.one.rules[0].type", 4),
        ("buckets.one.rules[0].origin.hosts", 4),
        ("buckets.two.rules", 6),
    }


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ("{origins: [http://o.example], prefix: 2024}", "prefix"),
        ("{origins: [http://o.example], priority: high}", "priority"),
        ("{origins: [http://o.example], priority: true}", "priority"),
        ("{origins: http://o.example}", None),
        ("{origins: [5]}", "origins[0]"),
        ("{origins: [http://o.example], request: []}", "request"),
        ("{origins: [http://o.example], request: {pass: A}}", "request.pass"),
        ("{origins: [http://o.example], request: {sni: 1}}", "request.sni"),
        ("{origins: [http://o.example], store: {tag: bold}}", "store.tag"),
        ("{origins: [http://o.example], when: {prefix: a}, prefix: b}", "prefix"),
        ("{origins: [http://o.example], origin: {hosts: [p.example]}}", "origins"),
        ("{origins: [{url: 'http://o.example', host: o.example}]}", "origins[0].host"),
        ("{origins: [{host: o.example, port: 70000}]}", "origins[0].port"),
        ("text", ""),
    ],
)
def test_a_value_of_another_type_is_refused_where_it_stands(rule: str, path: str | None) -> None:
    text = f"rules:\n- {rule}\n"
    if path is None:
        assert one(text).origin.hosts[0].primary.host == "o.example"
        return
    with pytest.raises(DocumentError) as caught:
        document.parse(text)
    assert [(problem.path, problem.line) for problem in caught.value.problems] == [
        (f"rules[0].{path}".removesuffix("."), 2)
    ]


def test_origins_may_carry_scheme_port_and_path() -> None:
    rule = one("rules: [{origins: [{host: o.example, scheme: https, port: 8443, path: /d/}]}]")
    assert rule.request.protocol == "https"
    host = rule.origin.hosts[0].primary
    assert (host.host, host.base_path, host.scheme) == ("o.example:8443", "/d/", None)


def test_rules_of_parsed_settings_are_read_without_lines() -> None:
    ruleset, _ = document.read_rules(
        [RULE], ReadOptions(bucket="site", owner="file"), path="buckets.site.rules"
    )
    assert (ruleset.bucket, ruleset.owner, len(ruleset.rules)) == ("site", "file", 1)
    with pytest.raises(DocumentError, match=r"buckets\.site\.rules\[0\]\.nope: unknown key"):
        document.read_rules([{**RULE, "nope": 1}], path="buckets.site.rules")


@pytest.mark.parametrize("text", ["old.example.com", "old.example.com:8080"])
def test_an_origin_url_without_a_scheme_is_refused_with_the_remedy(text):
    with pytest.raises(DocumentError) as caught:
        document.parse(f"rules: [{{origins: ['{text}']}}]")
    (problem,) = caught.value.problems
    assert problem.path == "rules[0].origins[0]"
    assert text in problem.message
    assert "https://" in problem.message
