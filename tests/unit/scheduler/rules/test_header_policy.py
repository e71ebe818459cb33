# ruff: noqa: E501 - a table reads best with one row a line
"""Request headers to the origin: section 4, rows H1 to H11 as far as a plan decides them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scheduler.rules.header_policy import never_passed, refused_in_new
from scheduler.rules.matching import RequestFacts
from scheduler.rules.planning import plan
from support.rules.documents import one, parse, yml
from workers.origin.wire.headers import request_headers, went_through

if TYPE_CHECKING:
    from workers.plan import FetchPlan

CLIENT = (
    ("Accept", "image/*"),
    ("Cookie", "c=1"),
    ("X-One", "1"),
    ("x-one", "2"),
    ("Authorization", "secret"),
    ("Range", "bytes=0-1"),
    ("User-Agent", "client"),
    ("X-Two", "3"),
)
Pairs = tuple[tuple[str, str], ...]


def _plan(kind: str = "request", headers: Pairs = CLIENT, **request: object) -> FetchPlan:
    text = yml(request=request)
    ruleset, _ = parse(text)
    return plan(one(text), ruleset, "b", RequestFacts(key="k", headers=headers), kind=kind)[0]  # type: ignore[arg-type]


CASES = [
    ("H1", {}, (), ()),
    ("H2-all", {"pass_all": True}, (
        ("Accept", "image/*"), ("Cookie", "c=1"), ("X-One", "1"), ("x-one", "2"), ("User-Agent", "client"),
        ("X-Two", "3")), ()),
    ("H2-named", {"pass": ["x-ONE"]}, (("X-One", "1"), ("x-one", "2")), ()),
    ("H3", {"pass": ["Accept", "X-Two"], "forbid": ["accept"]}, (("X-Two", "3"),), ()),
    ("H3-all", {"pass_all": True, "forbid": ["accept", "cookie", "x-one", "user-agent"]}, (("X-Two", "3"),), ()),
    ("H4", {"pass": ["Authorization", "Range", "X-Two"]}, (("X-Two", "3"),), ()),
    ("H5-replaces", {"pass": ["X-One", "X-Two"], "new": [{"name": "X-ONE", "value": "n"}]},
     (("X-Two", "3"),), (("X-ONE", "n"),)),
    ("H5-empty", {"pass": ["X-One"], "new": [{"name": "X-One", "value": ""}]}, (("X-One", "1"), ("x-one", "2")), ()),
    ("H5-forbid", {"forbid": ["X-One"], "new": [{"name": "X-One", "value": "n"}]}, (), (("X-One", "n"),)),
    ("H8", {"new": [{"name": "x-cos-ContentType", "value": "csv"}]}, (), (("x-cos-ContentType", "csv"),)),
]  # fmt: skip


@pytest.mark.parametrize(("request_part", "passed", "new"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_headers_pass_as_the_rule_says(request_part: dict[str, object], passed: Pairs, new: Pairs) -> None:
    fetch = _plan(**request_part)
    assert fetch.headers == passed
    assert fetch.new_headers == new


def test_new_host_and_agent_reach_the_origin() -> None:
    """H6: `Host` and `User-Agent` may be set by the rule."""
    fetch = _plan(new=[{"name": "Host", "value": "h.example"}, {"name": "User-Agent", "value": "me"}])
    sent = request_headers(fetch.headers, fetch.new_headers, instance="i")
    assert ("Host", "h.example") in sent
    assert ("User-Agent", "me") in sent


def test_a_client_range_is_never_in_a_plan() -> None:
    """H7: a range is rebuilt by whoever serves one."""
    assert not any(name.lower() == "range" for name, _ in _plan(pass_all=True, **{"pass": ["Range"]}).headers)


@pytest.mark.parametrize(
    ("kind", "names"),
    [("request", ["Cookie", "X-Two"]), ("event", ["X-Two"]), ("scan", [])],
    ids=["H9-front", "H9-queued", "H9-scan"],
)
def test_a_queued_pull_goes_without_cookie_and_a_scan_without_all(kind: str, names: list[str]) -> None:
    fetch = _plan(kind, **{"pass": ["Cookie", "X-Two"], "new": [{"name": "N", "value": "v"}]})
    assert [name for name, _ in fetch.headers] == names
    assert fetch.new_headers == (("N", "v"),)


@pytest.mark.parametrize("resend", [False, True], ids=["H10-drop", "H10-resend"])
def test_the_plan_says_whether_headers_go_to_another_host(resend: bool) -> None:
    assert _plan(redirect_headers=resend).redirects.resend_headers is resend


def test_our_own_hop_is_recognised() -> None:
    """H11."""
    assert went_through((("x-ferryman-hop", "other, mine"),), "mine")
    assert not went_through((("x-ferryman-hop", "other"),), "mine")


NEVER = [
    "content-length",
    "authorization",
    "authorization2",
    "range",
    "date",
    "oss-x",
    "x-oss-process",
    "x-drs-a",
    "host",
    "accept-encoding",
    "connection",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "content-md5",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-security-token",
    "x-cos-security-token",
    "x-ferryman-status",
]


@pytest.mark.parametrize("name", NEVER)
def test_a_name_of_4_2_is_never_passed(name: str) -> None:
    """H4."""
    assert never_passed(name)
    assert _plan(headers=((name.title(), "v"),), pass_all=True).headers == ()


@pytest.mark.parametrize(
    "name",
    [
        "content-length",
        "transfer-encoding",
        "connection",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "range",
        "accept-encoding",
        "x-ferryman-a",
    ],
)
def test_a_name_of_4_3_is_refused_in_new(name: str) -> None:
    assert refused_in_new(name)


def test_a_rule_without_passed_headers_has_one_plan() -> None:
    """Requests of such a rule share one object, so that dispatchers can batch them."""
    text = yml()
    ruleset, _ = parse(text)
    rule = ruleset.rules[0]
    one_, _ = plan(rule, ruleset, "b", RequestFacts(key="a", headers=CLIENT))
    two, _ = plan(rule, ruleset, "b", RequestFacts(key="b", headers=CLIENT[:2]), kind="event")
    assert one_ is two


def test_equal_passed_headers_share_a_plan() -> None:
    text = yml(request={"pass": ["Accept"]})
    ruleset, _ = parse(text)
    rule = ruleset.rules[0]
    plans = [plan(rule, ruleset, "b", RequestFacts(key="a", headers=CLIENT[:n]))[0] for n in (1, 2, 3)]
    assert plans[0] is plans[1] is plans[2]
    for number in range(600):
        plan(rule, ruleset, "b", RequestFacts(key="a", headers=(("accept", str(number)),)))
    assert len(ruleset.memo["b", rule.name].by_headers) <= 257


@pytest.mark.parametrize("kind", ["request", "event"])
def test_the_hop_marker_of_another_installation_is_continued(kind: str) -> None:
    """H6, H11: else two installations that point at each other would never see the loop."""
    fetch = _plan(kind, headers=(("X-Ferryman-Hop", "other"), ("Accept", "x")))
    assert fetch.headers == (("X-Ferryman-Hop", "other"),)
    sent = request_headers(fetch.headers, fetch.new_headers, instance="mine")
    assert ("X-Ferryman-Hop", "other, mine") in sent


def test_a_scan_has_no_hop_and_an_endless_one_is_not_continued() -> None:
    """H11."""
    assert _plan("scan", headers=(("X-Ferryman-Hop", "other"),)).headers == ()
    assert _plan(headers=(("X-Ferryman-Hop", "o" * 513),)).headers == ()
