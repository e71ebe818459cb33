# ruff: noqa: E501 - a table reads best with one row a line
"""What is allowed and still doubtful: the end of SEMANTICS.md 1.2, and what only the network shows."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from scheduler.rules.lint import lint_hosts, lint_rules
from support.rules.documents import parse


def _rules(*rules: dict[str, Any]) -> str:
    defaults = {"type": "mirror", "origin": {"hosts": ["o.example"]}}
    return yaml.safe_dump({"rules": [{**defaults, **rule} for rule in rules]})


REDIRECT = {"type": "redirect"}
CASES = [
    ("unreachable", _rules({"when": {"prefix": "a"}}, {"when": {"prefix": "ab"}}), 1, "can never match"),
    ("unreachable-suffix", _rules({"when": {"suffix": ".x"}}, {"when": {"prefix": "a", "suffix": "b.x"}}), 1, "can never match"),
    ("unreachable-by-priority", _rules({"when": {"prefix": "ab"}}, {"priority": 1}), 0, "can never match"),
    ("leading-slash", _rules({"when": {"prefix": "/img/"}}), 0, "keys have no leading slash"),
    ("overlap", _rules({"when": {"prefix": "a", "suffix": ".x"}}, {"when": {"prefix": "a"}}), 1, "overlaps rule-1"),
    ("pass-all", _rules({"request": {"pass_all": True}}), 0, "one client's headers"),
    ("cookie", _rules({"request": {"pass": ["cookie"]}}), 0, "Cookie is passed"),
    ("pass-and-forbid", _rules({"request": {"pass": ["A"], "forbid": ["a"]}}), 0, "forbid wins"),
    ("pass-all-and-pass", _rules({"request": {"pass_all": True, "pass": ["A"]}}), 0, "already"),
    ("query", _rules({"request": {"follow_query": True}}), 0, "not part of the stored key"),
    ("equal-priorities", _rules({"priority": 1, "when": {"prefix": "a"}}, {"priority": 1, "when": {"prefix": "b"}}), 1, "the same priority"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "index", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_doubtful_rule_is_named(text: str, index: int, message: str) -> None:
    ruleset, warnings = parse(text)
    assert any(note.index == index and message in note.message for note in lint_rules(ruleset.rules))
    assert any(message in warning.message and f"rules[{index}]" in warning.path for warning in warnings)


QUIET = [
    ("narrow-first", _rules({"when": {"prefix": "ab"}}, {"when": {"prefix": "a"}})),
    (
        "other-status",
        _rules({**REDIRECT, "when": {"status": [500]}}, {**REDIRECT, "when": {"status": [404]}}),
    ),
    ("header-first", _rules({"when": {"headers": [{"name": "A", "equals": "1"}], "prefix": "x/"}}, {})),
    ("not-saved", _rules({"request": {"pass_all": True, "follow_query": True}, "store": {"save": False}})),
    ("redirect", _rules({**REDIRECT, "request": {"follow_query": True}})),
]


@pytest.mark.parametrize("text", [case[1] for case in QUIET], ids=[case[0] for case in QUIET])
def test_an_ordinary_document_has_no_warning(text: str) -> None:
    assert parse(text)[1] == ()


def _resolve(name: str) -> list[str]:
    table = {"o.example": ["192.0.2.1"], "self.example": ["192.0.2.99"], "inner.example": ["10.0.0.1"]}
    if name not in table:
        raise OSError("no such name")
    return table[name]


@pytest.mark.parametrize(
    ("host", "from_file", "message"),
    [
        ("o.example", True, None),
        ("gone.example", True, "does not resolve"),
        ("self.example", True, "a loop"),
        ("self.example:9999", True, None),
        ("cdn.example", True, "is Ferryman itself"),
        ("inner.example", True, None),
        ("inner.example", False, "a private address"),
    ],
)
def test_the_network_shows_loops_and_dead_names(host: str, from_file: bool, message: str | None) -> None:
    ruleset, _ = parse(_rules({"origin": {"hosts": [host]}}))
    notes = lint_hosts(
        ruleset.rules,
        _resolve,
        public_hosts=["CDN.example"],
        own_addresses=["192.0.2.99:80"],
        from_file=from_file,
    )
    assert [note.field for note in notes] == (["origin.hosts[0].host"] if message else [])
    assert all(message is not None and message in note.message for note in notes)


def test_a_name_is_resolved_once() -> None:
    asked: list[str] = []

    def resolve(name: str) -> list[str]:
        asked.append(name)
        return ["192.0.2.1"]

    ruleset, _ = parse(
        _rules({"origin": {"hosts": [{"host": "o.example", "standbys": ["s.example", "o.example:81"]}]}})
    )
    assert lint_hosts(ruleset.rules, resolve) == []
    assert asked == ["o.example", "s.example"]
