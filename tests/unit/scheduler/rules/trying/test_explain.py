# ruff: noqa: E501 - tables and command lines read best in one row
"""The account of a request, and of a log under other rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scheduler.misses.event import MissEvent
from scheduler.rules.matching import RequestFacts
from scheduler.rules.trying.explain import Explanation, explain
from scheduler.rules.trying.replay import decide, replay
from support.rules.documents import parse

if TYPE_CHECKING:
    from scheduler.rules.model import RuleSet

TEXT = """
rules:
- name: pages
  type: redirect
  priority: 1
  when: {prefix: pages/, status: any}
  origin: {hosts: [r.example]}
- name: images
  type: mirror
  priority: 2
  when: {prefix: img/, suffix: .png}
  request: {protocol: http, pass: [Accept, Cookie], forbid: [X-No], new: [{name: X-Key, value: v}], follow_query: true}
  origin:
    hosts:
    - {host: a.example, weight: 8, standbys: [b.example], credential: old}
    - {host: c.example, weight: 2}
- name: later
  type: proxy
  priority: 3
  when: {prefix: later/}
  origin: {hosts: [p.example]}
- name: rest
  type: mirror
  priority: 4
  answer: {transparent: [403]}
  store: {save: false}
  origin: {hosts: [z.example]}
"""


@pytest.fixture(scope="module")
def ruleset() -> RuleSet:
    return parse(TEXT)[0]


def _explain(ruleset: RuleSet, key: str, **facts: object) -> Explanation:
    return explain(ruleset, "site", RequestFacts(key=key, scheme="http", **facts))  # type: ignore[arg-type]


def test_a_mirror_is_told_in_full(ruleset: RuleSet) -> None:
    headers = (("Accept", "image/*"), ("Cookie", "c"), ("X-No", "1"), ("Range", "bytes=0-"), ("X-Other", "2"))
    found = _explain(ruleset, "img/1.png", headers=headers, query="v=1")
    assert [(rule.name, rule.verdict, rule.reasons) for rule in found.rules] == [
        ("pages", "not_matched", ("prefix",)),
        ("images", "matched", ()),
        ("later", "not_asked", ()),
        ("rest", "not_asked", ()),
    ]
    assert (found.rule, found.action) == ("images", "mirror")
    assert found.url == "http://a.example/img/1.png?v=1"
    sent = dict(found.headers_sent)
    assert sent["Accept"] == "image/*"
    assert sent["X-Key"] == "v"
    assert sent["Accept-Encoding"] == "identity"
    assert sent["X-Ferryman-Hop"] == "<this installation>"
    assert dict(found.headers_withheld) == {
        "X-No": "forbidden",
        "Range": "never_passed",
        "X-Other": "not_listed",
    }
    assert [(c.group, c.role, c.share, c.url, c.credential) for c in found.candidates] == [
        (0, "primary", 80.0, "http://a.example/img/1.png?v=1", "old"),
        (0, "standby", 80.0, "http://b.example/img/1.png?v=1", None),
        (1, "primary", 20.0, "http://c.example/img/1.png?v=1", None),
    ]
    assert found.stored_key == "img/1.png"
    assert found.tag == "MIRROR http%3a%2f%2fa.example%2fimg%2f1.png%3fv%3d1"


def test_a_queued_pull_withholds_the_cookie(ruleset: RuleSet) -> None:
    facts = RequestFacts(key="img/1.png", headers=(("Cookie", "c"),))
    assert dict(explain(ruleset, "site", facts, kind="event").headers_withheld) == {"Cookie": "cookie_queued"}


@pytest.mark.parametrize(
    ("key", "method", "action", "client", "stored"),
    [
        ("pages/x", "GET", "redirect", "302 to http://r.example/pages/x", "redirects pull nothing"),
        ("pages/x", "HEAD", "redirect", "302 to http://r.example/pages/x", "redirects pull nothing"),
        (
            "later/x",
            "GET",
            "proxy",
            "302 to http://p.example/later/x; a pull is queued",
            "the object 'later/x'",
        ),
        ("other", "GET", "mirror", "for 403 (A10)", "store.save is false"),
        ("other", "HEAD", "none", "HEAD does not trigger rule rest", "nothing"),
        ("img/../x", "GET", "mirror", "404 NoSuchKey", "nothing"),
    ],
)
def test_every_kind_of_answer_is_told(
    ruleset: RuleSet, key: str, method: str, action: str, client: str, stored: str
) -> None:
    found = _explain(ruleset, key, method=method)
    assert found.action == action
    assert any(client in line for line in found.client), found.client
    assert any(stored in line for line in found.stored), found.stored


def test_no_rule_is_told_as_such(ruleset: RuleSet) -> None:
    found = _explain(ruleset, "other", status=500)
    assert (found.rule, found.refused) == (None, "no_rule")
    assert all("status" in rule.reasons for rule in found.rules if rule.name == "rest")


def test_a_replay_counts_what_would_change(ruleset: RuleSet) -> None:
    other = parse(TEXT.replace("a.example", "n.example").replace("prefix: later/", "prefix: never/"))[0]
    events = [
        MissEvent(bucket="site", key=key)
        for key in ("img/1.png", "img/2.png", "later/1", "x", "pages/1", "a/../b")
    ]
    found = replay(ruleset, other, events)
    assert (found.total, found.same) == (6, 3)
    assert dict(found.changes) == {
        ("mirror by images", "mirror by images, other URL"): 2,
        ("proxy by later", "mirror by rest"): 1,
    }
    example = found.examples["mirror by images", "mirror by images, other URL"][0]
    assert (example.before.url, example.after.url) == (
        "http://a.example/img/1.png",
        "http://n.example/img/1.png",
    )


def test_a_bucket_without_rules_decides_nothing() -> None:
    assert decide(None, MissEvent(bucket="b", key="k")).action == "none"
