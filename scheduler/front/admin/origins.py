"""`/v1/origins`: how origins stand, and what one URL answers. The same as `ferryman origins`.

Owns the routes, and which hosts may be probed: those that a file's rules name, and every public one. A host
in a private network that only the asker names is refused, as in a rule that comes by the API (B11).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import orjson
from redis.exceptions import RedisError
from starlette.responses import JSONResponse
from starlette.routing import Route

from scheduler.front.admin.bounded import body_of
from scheduler.front.admin.guard import note_change
from scheduler.front.admin.refused import Refused, answering
from workers.errors import BrokerUnavailable, BudgetExhausted, TransferError
from workers.origin.control import overview
from workers.origin.control.fleet import Fleet
from workers.origin.fetch.inspect import inspect_origin
from workers.origin.wire.redirects import split_url

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from scheduler.runtime import Services

_MAX_BODY_BYTES: Final = 16 * 1024


def routes(services: Services) -> list[Route]:
    """The routes; the token is asked for by the application."""

    async def listing(_: Request) -> Response:
        """Every origin that a living process knows."""
        fleet = Fleet(services.redis, namespace=services.settings.broker.namespace, process="origins")
        return JSONResponse({"origins": [_plain(asdict(one)) for one in await overview.read(fleet)]})

    async def probe(request: Request) -> Response:
        """`{"url", "credential"}`: ask it in several ways; each request takes a slot of the host's budget."""
        url, credential = await _order(request)
        if credential and credential not in services.settings.origin.credentials:
            known = ", ".join(sorted(services.settings.origin.credentials)) or "none"
            message = f"no credential {credential!r} in origin.credentials; known: {known}"
            raise Refused(400, "bad_value", message, field="credential")
        try:
            host = split_url(url).authority
            report = await inspect_origin(
                services.fetcher.client,
                services.fetcher.control,
                url,
                trusted=host in hosts_of_files(services),
                credential=credential or None,
            )
        except ValueError as error:
            message = f"{error}; a URL with http:// or https:// is expected"
            raise Refused(400, "bad_value", message, field="url") from error
        note_change(request, origin=host, reachable=report.reachable)
        return JSONResponse(asdict(report))

    return [
        Route("/v1/origins", answering(listing, _as_refused), methods=["GET"]),
        Route("/v1/origins/probe", answering(probe, _as_refused), methods=["POST"]),
    ]


def hosts_of_files(services: Services) -> frozenset[str]:
    """Hosts, with ports, that rules of configuration files name."""
    return frozenset(
        origin.host
        for bucket in services.rules.buckets()
        if (ruleset := services.rules.snapshot(bucket)) is not None and ruleset.owner == "file"
        for rule in ruleset.rules
        for group in rule.origin.hosts
        for origin in (group.primary, *group.standbys)
    )


def _as_refused(error: Exception) -> Refused | None:
    match error:
        case BrokerUnavailable() | RedisError() | OSError():
            return Refused(503, "broker_unavailable", f"ledger: {error}", headers={"retry-after": "2"})
        case BudgetExhausted():
            return Refused(429, "budget_exhausted", str(error), headers={"retry-after": "5"})
        case TransferError():
            return Refused(502, error.reason, str(error))
        case _:
            return None


async def _order(request: Request) -> tuple[str, str]:
    body = await body_of(request, most_bytes=_MAX_BODY_BYTES)
    try:
        wire = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, "bad_json", str(error)) from error
    given = wire if isinstance(wire, dict) else {}
    url, credential = given.get("url", ""), given.get("credential", "")
    if not isinstance(url, str) or not url or not url.isprintable():
        raise Refused(400, "bad_value", "a URL with http:// or https:// is expected", field="url")
    if not isinstance(credential, str):
        raise Refused(400, "bad_value", "the name of a credential is expected", field="credential")
    return url.strip(), credential


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "state": row["state"].value}
