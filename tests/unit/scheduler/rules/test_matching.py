"""Which rule answers: section 2 of SEMANTICS.md."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.rules.matching import (
    RequestFacts,
    match,
    needs_no_status,
    ordered,
    reasons_against,
    status_holds,
    triggers,
)
from scheduler.rules.model import (
    Answer,
    HeaderTest,
    HeaderTestKind,
    HostGroup,
    OriginHost,
    OriginPart,
    Rule,
    RuleSet,
    RuleType,
    When,
)

ORIGIN = OriginPart(hosts=(HostGroup(primary=OriginHost(host="o.example")),))


def _rule(
    name: str, *, priority: int | None = None, kind: RuleType = RuleType.MIRROR, **when: object
) -> Rule:
    return Rule(name=name, priority=priority, type=kind, when=When(**when), origin=ORIGIN)  # type: ignore[arg-type]


def _set(*rules: Rule) -> RuleSet:
    return RuleSet(bucket="b", rules=rules)


def _match(rules: RuleSet, key: str, **facts: object) -> str | None:
    found = match(rules, RequestFacts(key=key, **facts))  # type: ignore[arg-type]
    return None if found is None else found.name


def test_smaller_numbers_come_first_then_ties_by_document_then_the_unnumbered() -> None:
    """Section 2.1, D2."""
    rules = _set(
        _rule("none-1"),
        _rule("ten", priority=10),
        _rule("two-a", priority=2),
        _rule("two-b", priority=2),
        _rule("none-2"),
    )
    assert [rule.name for rule in ordered(rules)] == ["two-a", "two-b", "ten", "none-1", "none-2"]
    assert _match(rules, "k") == "two-a"


def test_the_first_rule_that_holds_decides_whatever_comes_after() -> None:
    """Section 2.2."""
    rules = _set(_rule("img", priority=1, prefix="img/"), _rule("all", priority=2))
    assert _match(rules, "img/1.png") == "img"
    assert _match(rules, "doc/1") == "all"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("img/a.png", "both"),
        ("img/a.jpg", "prefix"),
        ("a.png", "suffix"),
        ("Img/a.jpg", None),
        ("e\u0301", None),
        ("é", "nfc"),
    ],
)
def test_prefix_and_suffix_compare_as_written(key: str, name: str | None) -> None:
    """Section 2.3: with case, without normalisation."""
    rules = _set(
        _rule("both", prefix="img/", suffix=".png"),
        _rule("prefix", prefix="img/"),
        _rule("suffix", suffix=".png"),
        _rule("nfc", prefix="é"),
    )
    assert _match(rules, key) == name


@pytest.mark.parametrize(
    ("kind", "allow", "method", "triggered"),
    [
        (RuleType.MIRROR, False, "GET", True),
        (RuleType.MIRROR, False, "HEAD", False),
        (RuleType.MIRROR, True, "HEAD", True),
        (RuleType.PROXY, True, "HEAD", False),
        (RuleType.REDIRECT, False, "HEAD", True),
        (RuleType.REDIRECT, False, "POST", False),
        (RuleType.MIRROR, True, "PUT", False),
    ],
)
def test_only_get_triggers_unless_the_rule_says_so(
    kind: RuleType, allow: bool, method: str, triggered: bool
) -> None:
    """Section 2.4, D15."""
    rule = replace(_rule("r", kind=kind), answer=Answer(allow_head=allow))
    assert triggers(rule, method) is triggered
    assert (_match(_set(rule), "k", method=method) == "r") is triggered


def test_a_rule_that_does_not_trigger_hides_those_behind_it() -> None:
    """Sections 2.2 and 2.4."""
    rules = _set(_rule("mirror"), _rule("redirect", kind=RuleType.REDIRECT))
    assert _match(rules, "k", method="HEAD") is None


@pytest.mark.parametrize(
    ("tests", "status", "holds"),
    [
        ((404,), 404, True),
        ((404,), 403, False),
        (("4xx",), 499, True),
        (("5xx",), 499, False),
        (("any",), 200, True),
        ((403, "5xx"), 503, True),
    ],
)
def test_the_status_is_one_of_those_named(tests: tuple[int | str, ...], status: int, holds: bool) -> None:
    """Section 2.5, F4."""
    assert status_holds(tests, status) is holds  # type: ignore[arg-type]


def test_any_is_judged_without_a_look_up_unless_a_rule_before_needs_it() -> None:
    """Section 2.5."""
    everything = _rule("any", priority=2, kind=RuleType.REDIRECT, status=("any",))
    before = _rule("img", priority=1, prefix="img/")
    rules = _set(everything, before)
    assert _match(rules, "doc", status=None) == "any"
    assert _match(rules, "img/1", status=None) is None
    assert _match(rules, "img/1", status=404) == "img"
    assert _match(rules, "img/1", status=200) == "any"
    assert needs_no_status(rules)
    assert not needs_no_status(_set(before))


@pytest.mark.parametrize(
    ("headers", "matched"),
    [
        ((("x-a", "v1"),), True),
        ((("X-A", "other"), ("x-A", "v9")), True),
        ((("X-A", "V1"),), False),
        ((("X-B", "v1"),), False),
        ((), False),
    ],
)
def test_a_header_condition_needs_one_value_that_passes(
    headers: tuple[tuple[str, str], ...], matched: bool
) -> None:
    """F7: the name without case, the value with it."""
    rules = _set(_rule("r", headers=(HeaderTest(name="X-a", kind=HeaderTestKind.STARTS_WITH, value="v"),)))
    assert (_match(rules, "k", headers=headers) == "r") is matched


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("a.example", None),
        ("A.EXAMPLE", None),
        ("b.example", "host_denied"),
        ("c.example", "host_not_allowed"),
        ("", "host_not_allowed"),
    ],
)
def test_denied_hosts_win_over_allowed_ones(host: str, reason: str | None) -> None:
    """F8."""
    rule = _rule("r", hosts_allow=("a.example", "b.example"), hosts_deny=("b.example",))
    assert (_match(_set(rule), "k", host=host) is None) is (reason is not None)
    assert list(reasons_against(rule, RequestFacts(key="k", host=host))) == ([reason] if reason else [])


def test_no_rule_is_no_match() -> None:
    """Section 2.6."""
    assert _match(_set(), "k") is None


AFFIXES = st.text("ab/", max_size=3)


@given(
    rules=st.lists(st.tuples(AFFIXES, AFFIXES, st.none() | st.integers(1, 3)), max_size=12),
    key=st.text("ab/", min_size=1, max_size=8),
)
@settings(deadline=None)
def test_the_index_finds_what_a_walk_over_all_rules_finds(
    rules: list[tuple[str, str, int | None]], key: str
) -> None:
    made = [_rule(f"r{i}", prefix=p, suffix=s, priority=n) for i, (p, s, n) in enumerate(rules)]
    ruleset = _set(*made)
    walked = next(
        (rule.name for rule in ordered(ruleset) if not list(reasons_against(rule, RequestFacts(key=key)))),
        None,
    )
    assert _match(ruleset, key) == walked
