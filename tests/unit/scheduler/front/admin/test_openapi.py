"""`/v1/openapi.json`: every route is in it with its types, it is valid, its examples are as it says."""

from __future__ import annotations

import re
from unittest.mock import MagicMock

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette
from starlette.routing import Route

from scheduler.config.settings import Settings
from scheduler.front.admin.app import make_app
from scheduler.front.admin.described.document import document, openapi_route, operations_of
from scheduler.front.admin.described.operations import OPERATIONS


@pytest.fixture(scope="module")
def known():
    """The routes of the admin side as it is served; nothing is asked of what is behind them."""
    services = MagicMock()
    services.settings = Settings.model_validate({"admin": {"token": "t" * 32}})
    return make_app(services, MagicMock())._app.routes


@pytest.fixture(scope="module")
def told(known):
    return document(known)


def test_every_v1_route_is_described_and_every_description_has_its_route(known):
    """A new route: describe it as scheduler/front/admin/described/__init__.py says."""
    there = {(method, route.path_format) for method, route in operations_of(known)}
    assert ("PUT", "/v1/rules/{bucket}") in there
    assert sorted(there - set(OPERATIONS)) == []
    assert sorted(set(OPERATIONS) - there) == []


def test_a_route_that_nobody_described_is_in_the_document_with_those_words():
    new = Route("/v1/new/{name}", lambda _: None, methods=["POST"])
    operation = document([new])["paths"]["/v1/new/{name}"]["post"]
    assert operation["summary"] == "(not described)"
    assert [one["name"] for one in operation["parameters"]] == ["name"]
    assert ("POST", "/v1/new/{name}") not in OPERATIONS


def test_it_is_valid_openapi(told):
    OpenAPIV31SpecValidator(told).validate()


def test_each_operation_has_its_parameters_answers_and_refusals(told):
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            in_path = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert in_path == set(re.findall(r"{(\w+)}", path)), where
            assert "401" in operation["responses"], where
            assert any(status.startswith("2") for status in operation["responses"]), where
            assert operation["summary"] != "(not described)", where
            assert ("requestBody" in operation) == (method in {"put", "post"} and "{order}" not in path), (
                where
            )


def test_every_example_is_as_its_schema_says(told):
    seen = 0
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            contents = [one["content"] for one in operation["responses"].values()]
            contents += [operation["requestBody"]["content"]] if "requestBody" in operation else []
            for content in contents:
                one = content.get("application/json", {})
                if "example" in one:
                    seen += 1
                    schema = {**one["schema"], "components": told["components"]}
                    problems = [
                        error.message for error in Draft202012Validator(schema).iter_errors(one["example"])
                    ]
                    assert problems == [], (method, path)
    assert seen >= len(OPERATIONS)


def test_names_of_operations_are_their_own(told):
    names = [one["operationId"] for methods in told["paths"].values() for one in methods.values()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z_0-9]+", name) for name in names)


def test_what_a_part_of_the_path_may_be_is_said_where_it_may_not_be_any_text(told):
    named = {one["name"]: one for one in told["paths"]["/v1/scans/{name}/{order}"]["post"]["parameters"]}
    assert named["order"]["schema"]["enum"] == ["pause", "resume", "cancel"]
    assert named["order"]["in"] == named["name"]["in"] == "path"
    assert named["order"]["required"]
    assert named["name"]["schema"] == {"type": "string"}


async def test_a_method_that_a_path_does_not_have_is_told_all_those_it_has(known):
    services = MagicMock()
    services.settings = Settings.model_validate({"admin": {"token": "t" * 32}})
    transport = httpx.ASGITransport(make_app(services, MagicMock()))
    headers = {"authorization": f"Bearer {'t' * 32}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://admin", headers=headers) as client:
        rules = await client.patch("/v1/rules/site")
        scans = await client.options("/v1/scans")
    assert (rules.status_code, rules.headers["allow"]) == (405, "DELETE, GET, HEAD, PUT")
    assert (scans.status_code, scans.headers["allow"]) == (405, "GET, HEAD, POST")


async def test_it_is_answered_and_names_itself():
    api = [Route("/v1/new", lambda _: None, methods=["GET"])]
    app = Starlette(routes=[*api, openapi_route(api)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin") as client:
        answer = (await client.get("/v1/openapi.json")).json()
    assert set(answer["paths"]) == {"/v1/new", "/v1/openapi.json"}
