"""`/v1/failures` on the admin side: list, show, retry and waive what could not be moved, in JSON.

Owns the routes and the reading of their parameters. What a selection is: `scheduler.dispatch.failures`. The
token is asked for by the application.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.exceptions import RedisError
from starlette.responses import JSONResponse
from starlette.routing import Route

from scheduler.dispatch.failures import RetryServices, Selection, retry, selected, shown, waive
from scheduler.front.admin.bounded import body_of
from scheduler.front.admin.guard import note_change, who_of
from scheduler.front.admin.refused import Refused, answering
from workers.errors import BrokerUnavailable, QueueFull
from workers.ledger.failures import failure_to_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from scheduler.config.settings import Settings

#: Failures of one answer, unless the caller asks for fewer.
_MAX_LIMIT: Final = 10_000
_DEFAULT_LIMIT: Final = 1000
_MAX_BODY_BYTES: Final = 8 * 1024 * 1024


class FailureServices(RetryServices, Protocol):
    """What of `scheduler.runtime.Services` is needed here."""

    @property
    def settings(self) -> Settings: ...


class Chosen(BaseModel):
    """Which failures an order means; a bucket and at least one filter, or `all`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    bucket: str
    keys: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    rule: str | None = None
    prefix: str = ""
    scan: str | None = None
    older_than_s: float | None = Field(default=None, ge=0)
    newer_than_s: float | None = Field(default=None, ge=0)
    all: bool = False

    def selection(self) -> Selection:
        """The filters as a selection."""
        return Selection(
            reasons=frozenset(self.reasons),
            rule=self.rule,
            prefix=self.prefix,
            keys=frozenset(self.keys),
            scan=self.scan,
            older_than_s=self.older_than_s,
            newer_than_s=self.newer_than_s,
        )


class Waive(Chosen):
    """The same with the words that the report will carry."""

    because: str = Field(min_length=1, max_length=1000)
    #: Who accepts it; unless said, whose token it is.
    by: str = Field(default="", max_length=64)


Order = TypeVar("Order", bound=Chosen)


def routes(services: FailureServices) -> list[Route]:
    """The routes; literal paths before the one that takes a key."""
    api = _FailuresApi(services)
    return [
        Route("/v1/failures", _answering(api.list_all), methods=["GET"]),
        Route("/v1/failures/retry", _answering(api.retry), methods=["POST"]),
        Route("/v1/failures/waive", _answering(api.waive), methods=["POST"]),
        Route("/v1/failures/{bucket}/{key:path}", _answering(api.show), methods=["GET"]),
    ]


def _answering(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    return answering(handler, _as_refused)


def _as_refused(error: Exception) -> Refused | None:
    match error:
        case QueueFull():
            return Refused(503, "queue_full", str(error), headers={"Retry-After": "2"})
        case BrokerUnavailable() | RedisError() | OSError():
            return Refused(503, "broker_unavailable", str(error))
        case _:
            return None


class _FailuresApi:
    def __init__(self, services: FailureServices) -> None:
        self._services = services

    def _known(self, bucket: str) -> str:
        if bucket not in self._services.settings.buckets:
            raise Refused(404, "unknown_bucket", f"bucket {bucket!r} is not configured")
        return bucket

    async def list_all(self, request: Request) -> Response:
        """GET /v1/failures?bucket=&reason=&rule=&prefix=&scan=&older_than_s=&newer_than_s=&limit="""
        params = request.query_params
        allowed = {
            "bucket", "reason", "rule", "prefix", "key", "scan", "older_than_s", "newer_than_s", "limit",
        }  # fmt: skip
        unknown = set(params) - allowed
        if unknown:
            raise Refused(400, "bad_parameter", f"{min(unknown)!r}; known: {', '.join(sorted(allowed))}")
        buckets = [self._known(name) for name in params.getlist("bucket")]
        limit = _rows(params.get("limit"))
        selection = Selection(
            reasons=frozenset(params.getlist("reason")),
            rule=params.get("rule"),
            prefix=params.get("prefix", ""),
            keys=frozenset(params.getlist("key")),
            scan=params.get("scan"),
            older_than_s=_number(params.get("older_than_s"), "older_than_s"),
            newer_than_s=_number(params.get("newer_than_s"), "newer_than_s"),
        )
        wanted = list(dict.fromkeys(buckets)) or sorted(self._services.settings.buckets)
        found = await shown(self._services.ledger, wanted, selection, most=limit)
        return JSONResponse(
            {
                "count": found.reasons.total(),
                "reasons": dict(found.reasons.most_common()),
                "failures": [failure_to_json(failure) for failure in found.rows],
            },
        )

    async def show(self, request: Request) -> Response:
        """GET /v1/failures/{bucket}/{key}"""
        bucket, key = self._known(request.path_params["bucket"]), request.path_params["key"]
        found = await self._services.ledger.failures.get(bucket, key)
        if found is None:
            raise Refused(404, "not_listed", f"{bucket}/{key} is not in the list of failures")
        return JSONResponse(failure_to_json(found))

    async def retry(self, request: Request) -> Response:
        """POST /v1/failures/retry: 202 with how many were sent, and which were kept and why."""
        chosen = await _order(request, Chosen)
        bucket = self._known(chosen.bucket)
        selection = _must_choose(chosen)
        ledger = self._services.ledger
        rows = [failure async for failure in selected(ledger, [bucket], selection)]
        report = await retry(self._services, rows)
        note_change(request, bucket=bucket, retried=report.retried, kept=len(report.kept))
        kept = [{"bucket": name, "key": key, "why": why} for name, key, why in report.kept]
        return JSONResponse({"retried": report.retried, "kept": kept}, status_code=202)

    async def waive(self, request: Request) -> Response:
        """POST /v1/failures/waive: 200 with how many were accepted."""
        chosen = await _order(request, Waive)
        bucket = self._known(chosen.bucket)
        selection = _must_choose(chosen)
        ledger = self._services.ledger
        rows = [failure async for failure in selected(ledger, [bucket], selection)]
        by = chosen.by or who_of(request)
        done = await waive(ledger, bucket, rows, reason=chosen.because, by=by)
        note_change(request, bucket=bucket, waived=done, because=chosen.because)
        return JSONResponse({"waived": done})


def _must_choose(chosen: Chosen) -> Selection:
    selection = chosen.selection()
    if selection.everything and not chosen.all:
        raise Refused(400, "nothing_chosen", "give keys or a filter, or all: true")
    return selection


async def _order(request: Request, kind: type[Order]) -> Order:
    body = await body_of(request, most_bytes=_MAX_BODY_BYTES)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise Refused(400, "bad_json", first["msg"]) from error
        place = ".".join(str(part) for part in first["loc"])
        raise Refused(400, "bad_value", f"{place}: {first['msg']}") from error


def _rows(text: str | None) -> int:
    if text is None:
        return _DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise Refused(400, "bad_parameter", f"limit: {text!r} is no number of rows")
    return min(int(text), _MAX_LIMIT)


def _number(text: str | None, name: str) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        raise Refused(400, "bad_parameter", f"{name}: {text!r} is no number") from None
    if not 0 <= value < float("inf"):
        raise Refused(400, "bad_parameter", f"{name}: {text!r} is below zero or endless")
    return value
