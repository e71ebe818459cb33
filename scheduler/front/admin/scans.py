"""`/v1/scans`: start, read, and order scans over HTTP. The same as `ferryman scan`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson
from redis.exceptions import RedisError
from starlette.responses import Response
from starlette.routing import Route

from scheduler.front.admin.bounded import body_of
from scheduler.front.admin.guard import note_change
from scheduler.front.admin.refused import Refused
from scheduler.scan.names import FINDINGS, TERMS, Names, first
from scheduler.scan.record.scan_index import WrongCursor
from scheduler.scan.record.state import MOST_SHOWN
from scheduler.scan.service import ScanService, UnknownScan, WrongScan, scan_options
from workers.errors import BrokerUnavailable, ConfigError, StoreError

if TYPE_CHECKING:
    from starlette.requests import Request

    from scheduler.runtime import Services

#: Scans of an answer at most.
_MOST_SCANS = 1_000
#: Keys that are named without a `limit`, and with the largest.
_SHOWN = 100
_MOST = 10_000


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")


def _away(error: Exception) -> Response:
    return _json({"error": f"ledger: {error or type(error).__name__}"}, 503)


def _limit(given: str | None, unless: int, most: int) -> int | None:
    """How many are wanted; None: no such number may be."""
    if given is None:
        return unless
    return int(given) if re.fullmatch(r"[0-9]{1,9}", given) and 0 < int(given) <= most else None


def routes(services: Services) -> list[Route]:
    """The routes of `/v1/scans`."""
    service = ScanService(services)

    async def listing(request: Request) -> Response:
        query = request.query_params
        limit = _limit(query.get("limit"), MOST_SHOWN, _MOST_SCANS)
        if limit is None:
            return _json({"error": f"limit {query['limit']!r}: 1 to {_MOST_SCANS} is expected"}, 400)
        try:
            page = await service.states.page(limit, query.get("cursor", ""))
            answer = _json([await service.report(state) for state in page.scans])
        except WrongCursor as error:
            return _json({"error": str(error)}, 400)
        except (RedisError, OSError) as error:
            return _away(error)
        answer.headers["x-total-count"] = str(page.total)
        if page.cursor:
            following = urlencode({"limit": limit, "cursor": page.cursor})
            answer.headers["link"] = f'</v1/scans?{following}>; rel="next"'
        return answer

    async def start(request: Request) -> Response:
        try:
            body = orjson.loads(await body_of(request))
            name = body.pop("name")
        except Refused as error:
            return _json({"error": str(error)}, error.status)
        except (ValueError, KeyError, AttributeError, TypeError):
            return _json({"error": 'a JSON object with "name" is expected'}, 400)
        try:
            options = scan_options(services.settings, str(name), body)
            report = await service.report(await service.start(str(name), options))
        except WrongScan as error:
            return _json({"error": str(error), "fields": error.fields}, 400)
        except ConfigError as error:
            return _json({"error": str(error), "fields": {"name": str(error)}}, 400)
        except BrokerUnavailable as error:
            return _json({"error": str(error)}, 503)
        except (RedisError, OSError) as error:
            return _away(error)
        note_change(request, scan=report["name"], bucket=report["bucket"], dry_run=report["dry_run"])
        return _json(report, 202)

    async def one(request: Request) -> Response:
        name = request.path_params["name"]
        try:
            state = await service.states.get(name)
            if state is None:
                return _json({"error": f"no scan {name!r}; GET /v1/scans lists them"}, 404)
            return _json(await service.report(state))
        except (RedisError, OSError) as error:
            return _away(error)

    async def keys(request: Request) -> Response:
        name, query = request.path_params["name"], request.query_params
        terms = query.getlist("term") or list(TERMS)
        unknown = sorted(set(terms).difference(TERMS, FINDINGS))
        limit = _limit(query.get("limit"), _SHOWN, _MOST)
        if unknown or limit is None:
            allowed = ", ".join((*TERMS, *FINDINGS))
            return _json({"error": f"term: one of {allowed}; limit: 1 to {_MOST}"}, 400)
        try:
            state = await service.states.get(name)
            if state is None:
                return _json({"error": f"no scan {name!r}; GET /v1/scans lists them"}, 404)
            found = [one._asdict() async for one in first(Names(services, state).read(terms), limit + 1)]
        except (RedisError, OSError) as error:
            return _away(error)
        except StoreError as error:
            return _json({"error": str(error)}, 503)
        return _json({"name": name, "keys": found[:limit], "more": len(found) > limit})

    async def order(request: Request) -> Response:
        name, what = request.path_params["name"], request.path_params["order"]
        if what not in {"pause", "resume", "cancel"}:
            return _json({"error": "pause, resume or cancel is expected"}, 400)
        try:
            await service.order(name, what)
        except UnknownScan as error:
            return _json({"error": str(error)}, 404)
        except ConfigError as error:
            return _json({"error": str(error)}, 409)
        except BrokerUnavailable as error:
            return _json({"error": str(error)}, 503)
        return _json({"name": name, "ordered": what}, 202)

    return [
        Route("/v1/scans", listing, methods=["GET"]),
        Route("/v1/scans", start, methods=["POST"]),
        Route("/v1/scans/{name}", one, methods=["GET"]),
        Route("/v1/scans/{name}/keys", keys, methods=["GET"]),
        Route("/v1/scans/{name}/{order}", order, methods=["POST"]),
    ]
