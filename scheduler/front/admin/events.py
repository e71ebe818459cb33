"""`POST /v1/miss-events`: misses and deletions over HTTP.

Owns the request: types and encodings, streaming, statuses and the answer. 202 is said only after the queue
has every event that the answer calls accepted. What a record means is `scheduler.intake`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from scheduler.intake.accept import LISTED, Account, Intake
from scheduler.intake.body import BadBody, Row, Splitter, Unpacker, kind_of
from scheduler.intake.columns import behind
from scheduler.intake.records import Context, take, take_line, with_cloud_id
from scheduler.logs.filters import MissFilter
from scheduler.logs.formats.catalog import format_by_name
from scheduler.logs.place import Place
from scheduler.misses.refusals import Refused
from workers.errors import BrokerUnavailable, ConfigError, QueueFull
from workers.plan import Lane

if TYPE_CHECKING:
    from starlette.requests import Request

    from scheduler.misses.refusals import Taken
    from scheduler.runtime import Services

log = structlog.get_logger(__name__)

#: Seconds that a stream of which a part was taken already waits for a deep queue before it is sent away.
PATIENCE_S = 10.0
_AWAY_RETRY_S = 5
_COUNTS = (
    "accepted", "duplicate", "unmatched", "absent", "tombstoned", "refused", "ignored", "tombstones",
)  # fmt: skip


def routes(services: Services) -> list[Route]:
    """The route, over the services of this process."""
    endpoint = _MissEvents(services)
    return [Route("/v1/miss-events", endpoint.post, methods=["POST"])]


class _MissEvents:
    def __init__(self, services: Services) -> None:
        self._buckets = services.settings.buckets
        self._dispatcher = services.dispatcher
        self._rules = services.rules
        self._intake = Intake(dispatcher=services.dispatcher, ledger=services.ledger)

    async def post(self, request: Request) -> Response:
        account = Account()
        try:
            # A sender is told to come back before it has sent everything.
            await self._dispatcher.admit(Lane.HOT)
            if not self._rules.synced:
                raise BrokerUnavailable("the rules have not been read from Redis yet")
            await self._read(request, account)
        except BadBody as error:
            return _answer(account, error.status, error=error.reason, message=str(error))
        except QueueFull as error:
            return _answer(
                account, 429, error="queue_full", message=str(error), retry_after_s=error.retry_after_s
            )
        except BrokerUnavailable as error:
            return _answer(
                account, 503, error="queue_unavailable", message=str(error), retry_after_s=_AWAY_RETRY_S
            )
        if account.received == 0:
            return _answer(account, 400, error="empty", message="the body has no record")
        if account.counts["refused"] == account.received:
            first = account.listed[0]
            return _answer(account, 400, error=first[2], message=first[3] or "every record was refused")
        return _answer(account, 202)

    async def _read(self, request: Request, account: Account) -> None:
        headers = request.headers
        context = self._context(request)
        binary = "ce-specversion" in headers
        kind = kind_of(headers.get("content-type", ""))
        if binary and kind == "lines":
            raise BadBody("bad_cloud_event", "an event in binary mode has one JSON document as its body")
        unpacker = Unpacker(headers.get("content-encoding", ""))
        splitter = Splitter(kind)
        try:
            async for data in request.stream():
                for piece in unpacker.feed(data):
                    rows = splitter.feed(piece)
                    context = await self._take(rows, context, account, headers if binary else None)
        except ClientDisconnect as error:
            raise BadBody("disconnected", "the sender left before the end") from error
        unpacker.end()
        await self._take(splitter.end(), context, account, headers if binary else None)

    async def _take(self, rows: list[Row], context: Context, account: Account, cloud: Any) -> Context:
        """Take the records in; what the request says about those that follow."""
        if not rows:
            return context
        found: list[tuple[int, list[Taken]]] = []
        for row in rows:
            if row.raw:
                try:
                    context = behind(row.raw, context)
                except ConfigError as error:
                    raise BadBody("bad_columns", f"line {row.number}: {error}") from error
            found.append((row.number, _taken(row, context, cloud)))
        await self._intake.take(found, account, patience_s=PATIENCE_S if account.received else 0.0)
        return context

    def _context(self, request: Request) -> Context:
        bucket = request.query_params.get("bucket", "")
        if bucket and bucket not in self._buckets:
            raise BadBody("unknown_bucket", f"bucket {bucket!r}; known: {', '.join(sorted(self._buckets))}")
        try:
            line_format = format_by_name(request.query_params.get("format") or "auto")
        except ConfigError as error:
            raise BadBody("unknown_format", str(error)) from error
        return Context(
            bucket=bucket,
            format=line_format,
            # HEAD is the rule's business here (F40): the dispatcher says unmatched.
            filter=MissFilter(
                methods=frozenset({"GET", "HEAD"}),
                place=Place.of({name: one.hosts for name, one in self._buckets.items()}),
            ),
        )


def _taken(row: Row, context: Context, cloud: Any) -> list[Taken]:
    if row.problem:
        return [Refused(reason="not_json", detail=row.problem)]
    if row.raw:
        return take_line(row.raw, context)
    found = take(row.document, context)
    if cloud is not None:
        missing = [name for name in ("ce-id", "ce-source", "ce-type") if not cloud.get(name)]
        if missing or not cloud["ce-specversion"].startswith("1."):
            return [Refused(reason="bad_cloud_event", detail=f"header {(missing or ['ce-specversion'])[0]}")]
        return with_cloud_id(found, cloud["ce-source"], cloud["ce-id"])
    return found


def _answer(
    account: Account, status: int, *, error: str = "", message: str = "", retry_after_s: float = 0.0
) -> Response:
    body: dict[str, Any] = {}
    if error:
        body["error"] = {"code": error, "message": message}
    body["received"] = account.received
    body.update({name: account.counts[name] for name in _COUNTS})
    if account.counts["written_back"]:
        body["written_back"] = account.counts["written_back"]
    body["lines"] = [
        {"line": line, "state": state}
        | ({"reason": reason} if reason else {})
        | ({"detail": detail} if detail else {})
        for line, state, reason, detail in account.listed
    ]
    unlisted = sum(account.counts[name] for name in _COUNTS[1:-1]) - len(account.listed)
    if unlisted > 0:
        body["lines_not_listed"] = unlisted
        body["lines_listed_at_most"] = LISTED
    headers = {}
    if retry_after_s:
        headers["retry-after"] = str(max(1, round(retry_after_s)))
        # Up to this line everything is safe; sending all again is harmless.
        body["taken_up_to_line"] = account.last_line
    return Response(orjson.dumps(body), status_code=status, media_type="application/json", headers=headers)
