"""F63: which rules may write back, whose a key is, and where it lies at its origin."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from scheduler.rules.planning import origin_path
from scheduler.rules.problems import DocumentError, ReadOptions
from scheduler.rules.write_back import routes, writes_back
from scheduler.rules.yaml import document
from workers.back_routes import decode_routes, encode_routes

HOST = {"host": "s3.example", "base_path": "/old/", "credential": "old"}
OPTIONS = ReadOptions(
    bucket="site",
    owner="file",
    credentials={"old": "AK", "plain": None},
    bucket_credentials=frozenset({"old"}),
)


def rule(mode="async", **parts):
    origin = {"hosts": [HOST], "write_back": mode, **parts.pop("origin", {})}
    return {"type": "mirror", "origin": origin, **parts}


def read(*rules):
    return document.read_rules(rules, OPTIONS)[0]


@pytest.mark.parametrize("mode", ["off", "async", "sync"])
def test_the_mode_is_read_and_written_again(mode):
    ruleset = read(rule(mode))
    assert ruleset.rules[0].origin.write_back == mode
    assert document.parse(document.render(ruleset), OPTIONS)[0].rules == ruleset.rules


def test_off_is_what_a_rule_says_that_says_nothing():
    ruleset = read({"type": "mirror", "origin": {"hosts": [HOST]}})
    assert ruleset.rules[0].origin.write_back == "off"
    assert routes(ruleset) == ()


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"mode": "maybe"}, "off, async"),
        ({"type": "redirect"}, "only with mirror"),
        ({"type": "proxy"}, "only with mirror"),
        ({"origin": {"hosts": [{"host": "s3.example"}]}}, "credential that may write"),
        ({"origin": {"hosts": [{**HOST, "credential": "plain"}]}}, "'plain' is not of type s3v4"),
        ({"origin": {"hosts": [HOST, {**HOST, "host": "b.example"}]}}, "2 hosts; exactly one"),
        ({"origin": {"hosts": [{**HOST, "standbys": ["b.example"]}]}}, "2 hosts; exactly one"),
        ({"when": {"headers": [{"name": "A", "equals": "b"}]}}, "when.headers"),
        ({"when": {"hosts_allow": ["a.example"]}}, "when.hosts_allow"),
        ({"path": {"fixed": "one"}}, "path.fixed"),
        ({"path": {"template": "a/${key}/${key}"}}, "needed once"),
        ({"path": {"replace_prefix": {"from": "img/", "to": "p/"}}}, "begins with 'img/'"),
        ({"path": {"replace_suffix": {"from": ".png", "to": ".p"}}}, "ends with '.png'"),
        ({"store": {"save": False}}, "store.save"),
    ],
)
def test_what_cannot_be_kept_equal_is_refused_by_name(parts, told):
    with pytest.raises(DocumentError) as caught:
        read(rule(**parts))
    (problem,) = caught.value.problems
    assert problem.path == "rules[0].origin.write_back"
    assert told in problem.message


@pytest.mark.parametrize(
    ("parts", "key", "path"),
    [
        ({}, "a/b", "a/b"),
        ({}, "/a", "/a"),
        ({"path": {"add_prefix": "x/", "add_suffix": ".bak"}}, "a", "x/a.bak"),
        ({"path": {"template": "/t/${key}.t"}}, "a", "t/a.t"),
        (
            {"when": {"prefix": "img/"}, "path": {"replace_prefix": {"from": "img/", "to": "p/"}}},
            "img/a",
            "p/a",
        ),
        (
            {"when": {"suffix": ".png"}, "path": {"replace_suffix": {"from": ".png", "to": ".p"}}},
            "a.png",
            "a.p",
        ),
        (
            {
                "when": {"prefix": "i/"},
                "path": {"add_prefix": "x/", "replace_prefix": {"from": "i/", "to": ""}},
            },
            "i/a",
            "x/a",
        ),
        *(
            ({"when": {"prefix": "a/"}, "path": {"replace_prefix": {"from": "a", "to": ""}}}, key, path)
            for key, path in (("a/x", "x"), ("a//x", "/x"))
        ),
        ({"path": {"add_prefix": "/"}}, "x", "x"),
    ],
)
def test_a_key_lies_where_reads_of_it_look(parts, key, path):
    ruleset = read(rule(**parts))
    route = writes_back(ruleset, key)
    assert route is not None
    assert route.path(key) == path
    if key != "/a":  # reads take it for `a`, which has this place for itself
        assert unquote(origin_path(ruleset.rules[0].path, key)) == path


def test_the_first_rule_whose_key_it_is_decides():
    ruleset = read(
        {
            "name": "web",
            "type": "mirror",
            "when": {"prefix": "web/"},
            "origins": None,
            "origin": {"hosts": ["w.example"]},
        },
        {"name": "one", **rule("async", when={"prefix": "a/"})},
        {"name": "two", **rule("sync")},
    )
    assert writes_back(ruleset, "web/x") is None
    assert [writes_back(ruleset, key).rule for key in ("a/x", "x")] == ["one", "two"]
    assert [route.mode for route in routes(ruleset)] == ["off", "async", "sync"]


def test_routes_come_back_from_redis_as_they_were():
    found = routes(read(rule("sync", path={"add_prefix": "x/"})))
    assert decode_routes(encode_routes(found)) == found
    assert found[0].trusted
    assert found[0].origin.base_path == "/old/"
    assert decode_routes("") == ()
