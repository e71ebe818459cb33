"""The object gateway: a raw ASGI application that answers from the store, or as the rules say.

Owns the way of a request: bucket, access, store, rule, handler. Each answer is one module beside this one.
Also owns the life of a front process's parts. What reaches this point is well-formed HTTP (`protocol`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, assert_never

import structlog
from structlog.contextvars import bind_contextvars

from scheduler.front.auth import SignedRequest
from scheduler.front.hit import serve_hit
from scheduler.front.http import s3_error
from scheduler.front.http.access import Refusal, TrustedProxies, may_read
from scheduler.front.http.answer import Answer, BodyLengthWrong, ClientLost, Interrupted
from scheduler.front.http.bucket_address import BucketLookup
from scheduler.front.http.request import read_request
from scheduler.front.http.target import Target
from scheduler.front.miss.answer import CutShort, send_unavailable
from scheduler.front.miss.head import serve_head_miss
from scheduler.front.miss.mirror import serve_mirror
from scheduler.front.miss.miss import Miss
from scheduler.front.miss.proxy import serve_proxy
from scheduler.front.miss.redirect import serve_redirect
from scheduler.front.miss.source import pull_whole
from scheduler.front.parts import Parts
from scheduler.front.pull.absent import AbsentCache
from scheduler.front.pull.admission import Admission
from scheduler.front.pull.claim import FrontClaims
from scheduler.front.pull.herd import STALE_S, Herd
from scheduler.front.pull.jobs import Jobs
from scheduler.front.pull.pump import Pump
from scheduler.front.pull.spool import BodyFailed, Spool
from scheduler.front.rules_api.vendor_xml import WireRequest, is_wire_request, keyring_of, read_body, wire_api
from scheduler.front.s3.front import S3Front
from scheduler.front.stats import GatewayStats
from scheduler.rules.keys import KeyRefused, client_path, is_reserved
from scheduler.rules.matching import match, needs_no_status
from scheduler.rules.model import RuleType
from scheduler.rules.planning import PlanRefused, plan
from workers.errors import StoreError
from workers.ledger.claims import FRONT
from workers.origin.wire.headers import went_through

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from scheduler.front.http.bucket_address import BucketAddress
    from scheduler.front.http.request import Request
    from scheduler.front.pull.fill import Fill, NotFound
    from scheduler.rules.model import Rule, RuleSet
    from scheduler.runtime import Services

log = structlog.get_logger()

#: What a store's refusal is called when no rule wants the status.
_REFUSALS = {403: s3_error.ACCESS_DENIED, 404: s3_error.NO_SUCH_KEY}
_KEY_REFUSALS = {"InvalidURI": s3_error.INVALID_URI, "KeyTooLongError": s3_error.KEY_TOO_LONG}
#: Share of the process's memory that running pulls may keep for their readers.
_MEMORY_SHARE = 4


class Gateway:
    """One front process; use as an async context, call as an ASGI application."""

    def __init__(self, services: Services) -> None:
        settings = services.settings
        gateway = settings.gateway
        self._services = services
        self._settings = settings
        self._trusted = TrustedProxies(gateway.trusted_proxies)
        self._lookup = BucketLookup.of(gateway.domains, services.buckets)
        self._lookup_version = services.buckets.version
        self._keys = keyring_of(settings)
        self._s3 = S3Front(services, self._keys, self)
        loop_time = time.monotonic
        stats = GatewayStats(services.ledger, instance=services.instance, dependency=services.dependency)
        claims = FrontClaims(
            services.ledger.claims, services.ledger.failures, owner=f"{FRONT}{services.instance}"
        )
        absent = AbsentCache(gateway.absent_cache_size, clock=loop_time)
        jobs = Jobs(services.dispatcher, stats)
        herd = Herd(lambda fill: pump.run(fill))  # noqa: PLW0108 - the pump is made after the herd it tells
        pump = Pump(
            fetcher=services.fetcher,
            store=services.store,
            claims=claims,
            spool=Spool(
                settings.data_dir / "spool",
                memory_bytes=settings.limits.memory_bytes // _MEMORY_SHARE,
                disk_bytes=settings.limits.spool_bytes,
                window_bytes=gateway.fill_memory_bytes,
            ),
            stats=stats,
            herd_wait_s=gateway.herd_wait_s,
            max_object_bytes=settings.limits.max_object_bytes,
            stored=herd.stored,
            absent=self._remember_absent,
            give_away=self._give_away,
        )
        self.parts = Parts(
            settings=gateway,
            store=services.store,
            fetcher=services.fetcher,
            control=services.control,
            claims=claims,
            herd=herd,
            pump=pump,
            absent=absent,
            admission=Admission(
                per_client=gateway.misses_per_client_per_s, overall=gateway.misses_per_s, clock=loop_time
            ),
            jobs=jobs,
            stats=stats,
            installation=services.installation,
        )

    async def __aenter__(self) -> Self:
        self.parts.claims.start()
        self.parts.stats.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        drain_s = self._settings.limits.drain_s
        await self.parts.herd.close(drain_s)
        await self.parts.jobs.close(min(5.0, drain_s))
        await self.parts.claims.close()
        await self.parts.stats.close()

    def _remember_absent(self, fill: Fill, found: NotFound) -> None:
        self.parts.absent.remember(
            fill.bucket,
            fill.key,
            rule=fill.plan.rule,
            epoch=fill.plan.epoch,
            ttl_s=fill.plan.absent_ttl_s,
            answer=found.answer if fill.keep_error_body else None,
        )

    async def _give_away(self, fill: Fill, reason: str) -> None:
        log.info("pull_given_away", bucket=fill.bucket, key=fill.key, reason=reason)
        self.parts.stats.answered("given_away", fill.bucket, fill.plan.rule)
        # What we wrote, and did not hear of, is ours all the same (S11).
        self.parts.jobs.offer(fill.queued_plan, replace(fill.item, tried_as=fill.attempt))

    # ------------------------------------------------------------ one request

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        began = time.perf_counter()
        request = read_request(scope, self._trusted)
        answer = Answer(request, send, stall_s=self._settings.gateway.client_stall_s)
        try:
            await self._route(request, answer, scope, receive)
        except ClientLost as lost:
            self.parts.stats.answered("client_lost", "")
            log.debug("client_lost", **_ids(request), how=type(lost).__name__, sent=answer.bytes_sent)
            answer.cut()
        except (BodyFailed, StoreError, Interrupted, BodyLengthWrong, CutShort) as error:
            # The source failed behind the status line: cutting is all that is left (A12).
            self.parts.stats.answered("cut", "")
            log.info("answer_cut", **_ids(request), sent=answer.bytes_sent, error=str(error))
            answer.cut()
        except Exception:
            log.exception("request_failed", **_ids(request))
            if answer.started:
                answer.cut()
            else:
                address = self._address(request)
                await answer.error(s3_error.INTERNAL_ERROR, resource=address.resource)
        finally:
            if answer.started:
                self.parts.stats.request_done(answer.status, first_byte_s=answer.started_at - began)

    def _address(self, request: Request) -> BucketAddress:
        """Which bucket it means, and which object."""
        buckets = self._services.buckets
        if self._lookup_version != buckets.version:
            self._lookup = BucketLookup.of(self._settings.gateway.domains, buckets)
            self._lookup_version = buckets.version
        return self._lookup.find(request.client.host, request.raw_path)

    async def _route(
        self,
        request: Request,
        answer: Answer,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
    ) -> None:
        address = self._address(request)
        if self._s3.claims(request, address):
            await self._s3.serve(request, answer, address, receive)
            return
        if self._s3.is_form(request, address):
            await self._s3.form(request, answer, address, receive)
            return
        if request.method == "OPTIONS" and self._s3.is_preflight(request, address):
            await self._s3.preflight(request, answer, address)
            return
        if is_wire_request(request.method, address, scope["query_string"]):
            await self._rules_call(request, answer, address, scope, receive)
            return
        if request.method not in {"GET", "HEAD"}:
            await answer.error(
                s3_error.METHOD_NOT_ALLOWED,
                resource=address.resource,
                headers=[(b"allow", b"GET, HEAD"), (b"connection", b"close")],
            )
            return
        bucket = self._services.buckets.get(address.bucket)
        if bucket is None:
            await answer.error(s3_error.NO_SUCH_BUCKET, resource=address.resource)
            return
        try:
            path = client_path(address.object_path)
        except KeyRefused as error:
            await answer.error(_KEY_REFUSALS[error.code], resource=address.resource, message=f"{error}.")
            return
        refusal = (
            may_read(bucket, path.key, _signed(request, address), self._keys, time.time())
            if bucket.access == "signed" or is_reserved(path.key)
            else None
        )
        target = Target(
            bucket=address.bucket,
            key=path.key,
            leading_slashes=path.leading_slashes,
            bucket_settings=bucket,
        )
        if isinstance(refusal, Refusal):
            refused = s3_error.S3Error(status=refusal.status, code=refusal.code, message=refusal.message)
            await answer.error(refused, resource=target.resource)
            return
        await self._object(request, answer, target)

    async def _rules_call(
        self,
        request: Request,
        answer: Answer,
        address: BucketAddress,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
    ) -> None:
        try:
            async with asyncio.timeout(self._settings.gateway.client_stall_s):
                body = await read_body(receive, request.by_name.get("content-length", ""))
        except TimeoutError:
            await answer.error(
                s3_error.REQUEST_TIMEOUT, resource=address.resource, headers=[(b"connection", b"close")]
            )
            return
        peer, listener = scope.get("client"), scope.get("server")
        response = await wire_api(
            WireRequest(
                id=request.id,
                method=request.method,
                address=address,
                raw_path=request.raw_path,
                query=scope["query_string"],
                headers=request.headers,
                host=request.client.host,
                peer=str(peer[0]) if peer else "",
                listener=str(listener[0]) if listener else "",
                body=body,
            ),
            self._services,
        )
        headers = [*response.headers, (b"connection", b"close")] if body is None else [*response.headers]
        await answer.given(response.status, headers, response.body)

    async def _object(self, request: Request, answer: Answer, target: Target) -> None:
        """GET or HEAD of an object that the client may have."""
        ruleset = self._services.rules.snapshot(target.bucket)
        if ruleset is not None and request.store_status is None and needs_no_status(ruleset):
            rule = match(ruleset, target.facts(request, None))
            if rule is not None:
                await self._by_rule(request, answer, target, ruleset, rule, status=None, looked_at=0.0)
                return
        looked_at = asyncio.get_running_loop().time()
        status = request.store_status
        if status is not None or target.bucket_settings.hits == "off":
            # The gateway in front has asked, a little while ago.
            looked_at -= STALE_S
            status = status or 404
        else:
            status = await self._from_store(request, answer, target, ruleset)
            if status is None:
                return
        rule = match(ruleset, target.facts(request, status)) if ruleset is not None else None
        if rule is None:
            await self._no_rule(answer, target, status)
            return
        assert ruleset is not None
        await self._by_rule(request, answer, target, ruleset, rule, status=status, looked_at=looked_at)

    # ------------------------------------------------------------ for S3 clients

    async def answer_miss(
        self, request: Request, answer: Answer, bucket: str, key: str, *, status: int, looked_at: float
    ) -> bool:
        """Answer a read that the store could not; False when no rule wants it.

        S3 clients ask HEAD before they download, so a Mirror rule answers it whatever F40 says.
        """
        found = self._rule_for(request, bucket, key, status=status)
        if found is None:
            return False
        target, ruleset, rule = found
        await self._by_rule(request, answer, target, ruleset, rule, status=status, looked_at=looked_at)
        return True

    async def pull_source(self, request: Request, bucket: str, key: str) -> None:
        """Bring the source of a copy from its origin, where a Mirror rule has it and the store lacks it."""
        if self._rule_for(request, bucket, key, status=404) is None:
            return
        looked_at = asyncio.get_running_loop().time()
        if await self.parts.store.head(bucket, key) is not None:
            return
        found = self._rule_for(request, bucket, key, status=404)
        if found is None or found[2].type is not RuleType.MIRROR:
            return
        target, ruleset, rule = found
        await pull_whole(self.parts, request, target, ruleset, rule, looked_at=looked_at)

    def _rule_for(
        self, request: Request, bucket: str, key: str, *, status: int
    ) -> tuple[Target, RuleSet, Rule] | None:
        settings = self._settings.buckets.get(bucket)
        ruleset = self._services.rules.snapshot(bucket)
        if settings is None or ruleset is None or key.startswith("/"):
            return None
        target = Target(bucket=bucket, key=key, leading_slashes=0, bucket_settings=settings)
        facts = target.facts(request, status)
        rule = match(ruleset, facts)
        if rule is None and request.method != "GET":
            rule = match(ruleset, replace(facts, method="GET"))
            if rule is not None and rule.type is not RuleType.MIRROR:
                rule = None
        return None if rule is None else (target, ruleset, rule)

    async def _from_store(
        self, request: Request, answer: Answer, target: Target, ruleset: RuleSet | None
    ) -> int | None:
        """None when the store's object was sent, else the store's status."""
        proxied = ruleset is not None and _is_proxied(ruleset, request, target)
        limit_s = self._settings.gateway.proxy_lookup_s if proxied else self._settings.gateway.lookup_s
        # A store that is slow must not delay a redirect, nor anybody for ever; an answer that has begun is
        # left alone.
        try:
            async with asyncio.timeout(limit_s) as until_start:
                answer.until_start = until_start
                status = await serve_hit(self.parts, request, answer, target)
        except TimeoutError as error:
            self.parts.stats.answered("store_slow", target.bucket)
            if answer.started:
                raise Interrupted("the store began its answer in the moment it was given up") from error
            return 404 if proxied else 503
        finally:
            answer.until_start = None
        return 404 if proxied and status is not None and status >= 500 else status

    async def _no_rule(self, answer: Answer, target: Target, status: int) -> None:
        """What the store would have given (section 2.6)."""
        self.parts.stats.answered(f"status_{status}", target.bucket)
        error = _REFUSALS.get(status)
        if error is None and 400 <= status < 500:
            error = s3_error.S3Error(
                status=status, code="AccessDenied", message=f"The store answered {status}."
            )
        if error is not None:
            await answer.error(error, resource=target.resource)
            return
        await send_unavailable(answer, target)

    async def _by_rule(
        self,
        request: Request,
        answer: Answer,
        target: Target,
        ruleset: RuleSet,
        rule: Rule,
        *,
        status: int | None,
        looked_at: float,
    ) -> None:
        if "x-ferryman-hop" in request.by_name and went_through(request.headers, self.parts.installation):
            log.warning("loop_detected", bucket=target.bucket, rule=rule.name, **_ids(request))
            await answer.error(s3_error.LOOP_DETECTED, resource=target.resource)
            return
        facts = target.facts(request, status)
        proxied = rule.type is RuleType.PROXY
        try:
            fetch, item = plan(rule, ruleset, target.bucket, facts, kind="event" if proxied else "request")
        except PlanRefused:
            self.parts.stats.answered("dot_segment", target.bucket, rule.name)
            await answer.error(s3_error.NO_SUCH_KEY, resource=target.resource)
            return
        item = replace(item, request_id=request.trace_id)
        bind_contextvars(request_id=request.trace_id, bucket=target.bucket, rule=rule.name)
        if request.trace_id != request.id:
            bind_contextvars(answer_id=request.id)  # what the client reads in x-amz-request-id
        if rule.type is not RuleType.REDIRECT and self._services.rules.retired.is_dry(
            target.bucket, target.key
        ):
            self.parts.stats.answered("dry_retired", target.bucket, rule.name)
            await answer.error(s3_error.NO_SUCH_KEY, resource=target.resource)
            return
        miss = Miss(
            parts=self.parts,
            request=request,
            answer=answer,
            target=target,
            rule=rule,
            plan=fetch,
            item=item,
        )
        match rule.type:
            case RuleType.REDIRECT:
                await serve_redirect(miss)
            case RuleType.PROXY:
                await serve_proxy(miss)
            case RuleType.MIRROR if request.method == "HEAD":
                await serve_head_miss(miss)
            case RuleType.MIRROR:
                await serve_mirror(miss, looked_at=looked_at)
            case _:
                assert_never(rule.type)


def _ids(request: Request) -> dict[str, str]:
    """The client's own id, and where that is another one, ours, for a line before both are bound."""
    ids = {"request_id": request.trace_id}
    return ids if request.trace_id == request.id else ids | {"answer_id": request.id}


def _is_proxied(ruleset: RuleSet, request: Request, target: Target) -> bool:
    """Whether a miss would be answered by a Proxy rule."""
    if not any(rule.type is RuleType.PROXY for rule in ruleset.rules):
        return False
    rule = match(ruleset, target.facts(request, 404))
    return rule is not None and rule.type is RuleType.PROXY


def _signed(request: Request, address: BucketAddress) -> SignedRequest:
    return SignedRequest(
        method=request.method,
        raw_path=request.raw_path,
        query=request.query.encode("latin-1"),
        # What the client signed is the name it used, which a trusted proxy may have replaced.
        headers=tuple(
            (name, request.client.host if name == "host" else value) for name, value in request.headers
        ),
        bucket=address.bucket,
        object_path=address.object_path,
    )
