"""`/v1/gate` and `/v1/reports`: look at the finalize gate, pass it, take it back, read reports.

Owns the routes and the confirmation. The same as `ferryman finalize`: what a condition is, and what passing
does, is `scheduler.scan.gate`'s. Whoever passes or takes back types the scan's name: an order that names
something else changes nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.exceptions import RedisError
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scheduler.front.admin.bounded import body_of
from scheduler.front.admin.guard import note_change, who_of
from scheduler.front.admin.refused import Refused, answering
from scheduler.scan.gate import finalize as finalizing
from scheduler.scan.gate.gate import look
from scheduler.scan.gate.period import DEFAULT_QUIET, PERIOD, quiet_period_s
from scheduler.scan.record.state import ScanStates
from workers.errors import BrokerUnavailable, ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from starlette.requests import Request

    from scheduler.runtime import Services
    from scheduler.scan.gate.gate import Verdict
    from scheduler.scan.record.state import ScanState

#: Reports of one list, newest first.
MAX_REPORTS: Final = 200
_MAX_BODY_BYTES: Final = 64 * 1024
_NOT_STORED: Final = {"cache-control": "no-store"}
_REPORT: Final = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*-\d{8}T\d{6}Z)\.(?P<kind>json|html)")
_TYPES: Final = {"json": "application/json", "html": "text/html; charset=utf-8"}


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    #: The scan's name, typed by whoever orders this.
    confirm: str


class PassOrder(_Order):
    """How the gate is to be passed."""

    quiet: str = Field(default=DEFAULT_QUIET, json_schema_extra={"pattern": f"^{PERIOD}$"})
    keep_rule: bool = False
    override: str = Field(default="", max_length=1000)


class BackOrder(_Order):
    """Retired rules are to come back."""


Kind = TypeVar("Kind", bound=_Order)


def routes(services: Services) -> list[Route]:
    """The routes; the token is asked for by the application."""
    api = _GateApi(services)

    def route(path: str, handler: Callable[[Request], Awaitable[Response]], method: str) -> Route:
        return Route(path, answering(handler, _as_refused, headers=_NOT_STORED), methods=[method])

    return [
        route("/v1/gate/{scan}", api.look, "GET"),
        route("/v1/gate/{scan}/finalize", api.finalize, "POST"),
        route("/v1/gate/{scan}/rollback", api.rollback, "POST"),
        route("/v1/reports", api.reports, "GET"),
        route("/v1/reports/{file}", api.report, "GET"),
    ]


def _as_refused(error: Exception) -> Refused | None:
    match error:
        case ConfigError():
            return Refused(409, "not_possible", str(error))
        case BrokerUnavailable() | RedisError() | OSError():
            return Refused(503, "broker_unavailable", f"ledger: {error}", headers={"retry-after": "2"})
        case _:
            return None


def verdict_data(verdict: Verdict) -> dict[str, Any]:
    """One look as plain values."""
    return {
        "open": verdict.open,
        "shut": sum(not (one.ok or one.warning) for one in verdict.conditions),
        "conditions": [asdict(one) for one in verdict.conditions],
        "rules": [rule.name for rule in verdict.rules],
        "version": verdict.version,
    }


def report_names(services: Services) -> list[str]:
    """Reports that were written here, newest first."""
    directory: Path = services.settings.data_dir / "reports"
    names = [path.stem for path in directory.glob("*.json") if _REPORT.fullmatch(path.name)]
    return sorted(names, key=lambda name: name.rpartition("-")[2], reverse=True)[:MAX_REPORTS]


class _GateApi:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._states = ScanStates(services.redis, namespace=services.settings.broker.namespace)

    async def _scan(self, request: Request) -> ScanState:
        name = request.path_params["scan"]
        state = await self._states.get(name)
        if state is None:
            raise Refused(404, "unknown_scan", f"no scan {name!r}; GET /v1/scans lists them")
        return state

    async def look(self, request: Request) -> Response:
        """`?quiet=24h`: every condition with its evidence, and what to do where one does not hold."""
        state = await self._scan(request)
        quiet_s = _quiet(request.query_params.get("quiet", "") or DEFAULT_QUIET)
        verdict = await look(self._services, state, quiet_s=quiet_s)
        told = {"scan": state.name, "bucket": state.options.bucket, "quiet_s": quiet_s}
        return JSONResponse({**told, **verdict_data(verdict)})

    async def finalize(self, request: Request) -> Response:
        """`{"confirm": SCAN, "quiet", "keep_rule", "override"}`: retire the rules when the gate is open.

        409 with the conditions when it is shut and there is no `override`.
        """
        state = await self._scan(request)
        order = await _order(request, PassOrder, state)
        done = await finalizing.finalize(
            self._services,
            state,
            quiet_s=_quiet(order.quiet),
            who=who_of(request),
            keep_rule=order.keep_rule,
            override=order.override.strip(),
        )
        told = {
            **verdict_data(done.verdict),
            "retired": list(done.retired),
            "report": done.report.get("name", ""),
            "reports": list(done.reports),
        }
        note_change(request, scan=state.name, bucket=state.options.bucket, retired=list(done.retired))
        if not done.report:
            missing = [one.name for one in done.verdict.conditions if not (one.ok or one.warning)]
            raise Refused(409, "gate_shut", f"the gate is shut: {', '.join(missing)}", **told)
        return JSONResponse(told)

    async def rollback(self, request: Request) -> Response:
        """`{"confirm": SCAN}`: bring back the rules that were retired."""
        state = await self._scan(request)
        await _order(request, BackOrder, state)
        names = await finalizing.rollback(self._services, state, who=who_of(request))
        note_change(request, scan=state.name, bucket=state.options.bucket, back_in_force=list(names))
        return JSONResponse({"rolled_back": list(names)})

    async def reports(self, _: Request) -> Response:
        """The names of the reports, newest first."""
        return JSONResponse({"reports": await asyncio.to_thread(report_names, self._services)})

    async def report(self, request: Request) -> Response:
        """One report, `NAME.json` or `NAME.html`: from here, or from the bucket that holds it."""
        file = request.path_params["file"]
        found = _REPORT.fullmatch(file)
        body = await self._body(file) if found else None
        if found is None or body is None:
            raise Refused(404, "no_such_report", f"no report {file!r}; GET /v1/reports lists them")
        headers: Mapping[str, str] = _NOT_STORED
        if found["kind"] == "html":
            headers = {**_NOT_STORED, "content-security-policy": _policy(body)}
        return Response(body, media_type=_TYPES[found["kind"]], headers=dict(headers))

    async def _body(self, file: str) -> bytes | None:
        path: Path = self._services.settings.data_dir / "reports" / file
        if await asyncio.to_thread(path.is_file):
            return await asyncio.to_thread(path.read_bytes)
        buckets = [self._services.settings.report_bucket, *self._services.settings.buckets]
        for bucket in dict.fromkeys(name for name in buckets if name):
            try:
                answer = await self._services.store.get(bucket, f"{finalizing.REPORT_PREFIX}{file}")
            except StoreError:
                continue
            async with answer:
                if answer.status == 200:
                    return await answer.read()
        return None


def _policy(html: bytes) -> str:
    """A report brings one style of its own, and nothing else may run or load."""
    style = re.search(rb"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style[1] if style else b"").digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'"


def _quiet(text: str) -> float:
    try:
        return quiet_period_s(text)
    except ValueError as error:
        raise Refused(400, "bad_parameter", str(error), field="quiet") from error


async def _order(request: Request, kind: type[Kind], state: ScanState) -> Kind:
    body = await body_of(request, most_bytes=_MAX_BODY_BYTES)
    try:
        order = kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Refused(400, "bad_value", f"{place}: {first['msg']}", field=place) from error
    if order.confirm != state.name:
        raise Refused(
            400, "not_confirmed", f"type the scan's name, {state.name}, to confirm", field="confirm"
        )
    return order
