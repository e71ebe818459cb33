"""`/v1/rules`: what operators and the command line see (SEMANTICS.md 1.1, W9, W12)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import fakeredis
import httpx
import pytest
from starlette.applications import Starlette

from scheduler.config.settings import Settings
from scheduler.front.admin.rules import routes
from scheduler.rules.in_force.apply import apply_file_rules
from scheduler.rules.in_force.repository import RulesRepository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RULES = {"rules": [{"prefix": "img/", "origins": ["https://old.example.com"]}]}
BUCKETS = {"site": {}, "empty": {}, "filed": {"rules": [{"prefix": "a/", "origins": ["https://a.example"]}]}}
COS = (
    "<OriginConfiguration><OriginRule><OriginType>Mirror</OriginType>"
    "<OriginInfo><HostInfo><HostName>a.example.com</HostName></HostInfo></OriginInfo>"
    "</OriginRule></OriginConfiguration>"
)
OSS = (
    "<WebsiteConfiguration><RoutingRules><RoutingRule><RuleNumber>1</RuleNumber><Condition/>"
    "<Redirect><RedirectType>Mirror</RedirectType><MirrorURL>http://a.example/</MirrorURL></Redirect>"
    "</RoutingRule></RoutingRules></WebsiteConfiguration>"
)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings.model_validate({"buckets": BUCKETS})
    redis = fakeredis.FakeAsyncRedis(decode_responses=True)
    services = SimpleNamespace(settings=settings, rules=RulesRepository(redis))
    await apply_file_rules(services.rules, settings)
    transport = httpx.ASGITransport(app=Starlette(routes=routes(services)))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as found:
        yield found


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_set_is_put_read_listed_and_deleted(client):
    put = await client.put("/v1/rules/site", json=RULES)
    assert put.status_code == 200
    assert put.json()["changed"] is True
    got = (await client.get("/v1/rules/site")).json()
    assert (got["owner"], got["source"], got["version"]) == ("api", "yaml", put.json()["version"])
    assert got["rules"][0]["when"]["prefix"] == "img/"
    listed = {found["bucket"]: found for found in (await client.get("/v1/rules")).json()["buckets"]}
    assert listed["site"]["count"] == 1
    assert listed["empty"] == {"bucket": "empty", "owner": "api", "count": 0}
    assert listed["filed"]["owner"] == "file"
    assert (await client.delete("/v1/rules/site")).json() == {"bucket": "site", "deleted": True}
    assert (await client.delete("/v1/rules/site")).json() == {"bucket": "site", "deleted": False}
    assert error_of(await client.get("/v1/rules/site")) == (404, "no_rules")


async def test_what_was_read_can_be_put_again_without_a_new_version(client):
    await client.put("/v1/rules/site", json=RULES)
    got = (await client.get("/v1/rules/site")).json()
    again = await client.put("/v1/rules/site", json={"rules": got["rules"]})
    assert (again.json()["version"], again.json()["changed"]) == (got["version"], False)


@pytest.mark.parametrize(
    ("document", "source"),
    [
        ("rules:\n  - prefix: img/\n    origins: [https://old.example.com]\n", "yaml"),
        (COS, "cos"),
        (f"\n  {COS}", "cos"),
        (OSS, "oss"),
    ],
)
async def test_every_document_format_can_be_put(client, document, source):
    put = await client.put("/v1/rules/site", content=document)
    assert put.status_code == 200, put.text
    assert (await client.get("/v1/rules/site")).json()["source"] == source


async def test_a_set_is_written_as_the_format_that_is_asked_for_w12(client):
    await client.put("/v1/rules/site", content=COS)
    yaml = await client.get("/v1/rules/site?as=yaml")
    assert yaml.headers["content-type"].startswith("application/yaml")
    assert "a.example.com" in yaml.text
    assert (await client.get("/v1/rules/site?as=cos")).text.endswith(COS)
    refused = await client.get("/v1/rules/site?as=oss")
    assert error_of(refused) == (409, "not_expressible")
    assert any("request.protocol" in field for field in refused.json()["error"]["fields"])
    assert error_of(await client.get("/v1/rules/site?as=toml")) == (400, "invalid")


async def test_problems_come_all_at_once_with_path_line_and_kind_1_1(client):
    document = "rules:\n  - prefix: img/\n    typ: mirror\n    origins: ['ftp://x']\n"
    refused = await client.put("/v1/rules/site", content=document)
    assert refused.status_code == 400
    problems = refused.json()["error"]["problems"]
    assert len(problems) >= 2
    assert {"path", "line", "kind", "message"} == set(problems[0])
    assert problems[0]["line"] == 3
    assert error_of(await client.get("/v1/rules/site")) == (404, "no_rules")


async def test_a_dry_run_tells_and_changes_nothing(client):
    answer = await client.put("/v1/rules/site?dry_run=true", json=RULES)
    assert answer.json()["valid"] is True
    assert answer.json()["rules"]
    assert error_of(await client.get("/v1/rules/site")) == (404, "no_rules")
    assert (await client.put("/v1/rules/filed?dry_run=1", json=RULES)).status_code == 200


async def test_a_dry_run_that_is_neither_asked_for_nor_not_changes_nothing(client):
    answer = await client.put("/v1/rules/site?dry_run=ture", json=RULES)
    assert error_of(answer) == (400, "bad_parameter")
    assert answer.json()["error"]["field"] == "dry_run"
    assert error_of(await client.get("/v1/rules/site")) == (404, "no_rules")
    assert (await client.put("/v1/rules/site?dry_run=False", json=RULES)).json()["changed"] is True


async def test_history_and_rollback(client):
    first = (await client.put("/v1/rules/site", json=RULES, headers={"x-ferryman-actor": "ada"})).json()
    other = {"rules": [{"prefix": "doc/", "origins": ["https://new.example.com"]}]}
    await client.put("/v1/rules/site", json=other)
    versions = (await client.get("/v1/rules/site/history")).json()["versions"]
    assert [(v["who"], v["how"], v["count"]) for v in versions] == [
        ("token", "PUT /v1/rules", 1),
        ("token (ada)", "PUT /v1/rules", 1),
    ]
    old = await client.get(f"/v1/rules/site?version={first['version']}")
    assert old.json()["rules"][0]["when"]["prefix"] == "img/"
    back = await client.post("/v1/rules/site/rollback", json={"version": first["version"]})
    assert back.json()["from"] == first["version"]
    assert (await client.get("/v1/rules/site")).json()["rules"][0]["when"]["prefix"] == "img/"
    assert error_of(await client.post("/v1/rules/site/rollback", json={"version": 999})) == (
        404,
        "unknown_version",
    )
    assert error_of(await client.get("/v1/rules/site?version=999")) == (404, "unknown_version")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"version": "7"}', b'{"version": true}'])
async def test_a_rollback_needs_a_version(client, body):
    assert error_of(await client.post("/v1/rules/site/rollback", content=body)) == (400, "invalid")


async def test_if_match_refuses_what_came_between(client):
    first = await client.put("/v1/rules/site", json=RULES)
    tag = first.headers["etag"]
    other = {"rules": [{"prefix": "b/", "origins": ["https://b.example"]}]}
    assert (await client.put("/v1/rules/site", json=other, headers={"if-match": tag})).status_code == 200
    late = await client.put("/v1/rules/site", json=RULES, headers={"if-match": tag})
    assert error_of(late) == (412, "version_conflict")
    assert error_of(await client.put("/v1/rules/site", json=RULES, headers={"if-match": "x"})) == (
        400,
        "invalid",
    )
    assert error_of(await client.delete("/v1/rules/site", headers={"if-match": tag})) == (
        412,
        "version_conflict",
    )


async def test_a_bucket_of_the_file_cannot_be_changed_w9(client):
    assert error_of(await client.put("/v1/rules/filed", json=RULES)) == (409, "owned_by_file")
    assert error_of(await client.delete("/v1/rules/filed")) == (409, "owned_by_file")
    assert error_of(await client.post("/v1/rules/filed/rollback", json={"version": 1})) == (
        409,
        "owned_by_file",
    )
    assert (await client.get("/v1/rules/filed")).json()["owner"] == "file"
    assert (await client.get("/v1/rules/filed/history")).json()["versions"][0]["how"] == "configuration file"


async def test_an_unknown_bucket_is_404_w7(client):
    for method, path in (
        ("GET", "/v1/rules/nobody"),
        ("PUT", "/v1/rules/nobody"),
        ("DELETE", "/v1/rules/nobody"),
        ("GET", "/v1/rules/nobody/history"),
        ("POST", "/v1/rules/nobody/rollback"),
    ):
        assert error_of(await client.request(method, path, json=RULES)) == (404, "no_such_bucket")


async def test_a_document_beyond_one_mebibyte_is_refused_l7(client):
    assert error_of(await client.put("/v1/rules/site", content=b" " * (1024 * 1024 + 1))) == (
        413,
        "too_large",
    )


async def test_an_origin_that_came_by_the_api_may_not_be_private_b11(client):
    private = {"rules": [{"prefix": "", "origins": ["http://10.0.0.1"]}]}
    refused = await client.put("/v1/rules/site", json=private)
    assert refused.status_code == 400
    assert refused.json()["error"]["problems"][0]["kind"] == "unsafe_origin"


async def test_a_dry_run_says_what_would_change_against_which_version_and_changes_nothing(client):
    first = await client.put("/v1/rules/site", json=RULES)
    other = {"rules": [{"prefix": "img/", "origins": ["https://new.example.com"]}]}
    told = (await client.put("/v1/rules/site?dry_run=true", json=other)).json()
    assert (told["valid"], told["version"]) == (True, first.json()["version"])
    assert told["difference"]["changed"] == ["rule-1"]
    lines = [(line["sign"], line["text"].strip()) for line in told["difference"]["lines"]]
    assert ("-", "- host: old.example.com") in lines
    assert ("+", "- host: new.example.com") in lines
    assert (await client.get("/v1/rules/site")).json()["version"] == first.json()["version"]
    raced = await client.put("/v1/rules/site", json=other, headers={"if-match": '"0"'})
    assert error_of(raced) == (412, "version_conflict")


async def test_versions_of_the_history_are_compared_with_each_other_and_with_what_is_in_force(client):
    versions = []
    for name in ("a", "b", "c"):
        document = {"rules": [{"name": name, "prefix": f"{name}/", "origins": ["https://old.example.com"]}]}
        versions.append((await client.put("/v1/rules/site", json=document)).json()["version"])
    a, b, c = versions
    found = (await client.get(f"/v1/rules/site/difference?from={a}&to={b}")).json()
    assert (found["from"], found["to"], found["added"], found["removed"]) == (a, b, ["b"], ["a"])
    back = (await client.get(f"/v1/rules/site/difference?to={a}")).json()
    assert (back["from"], back["to"], back["added"], back["removed"]) == (c, a, ["a"], ["c"])
    assert error_of(await client.get("/v1/rules/site/difference?to=99")) == (404, "unknown_version")


async def test_a_request_is_explained_with_the_reasons_of_the_rules_that_do_not_answer(client):
    document = {
        "rules": [
            {
                "name": "png",
                "when": {"prefix": "img/", "suffix": ".png"},
                "origins": ["https://a.example.com"],
            },
            {"name": "all", "origins": ["https://b.example.com"]},
        ]
    }
    assert (await client.put("/v1/rules/site", json=document)).status_code == 200
    found = (await client.get("/v1/rules/site/explain", params={"key": "img/50% off é.jpg"})).json()
    assert (found["rule"], found["key"]) == ("all", "img/50% off é.jpg")
    assert [(rule["name"], rule["verdict"], rule["reasons"]) for rule in found["rules"]] == [
        ("png", "not_matched", ["suffix"]),
        ("all", "matched", []),
    ]
    assert found["url"] == "https://b.example.com/img/50%25%20off%20%C3%A9.jpg"
    put = (await client.get("/v1/rules/site/explain", params={"key": "a.png", "method": "put"})).json()
    assert (put["action"], put["refused"]) == ("none", "method")


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "key"),
        ({"key": "k" * 1025}, "key"),
        ({"key": "k", "status": "abc"}, "status"),
        ({"key": "k", "status": "99"}, "status"),
        ({"key": "k", "method": "GE T"}, "method"),
        ({"key": "k", "header": "no colon"}, "header"),
    ],
)
async def test_a_question_that_cannot_be_read_names_its_field(client, params, field):
    await client.put("/v1/rules/site", json=RULES)
    answer = await client.get("/v1/rules/site/explain", params=params)
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == field
