"""The object gateway: a raw ASGI application that answers from the store, or as the rules say.

Owns the way of a request: bucket, access, store, rule. What it is answered with is `hit`'s and `miss`'s. What
reaches this point is well-formed HTTP (`protocol`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import structlog

from scheduler.front.auth import SignedRequest
from scheduler.front.hit import serve_hit
from scheduler.front.http import s3_error
from scheduler.front.http.access import Refusal, TrustedProxies, may_read
from scheduler.front.http.answer import Answer, BodyLengthWrong, ClientLost, Interrupted
from scheduler.front.http.bucket_address import BucketLookup
from scheduler.front.http.request import read_request
from scheduler.front.http.target import Target
from scheduler.front.miss.answer import CutShort, send_unavailable
from scheduler.front.miss.by_rule import NOT_LOOKED, answer_by_rule
from scheduler.front.miss.ruled import Ruled
from scheduler.front.miss.source import pull_whole
from scheduler.front.parts import Parts
from scheduler.front.pull.herd import STALE_S
from scheduler.front.pull.pump import FRESH_S
from scheduler.front.pull.spool import BodyFailed
from scheduler.front.rules_api.call import WireRequest, is_wire_request, keyring_of, read_body
from scheduler.front.rules_api.vendor_xml import wire_api
from scheduler.front.s3.front import S3Front
from scheduler.rules.keys import KeyRefused, client_path, is_reserved
from scheduler.rules.matching import has_proxy, match, needs_no_status
from scheduler.rules.model import RuleType
from workers.deadlines import Deadlines, Wait
from workers.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from scheduler.front.http.bucket_address import BucketAddress
    from scheduler.front.http.request import Request
    from scheduler.rules.model import RuleSet
    from scheduler.runtime import Services

log = structlog.get_logger()

#: What a store's refusal is called when no rule wants the status.
_REFUSALS = {403: s3_error.ACCESS_DENIED, 404: s3_error.NO_SUCH_KEY}
_KEY_REFUSALS = {"InvalidURI": s3_error.INVALID_URI, "KeyTooLongError": s3_error.KEY_TOO_LONG}


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
        #: Of look-ups.
        self._deadlines = Deadlines()
        self.parts = Parts.of(services)

    async def __aenter__(self) -> Self:
        self.parts.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._deadlines.close()
        await self.parts.close(self._settings.limits.drain_s)

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
            log.debug("client_lost", **request.log_ids(), how=type(lost).__name__, sent=answer.bytes_sent)
            answer.cut()
        except (BodyFailed, StoreError, Interrupted, BodyLengthWrong, CutShort) as error:
            # The source failed behind the status line: cutting is all that is left (A12).
            self.parts.stats.answered("cut", "")
            log.info("answer_cut", **request.log_ids(), sent=answer.bytes_sent, error=str(error))
            answer.cut()
        except Exception:
            log.exception("request_failed", **request.log_ids())
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
            facts = target.facts(request, None)
            rule = match(ruleset, facts)
            if rule is not None:
                ruled = Ruled(target, ruleset, rule, facts)
                await answer_by_rule(self.parts, request, answer, ruled, NOT_LOOKED)
                return
        looked_at = asyncio.get_running_loop().time()
        status = request.store_status
        if status is not None:
            # The gateway in front has asked, a little while ago.
            looked_at -= STALE_S
        elif target.bucket_settings.hits == "off":
            # It has, and does not say when: a pull looks for itself.
            looked_at -= STALE_S + FRESH_S
            status = 404
        else:
            status = await self._from_store(request, answer, target, ruleset)
            if status is None:
                return
        if ruleset is not None:
            facts = target.facts(request, status)
            rule = match(ruleset, facts)
            if rule is not None:
                ruled = Ruled(target, ruleset, rule, facts)
                await answer_by_rule(self.parts, request, answer, ruled, looked_at)
                return
        await self._no_rule(answer, target, status)

    # ------------------------------------------------------------ for S3 clients

    async def answer_miss(
        self, request: Request, answer: Answer, bucket: str, key: str, *, status: int, looked_at: float
    ) -> bool:
        """Answer a read that the store could not; False when no rule wants it.

        S3 clients ask HEAD before they download, so a Mirror rule answers it whatever F40 says.
        """
        ruled = self._rule_for(request, bucket, key, status=status)
        if ruled is None:
            return False
        await answer_by_rule(self.parts, request, answer, ruled, looked_at)
        return True

    async def pull_source(self, request: Request, bucket: str, key: str) -> None:
        """Bring the source of a copy from its origin, where a Mirror rule has it and the store lacks it."""
        if self._rule_for(request, bucket, key, status=404) is None:
            return
        looked_at = asyncio.get_running_loop().time()
        if await self.parts.store.head(bucket, key) is not None:
            return
        ruled = self._rule_for(request, bucket, key, status=404)
        if ruled is None or ruled.rule.type is not RuleType.MIRROR:
            return
        await pull_whole(self.parts, request, ruled, looked_at=looked_at)

    def _rule_for(self, request: Request, bucket: str, key: str, *, status: int) -> Ruled | None:
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
        return None if rule is None else Ruled(target, ruleset, rule, facts)

    async def _from_store(
        self, request: Request, answer: Answer, target: Target, ruleset: RuleSet | None
    ) -> int | None:
        """None when the store's object was sent, else the store's status."""
        proxied = ruleset is not None and _is_proxied(ruleset, request, target)
        limit_s = self._settings.gateway.proxy_lookup_s if proxied else self._settings.gateway.lookup_s
        # A store that is slow must not delay a redirect, nor anybody for ever; an answer that has begun is
        # left alone.
        loop = asyncio.get_running_loop()
        wait = Wait(loop.time() + limit_s, loop)
        self._deadlines.add(wait, loop)
        answer.until_start = partial(self._deadlines.remove, wait)
        try:
            status = await serve_hit(self.parts, request, answer, target)
        except asyncio.CancelledError as error:
            if not wait.timed_out():
                raise
            self.parts.stats.answered("store_slow", target.bucket)
            if answer.started:
                raise Interrupted("the store began its answer in the moment it was given up") from error
            return 404 if proxied else 503
        finally:
            self._deadlines.remove(wait)
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


def _is_proxied(ruleset: RuleSet, request: Request, target: Target) -> bool:
    """Whether a miss would be answered by a Proxy rule."""
    if not has_proxy(ruleset):
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
