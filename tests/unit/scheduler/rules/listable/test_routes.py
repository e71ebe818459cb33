"""Which rules can be listed; of the others each is refused by its name and reason, wherever it comes from."""

from __future__ import annotations

import pytest

from scheduler.config.settings import Settings
from scheduler.rules.formats import read_any
from scheduler.rules.in_force.apply import read_file_rules, read_options
from scheduler.rules.listable.access import BucketAccess
from scheduler.rules.listable.routes import list_routes
from scheduler.rules.problems import DocumentError

CREDENTIALS = {
    "old": {"type": "s3v4", "access_key_id": "A", "secret_access_key": "S"},
    "basic": {"type": "basic", "username": "u", "password": "p"},
}


def settings(rules, **section):
    return Settings.model_validate(
        {
            "origin": {"credentials": CREDENTIALS},
            "buckets": {"site": {"list": "union", "rules": rules, **section}},
        }
    )


def rule(host="s3.old.example", base_path="/bucket/", credential="old", **more):
    origin = {
        "hosts": [{"host": host, "base_path": base_path, "credential": credential}],
        **more.pop("origin", {}),
    }
    origin["hosts"][0] = {k: v for k, v in origin["hosts"][0].items() if v is not None}
    return {"name": "img", "type": "mirror", "origin": origin, **more}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (rule(credential=None), "has no credential"),
        (rule(credential="basic"), "'basic'"),
        (rule(base_path="/"), "names no bucket"),
        (rule(type="redirect"), "redirect rule"),
        (rule(type="proxy"), "proxy rule"),
        (rule(when={"headers": [{"name": "X-A", "equals": "b"}]}), "when.headers"),
        (rule(when={"hosts_allow": ["a.example"]}), "when.hosts_allow"),
        (rule(path={"fixed": "one.html"}), "path.fixed"),
        (rule(path={"pass_original_slashes": True}), "path.pass_original_slashes"),
        (rule(path={"add_suffix": ".gz"}), "path.add_suffix"),
        (rule(path={"template": "a/${key}/b"}), "path.template"),
        (rule(path={"replace_prefix": {"from": "a/", "to": "b/"}}), "path.replace_prefix"),
        (rule(store={"save": False}), "store.save"),
        (
            rule(
                origin={
                    "hosts": [
                        {"host": h, "base_path": "/b/", "credential": "old"}
                        for h in ("a.example", "b.example")
                    ]
                }
            ),
            "2 hosts",
        ),
    ],
)
def test_a_rule_that_cannot_be_listed_is_refused_by_name(given, named):
    with pytest.raises(DocumentError) as caught:
        read_file_rules(settings([given]))
    (problem,) = caught.value.problems
    assert problem.path == "buckets.site.list"
    assert "the rule 'img' cannot be listed" in problem.message
    assert named in problem.message
    assert "buckets.site.rules[0]" in problem.message


def test_the_same_rules_are_taken_where_the_bucket_lists_its_store():
    read_file_rules(settings([rule(credential=None)], list="store"))


def test_a_document_that_is_put_is_refused_too():
    given = settings(None)
    options = read_options(given, "site", owner="api")
    text = "rules: [{name: web, type: mirror, origin: {hosts: [{host: www.old.example}]}}]"
    with pytest.raises(DocumentError) as caught:
        read_any(text, options)
    assert "buckets.site.list is union: the rule 'web' cannot be listed" in str(caught.value)
    xml = """<OriginConfiguration><OriginRule><RulePriority>1</RulePriority><OriginType>Mirror</OriginType>
    <OriginCondition><HTTPStatusCode>404</HTTPStatusCode></OriginCondition><OriginParameter><Protocol>HTTP</Protocol>
    </OriginParameter><OriginInfo><HostInfo><HostName>www.old.example</HostName></HostInfo></OriginInfo></OriginRule>
    </OriginConfiguration>"""
    with pytest.raises(DocumentError, match=r"buckets\.site\.list is union"):
        read_any(xml, options)


@pytest.mark.parametrize(
    ("given", "root", "key", "theirs"),
    [
        (rule(), "/bucket", "a/b", "a/b"),
        (rule(base_path="/bucket/deep/%20er/"), "/bucket", "a", "deep/ er/a"),
        (rule(base_path="/", path={"add_prefix": "bucket/in/"}), "/bucket", "a", "in/a"),
        (rule(host="bucket.s3.eu-west-1.amazonaws.com", base_path="/"), "/", "a", "a"),
        (rule(host="bucket-125.cos.ap-beijing.myqcloud.com", base_path="/x/"), "/", "a", "x/a"),
        (rule(path={"template": "/v1/${key}"}), "/bucket", "a", "v1/a"),
        (
            rule(when={"prefix": "img/"}, path={"replace_prefix": {"from": "img/", "to": "i/"}}),
            "/bucket",
            "img/a",
            "i/a",
        ),
        (
            rule(when={"prefix": "img/"}, path={"replace_prefix": {"from": "img", "to": ""}}),
            "/bucket",
            "img/a",
            "a",
        ),
    ],
)
def test_a_key_and_its_place_at_the_origin_lead_to_each_other(given, root, key, theirs):
    rulesets, _ = read_file_rules(settings([given]))
    (route,) = list_routes(rulesets["site"], {"old": BucketAccess()})
    assert route.root == root
    assert route.at_origin(key) == theirs
    assert route.here(theirs) == key
    assert route.holds(key)


def test_what_no_way_in_would_ask_for_is_no_key_of_a_rule():
    rulesets, _ = read_file_rules(settings([rule(when={"prefix": "a", "suffix": ".jpg"})]))
    (route,) = list_routes(rulesets["site"], {"old": BucketAccess()})
    assert [key for key in ("a.jpg", "b.jpg", "a.png", "a/../b.jpg", "/a.jpg") if route.holds(key)] == [
        "a.jpg"
    ]
