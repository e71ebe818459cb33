"""ListObjects of a bucket with `list: union`: what the store has, and what its rules would bring.

Owns the requests to store and origins, what is asked of the ledger, and what is said when one of them does
not answer: 503, never a short list, unless `list_degraded: store` says so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal

import structlog
from redis.exceptions import RedisError

from scheduler.dispatch.dispatcher import key_problem
from scheduler.front.http.s3_error import S3Error
from scheduler.front.s3.call import Refused
from scheduler.front.s3.forwarding import Forwarding
from scheduler.front.s3.listing.origins import OriginList, Wanted
from scheduler.front.s3.listing.page import Page, read_page
from scheduler.front.s3.listing.paging import union_page
from scheduler.front.s3.listing.positions import common_prefix
from scheduler.front.s3.listing.request import list_document, list_request
from scheduler.front.s3.listing.sides import Chunk, OutOfOrder, read_by_bytes, read_by_component
from scheduler.rules.in_force.apply import bucket_access
from scheduler.rules.keys import is_reserved
from scheduler.rules.listable.routes import list_routes
from scheduler.rules.planning import fetch_plan
from workers.errors import (
    BrokerUnavailable,
    OriginError,
    OriginMalformed,
    StoreError,
    StoreRejected,
    TransferError,
    described,
)
from workers.origin.fetch.listing import list_page
from workers.store.wire.addressing import encode_key, encode_query
from workers.store.wire.answers import error_code
from workers.store.wire.signing import EMPTY_SHA256
from workers.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.front.s3.call import Call
    from scheduler.front.s3.forwarding import S3Services
    from scheduler.front.s3.listing.merge import Shown
    from scheduler.front.s3.listing.request import ListRequest
    from scheduler.rules.listable.routes import ListRoute
    from scheduler.rules.model import RuleSet
    from workers.store.guarantees import StoreGuarantees

log = structlog.get_logger()

#: Longest time in seconds that a client waits for a slot of the origin's budget, and for the ledger.
_BUDGET_WAIT_S: Final = 5.0
_PATIENCE_S: Final = 2.0
#: The least that is asked for at once, so that pages of a few keys get over what is hidden.
_LEAST: Final = 16
_DEFAULT_PORT: Final = {"http": ":80", "https": ":443"}
#: Says that a list is the store's alone.
LIST_HEADER: Final = b"x-ferryman-list"
_RETRY: Final = ((b"retry-after", b"5"),)


class Union(Forwarding):
    """Answers ListObjects of such buckets."""

    def __init__(self, services: S3Services) -> None:
        super().__init__(services)
        self._claims = services.ledger.claims
        self._fetcher = services.fetcher
        self._access = bucket_access(self._settings.origin.credentials)
        self._secrets = {key.id: key.reveal() for key in self._settings.client_keys()}
        #: By host of an origin, what `listing_order: auto` has found.
        self._orders: dict[str, Literal["bytes", "path"]] = {}

    def answers(self, call: Call) -> bool:
        """Whether a call is one of ours."""
        section = self._settings.buckets.get(call.bucket)
        return section is not None and section.list == "union" and call.operation.name == "ListObjects"

    async def answer(self, call: Call) -> None:
        """Answer one call.

        Raises:
            Refused: 400 for its parameters, 503 where not every side can be listed.
            StoreError: the store does not answer.
        """
        secret = self._secrets[call.key_id]
        asked = list_request(call.bucket, call.parameters, secret=secret)
        headers = [(b"content-type", b"application/xml")]
        try:
            page = await self._page(call, asked, self._routes(call))
            metrics.union_listed("whole")
        except (TransferError, OutOfOrder, BrokerUnavailable, RedisError, OSError, ValueError) as error:
            if isinstance(error, StoreError):
                metrics.union_listed("store_failed")
                raise
            if self._settings.buckets[call.bucket].list_degraded != "store":
                log.warning(
                    "listing_refused", bucket=call.bucket, error=described(error), request_id=call.request.id
                )
                metrics.union_listed("refused")
                raise _unlisted(error) from error
            log.warning(
                "listing_degraded", bucket=call.bucket, error=described(error), request_id=call.request.id
            )
            page = await self._page(call, asked, ())
            headers.append((LIST_HEADER, b"store"))
            metrics.union_listed("degraded")
        await call.answer.whole(200, headers, list_document(asked, page, secret=secret))

    def _routes(self, call: Call) -> Sequence[ListRoute]:
        ruleset = self._rules.snapshot(call.bucket)
        if ruleset is None and self._rules.age_s() is None:
            raise BrokerUnavailable("the rules of the bucket have not been read yet")
        return () if ruleset is None else list_routes(ruleset, self._access)

    # ------------------------------------------------------------ one page

    async def _page(self, call: Call, asked: ListRequest, routes: Sequence[ListRoute]) -> Shown:
        scope, place = asked.scope, asked.place
        known = await self._store.guarantees(call.bucket)
        if known.collation == "none" or not known.start_after:
            raise _unordered(call.bucket)
        wanted = Wanted(
            prefix=scope.prefix, delimiter=scope.delimiter, limit=max(_LEAST, asked.most) if asked.most else 0
        )
        ruleset = self._rules.snapshot(call.bucket)
        origins = (
            [self._origin(call.bucket, route, routes[:at], ruleset, known) for at, route in enumerate(routes)]
            if ruleset is not None
            else []
        )
        return await union_page(
            place,
            wanted,
            most=asked.most,
            store=lambda at, wanted: self._of_store(call, at, wanted, known, owners=asked.owners),
            origins=origins,
            buried=lambda keys: self._buried(call.bucket, keys),
        )

    async def _buried(self, bucket: str, keys: list[str]) -> set[str]:
        if not keys:
            return set()
        async with asyncio.timeout(_PATIENCE_S):
            return await self._claims.buried(bucket, keys)

    async def _buried_below(self, bucket: str, directories: Sequence[str]) -> set[str]:
        async with asyncio.timeout(_PATIENCE_S):
            return await self._claims.buried_below(bucket, directories)

    # ------------------------------------------------------------ the store

    async def _of_store(
        self, call: Call, at: str, wanted: Wanted, known: StoreGuarantees, *, owners: bool
    ) -> Chunk:
        prefix, delimiter = wanted.prefix, wanted.delimiter if wanted.delimiter == "/" else ""
        if delimiter:
            above = common_prefix(at.removesuffix("\0"), prefix, delimiter)
            at = at if above is None else min(at, above)

        async def ask(*, prefix: str, after: str | None, delimiter: str, limit: int) -> Page:
            query = _query(prefix, after, delimiter, limit)
            query += [("encoding-type", "url"), *([("fetch-owner", "true")] if owners else [])]
            async with asyncio.timeout(self._settings.gateway.lookup_s):
                async with await self._store.pass_on(
                    "GET", call.bucket, "", headers={}, query=encode_query(query), payload_sha256=EMPTY_SHA256
                ) as passed:
                    body = await passed.read()
            if passed.status != 200:
                code, message = error_code(body)
                raise Refused(S3Error(status=passed.status, code=code or "InternalError", message=message))
            try:
                return read_page(body, plus_is_space=known.plus_is_space)
            except ValueError as error:
                raise StoreRejected(f"LIST {call.bucket}: {error}") from error

        read = read_by_component if known.collation == "path" else read_by_bytes
        try:
            chunk = await read(ask, at, prefix=prefix, delimiter=delimiter, limit=wanted.limit)
        except (OutOfOrder, TimeoutError) as error:
            raise StoreRejected(f"LIST {call.bucket}: {error or 'no answer in time'}") from error
        return Chunk(items=[item for item in chunk.items if not is_reserved(item[0])], until=chunk.until)

    # ------------------------------------------------------------ an origin

    def _origin(
        self,
        bucket: str,
        route: ListRoute,
        earlier: Sequence[ListRoute],
        ruleset: RuleSet,
        known: StoreGuarantees,
    ) -> OriginList:
        plan = fetch_plan(route.rule, ruleset, bucket)
        origin = plan.groups[0].primary
        scheme = origin.scheme or route.rule.request.follow_fallback
        name = origin.host.removesuffix(_DEFAULT_PORT[scheme])
        most = self._settings.limits.max_object_bytes
        servers: list[str] = []

        async def ask(*, prefix: str, after: str | None, delimiter: str, limit: int) -> Page:
            query = _query(prefix, after, delimiter, limit)
            body, server = await list_page(
                self._fetcher,
                plan,
                origin,
                f"{scheme}://{name}{encode_key(route.root)}?{encode_query(query)}",
                budget_timeout_s=_BUDGET_WAIT_S,
            )
            servers.append(server)
            try:
                return read_page(body, owners=False)
            except ValueError as error:
                raise OriginMalformed(
                    f"{origin.host}: LIST {route.root}: {error}", origin=origin.host
                ) from error

        async def read(at: str, prefix: str, delimiter: str, limit: int) -> Chunk:
            order = route.order if route.order != "auto" else self._orders.get(origin.host)
            if order == "path":
                return await read_by_component(ask, at, prefix=prefix, delimiter=delimiter, limit=limit)
            try:
                chunk = await read_by_bytes(ask, at, prefix=prefix, delimiter=delimiter, limit=limit)
            except OutOfOrder:
                if order is not None or not _lists_by_component(servers):
                    raise
                chunk = None
            if order is None:
                self._orders[origin.host] = "path" if _lists_by_component(servers) else "bytes"
                if self._orders[origin.host] == "path":
                    return await read_by_component(ask, at, prefix=prefix, delimiter=delimiter, limit=limit)
            assert chunk is not None
            return chunk

        def holds(key: str, size: int) -> bool:
            return (
                key_problem(key) is None
                and known.refuses(key, size) is None
                and (most is None or size <= most)
            )

        return OriginList(
            route,
            earlier,
            read=read,
            holds=holds,
            buried_below=lambda directories: self._buried_below(bucket, directories),
        )


def _query(prefix: str, after: str | None, delimiter: str, limit: int) -> list[tuple[str, str]]:
    query = [("list-type", "2"), ("max-keys", str(limit))]
    query += [(name, value) for name, value in (("prefix", prefix), ("delimiter", delimiter)) if value]
    return query if not after else [*query, ("start-after", after)]


def _lists_by_component(servers: list[str]) -> bool:
    return any(server.lower().startswith("seaweedfs") for server in servers)


def _unlisted(error: Exception) -> Refused:
    what = "an origin of the bucket" if isinstance(error, (TransferError, OutOfOrder)) else "the bucket"
    if isinstance(error, ValueError):
        message = "The list would be short: a rule of the bucket has an origin that cannot be listed."
    elif isinstance(error, (BrokerUnavailable, RedisError, OSError)):
        message = "The list could be wrong: Redis does not answer, and rules and deletions are noted there."
    else:
        reason = error.reason if isinstance(error, OriginError) else "listing order"
        message = f"The list would be short: {what} cannot be listed now ({reason})."
    return Refused(S3Error(status=503, code="ServiceUnavailable", message=message), headers=_RETRY)


def _unordered(bucket: str) -> Refused:
    message = (
        f"buckets.{bucket}.list is union, and the store lists in no order that the self-test could find, or "
        "does not heed start-after: no list can be merged with it. list: store is what it can do."
    )
    return Refused(S3Error(status=501, code="NotImplemented", message=message))
