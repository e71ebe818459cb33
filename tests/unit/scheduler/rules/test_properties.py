# ruff: noqa: E501 - one list of odd pieces on one line
"""What must hold for every key, URL and rule, whatever they are."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduler.rules.cos import xml as cos_xml
from scheduler.rules.in_force.stored import decode_content, encode_content
from scheduler.rules.keys import KeyRefused, client_path
from scheduler.rules.matching import RequestFacts, match
from scheduler.rules.model import (
    HostGroup,
    OriginHost,
    OriginPart,
    Path,
    Request,
    Rule,
    RuleSet,
    RuleType,
)
from scheduler.rules.oss import xml as oss_xml
from scheduler.rules.planning import PlanRefused, origin_url, plan
from scheduler.rules.problems import ReadOptions
from scheduler.rules.yaml import document
from support.rules.strategies import cos_rules, only, oss_rules, yaml_rules

if TYPE_CHECKING:
    from types import ModuleType

FILE = ReadOptions(bucket="b", owner="file")
ODD = st.sampled_from(["/", "//", ".", "..", "../", "/..", "\\", "..\\", "%2e%2e", "%2F", "+", " ", "é", "e\u0301", "?", "#", ";", "%"])  # fmt: skip
KEYS = st.lists(
    st.one_of(ODD, st.text(st.characters(exclude_categories=("Cs",)), max_size=8)), max_size=6
).map("".join)
BASES = st.sampled_from(["/", "/d/", "/d%20e/f/"])
REWRITES = st.sampled_from([
    Path(),
    Path(add_prefix="old/", add_suffix=".bak"),
    Path(template="p/${key}.s"),
    Path(fixed="x/y"),
    Path(pass_original_slashes=True),
])  # fmt: skip


def _set(base: str, path: Path) -> tuple[RuleSet, Rule]:
    rule = Rule(
        name="r",
        path=path,
        request=Request(protocol="http", follow_query=True),
        origin=OriginPart(hosts=(HostGroup(primary=OriginHost(host="o.example", base_path=base)),)),
    )
    return only(rule), rule


def _rewritten(path: Path, key: str) -> str:
    if path.fixed is not None:
        return path.fixed
    if path.template is not None:
        return path.template.replace("${key}", key)
    return f"{path.add_prefix}{key}{path.add_suffix}"


def _normalised(path: bytes) -> bytes:
    """As a server resolves it that takes backslashes for slashes and merges what is empty."""
    resolved: list[bytes] = []
    for segment in re.split(rb"[/\\]", path):
        if segment == b"..":
            if resolved:
                resolved.pop()
            else:
                return b"(climbed out)"
        elif segment not in {b"", b"."}:
            resolved.append(segment)
    return b"".join(b"/" + segment for segment in resolved) + b"/"


@given(key=KEYS, base=BASES, path=REWRITES, safe=st.sampled_from(["", "/", "/+", "/:@&=!$'()*,;~+"]))
@example(key="..", base="/d/", path=Path(), safe="")
@example(key="a/../../b", base="/d/", path=Path(), safe="/")
@example(key="..\\..\\b", base="/d/", path=Path(), safe="")
def test_what_is_stored_is_the_requested_key_and_the_origin_is_asked_for_what_the_rule_says(
    key: str, base: str, path: Path, safe: str
) -> None:
    try:
        named = client_path(b"/" + quote(key, safe=safe).encode())
    except KeyRefused:
        assert not key.lstrip("/") or "\0" in key or len(key.encode()) > 1024
        return
    assert named.key == key.lstrip("/")
    ruleset, rule = _set(base, path)
    facts = RequestFacts(key=named.key, leading_slashes=named.leading_slashes)

    try:
        fetch, item = plan(rule, ruleset, "b", facts)
    except PlanRefused:
        wanted = f"{named.key}/{_rewritten(path, named.key)}"
        assert any(segment in {".", ".."} for segment in re.split(r"[/\\]", wanted))
        return

    assert item.key == named.key
    url = origin_url(fetch.groups[0].primary, item)
    prefix = f"http://o.example{base}"
    assert url.startswith(prefix)
    assert re.fullmatch(r"[A-Za-z0-9._~/%-]*", url[len("http://") :])
    slashes = "/" * named.leading_slashes if path.pass_original_slashes else ""
    below = unquote_to_bytes(url[len(prefix) :]).decode()
    assert below == slashes + _rewritten(path, named.key).removeprefix("/")
    whole = unquote_to_bytes(url[len("http://o.example") :])
    assert _normalised(whole).startswith(_normalised(unquote_to_bytes(base)))


@given(raw=st.binary(max_size=40))
def test_a_key_from_any_bytes_is_looked_up_again_under_itself(raw: bytes) -> None:
    """Section 3.1: encoding a key and reading it back gives the same key."""
    try:
        key = client_path(raw).key
    except KeyRefused:
        return
    assert client_path(b"/" + quote_from_bytes(key.encode()).encode()).key == key


@given(rule=yaml_rules())
@settings(max_examples=30, deadline=None)
def test_a_rule_survives_yaml_and_json(rule: Rule) -> None:
    ruleset = only(rule)
    assert document.parse(document.render(ruleset), FILE)[0].rules == (rule,)
    assert document.parse(document.render_json(ruleset), FILE)[0].rules == (rule,)


@given(rule=cos_rules())
@settings(max_examples=30, deadline=None)
def test_a_rule_survives_a_cos_document(rule: Rule) -> None:
    text = cos_xml.render(only(rule))
    again, _ = cos_xml.parse(text, FILE)
    assert again.rules == (rule,)
    assert cos_xml.render(again) == text


@given(rule=oss_rules())
@settings(max_examples=30, deadline=None)
def test_a_rule_survives_an_oss_document(rule: Rule) -> None:
    text = oss_xml.render(only(rule))
    again, _ = oss_xml.parse(text, FILE)
    assert again.rules == (rule,)
    assert oss_xml.render(again) == text


def _asked(rule: Rule, ruleset: RuleSet, facts: RequestFacts) -> object:
    """All that an origin, the client and the store would notice of a rule; of a redirect only its answer."""
    try:
        fetch, item = plan(rule, ruleset, "b", facts)
    except PlanRefused as error:
        return error.reason
    urls = [
        [origin_url(origin, item) for origin in (group.primary, *group.standbys)] for group in fetch.groups
    ]
    if rule.type is RuleType.REDIRECT:
        return urls, rule.answer.redirect_code
    weights = [group.weight for group in fetch.groups] if len(fetch.groups) > 1 else []
    plain = replace(fetch, groups=())
    return urls, weights, plain, rule.answer.transparent, rule.answer.allow_head, rule.type


@pytest.mark.parametrize("target", [cos_xml, oss_xml], ids=["cos", "oss"])
@given(
    rule=st.one_of(
        cos_rules(), oss_rules().map(lambda r: replace(r, store=replace(r.store, user_meta=True)))
    ),
    key=KEYS.filter(lambda key: bool(key.lstrip("/"))),
)
@settings(max_examples=40, deadline=None)
def test_a_translated_rule_asks_for_the_same(target: ModuleType, rule: Rule, key: str) -> None:
    """W12: whatever could be said in the other format means the same there."""
    ruleset = only(rule)
    if target.losses(ruleset):
        return
    other, _ = target.parse(target.render(ruleset), FILE)
    headers = (("Accept", "x"), ("Cookie", "c"))
    for name in (key.lstrip("/"), rule.when.prefix.lstrip("/") + key.lstrip("/") + rule.when.suffix):
        facts = RequestFacts(
            key=name, status=404, headers=headers, query="a=1", scheme="http", host="h.example"
        )
        before, after = match(ruleset, facts), match(other, facts)
        assert (before is None) == (after is None)
        if before is not None and after is not None:
            named = replace(after, name=before.name)
            renamed = replace(other, rules=(named,))
            assert _asked(before, ruleset, facts) == _asked(named, renamed, facts)


@given(rule=yaml_rules())
@settings(max_examples=15, deadline=None)
def test_a_rule_survives_being_stored(rule: Rule) -> None:
    ruleset = only(rule)
    text, _ = encode_content(ruleset.rules, ruleset.source, ruleset.website)
    assert decode_content(text, bucket="b", version=0, owner="file") == ruleset
