"""The OpenAPI 3.1 document of an application's `/v1` routes, and the route that answers it.

Owns how what is said of routes becomes OpenAPI. Which routes there are comes from the application.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter
from starlette.responses import JSONResponse
from starlette.routing import Route

from scheduler.front.admin.described.operations import EVERYWHERE, OPERATIONS
from scheduler.front.admin.described.shapes import Error
from scheduler.front.admin.guard import CSRF_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from scheduler.front.admin.described.operation import Operation, Parameter

PATH: Final = "/v1/openapi.json"
_REFERENCE = "#/components/schemas/{model}"


def openapi_route(routes: Sequence[BaseRoute]) -> Route:
    """`/v1/openapi.json` of these routes, and of itself."""

    @cache
    def made() -> dict[str, Any]:
        return document([*routes, itself])

    async def answer(_: Request) -> Response:
        return JSONResponse(made())

    itself = Route(PATH, answer, methods=["GET"])
    return itself


def operations_of(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, Route]]:
    """Method and route of everything below `/v1`."""
    for route in routes:
        if isinstance(route, Route) and route.path.startswith("/v1/"):
            for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
                yield method, route


def document(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The document. A route that nobody described is in it with those words."""
    there = [
        (method, route, OPERATIONS.get((method, route.path_format)))
        for method, route in operations_of(routes)
    ]
    schemas = _Schemas(known for _, _, known in there if known is not None)
    paths: dict[str, dict[str, Any]] = {}
    for method, route, known in there:
        paths.setdefault(route.path_format, {})[method.lower()] = _operation(method, route, known, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ferryman",
            "version": version("ferryman"),
            "description": "The admin side: rules, scans, failures, misses. The page uses nothing else.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.named.items())),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "the admin's or viewer's token",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "ferryman_admin",
                    "description": f"a browser's; each change carries its CSRF token in {CSRF_HEADER}",
                },
            },
        },
    }


def _operation(method: str, route: Route, known: Operation | None, schemas: _Schemas) -> dict[str, Any]:
    name = route.path_format.removeprefix("/v1/").replace("{", "").replace("}", "")
    described: dict[str, Any] = {
        "operationId": f"{method.lower()}_{name.replace('/', '_').replace('.', '_').replace('-', '_')}",
        "summary": known.summary if known else "(not described)",
        "tags": [name.split("/")[0].split(".")[0]],
        "parameters": _in_path(route, known),
        "responses": {},
    }
    if known is None:
        described["responses"]["default"] = {"description": "not described"}
        return described
    described["parameters"] += [_parameter(one) for one in known.parameters if one.where != "path"]
    if known.body is not None:
        described["requestBody"] = {
            "description": known.body.about,
            "required": True,
            "content": _content(schemas.sent(known.body.type), known.body.example, known.body.others),
        }
    for status, answer in known.answers.items():
        described["responses"][str(status)] = {
            "description": answer.about,
            "content": _content(schemas.answered(answer.type), answer.example, answer.others),
        }
    for status, when in {**EVERYWHERE, **known.refusals}.items():
        described["responses"][str(status)] = {
            "description": when,
            "content": _content(schemas.answered(Error), None, ()),
        }
    return described


def _in_path(route: Route, known: Operation | None) -> list[dict[str, Any]]:
    told = {one.name: one for one in (known.parameters if known else ()) if one.where == "path"}
    return [
        _parameter(told[part])
        if part in told
        else {"name": part, "in": "path", "required": True, "schema": {"type": "string"}}
        for part in route.param_convertors
    ]


def _parameter(one: Parameter) -> dict[str, Any]:
    schema = TypeAdapter(one.type).json_schema()
    if one.repeated:
        schema = {"type": "array", "items": schema}
    return {
        "name": one.name,
        "in": one.where,
        "required": one.required,
        "description": one.about,
        "schema": schema,
    }


def _content(schema: Any, example: Any, others: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if schema is not None:
        found["application/json"] = {"schema": schema}
        if example is not None:
            found["application/json"]["example"] = example
    for media_type in others:
        # A document in YAML is any value of JSON to those who read it.
        found[media_type] = {"schema": {} if media_type.endswith("yaml") else {"type": "string"}}
    return found


class _Schemas:
    """The schemas of every type that an operation names, made together: one name is one type."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        wanted: dict[tuple[str, Any], Any] = {(repr(Error), "serialization"): Error}
        for one in operations:
            if one.body is not None and one.body.type is not None:
                wanted[repr(one.body.type), "validation"] = one.body.type
            for answer in one.answers.values():
                if answer.type is not None:
                    wanted[repr(answer.type), "serialization"] = answer.type
        inputs: list[Any] = [(name, mode, TypeAdapter(kind)) for (name, mode), kind in wanted.items()]
        self._made, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REFERENCE)
        self.named: dict[str, Any] = definitions.get("$defs", {})

    def sent(self, kind: Any) -> Any:
        """Of what is sent."""
        return None if kind is None else self._made[repr(kind), "validation"]

    def answered(self, kind: Any) -> Any:
        """Of what comes back."""
        return None if kind is None else self._made[repr(kind), "serialization"]
