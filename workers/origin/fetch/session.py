"""One fetch as it goes: candidates, failing over, and the bytes of one complete answer or an error.

Owns SEMANTICS.md B2 to B6 and the origin's side of section 5.1. Knows health and budgets only through
`OriginControl`, connections only through `OriginClient`, and nothing of stores and queues. The slot of a
budget is held while bytes flow and given back whatever happens.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

from workers.answers import MAX_ERROR_BODY_BYTES, Absent, OriginAnswer, PassedRedirect
from workers.errors import OriginError, OriginLoop, OriginMalformed, OriginTimeout
from workers.origin.fetch.failover import (
    ContentRange,
    Verdict,
    is_redirect,
    judge,
    parse_content_range,
    status_error,
)
from workers.origin.fetch.fetched import Fetched
from workers.origin.fetch.held_slot import HeldSlot
from workers.origin.fetch.stream import BodyStream
from workers.origin.fetch.way import Way
from workers.origin.integrity.promise import Promise
from workers.origin.wire.body import framing_of
from workers.origin.wire.redirects import Hops
from workers.plan import origin_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from workers.answers import Attempt
    from workers.origin.fetch.shared import SharedByFetches
    from workers.origin.integrity.soft404 import Fingerprint
    from workers.origin.wire.body import Framing
    from workers.origin.wire.response import Answer
    from workers.plan import FetchItem, FetchPlan, Lane, Origin


#: Seconds to the first byte over all candidates, waiting for budget apart (L10).
FIRST_BYTE_TOTAL_S = 30.0


class FetchSession:
    """One fetch; asks each candidate at most once. `async with`; leaving frees connection and slot."""

    def __init__(
        self,
        fetcher: SharedByFetches,
        plan: FetchPlan,
        item: FetchItem,
        *,
        lane: Lane,
        method: str,
        range_header: str | None,
        keep_error_body: bool,
        budget_timeout_s: float,
    ) -> None:
        self._fetcher = fetcher
        self._control = fetcher.control
        self._clock = fetcher.clock
        self._plan = plan
        self._item = item
        self._method = method
        self._range = range_header
        self._keep_error_body = keep_error_body
        self._guards = plan.store.soft_404 == "learn" and method == "GET" and range_header is None
        self._left: list[Origin] | None = None
        self._way = Way()
        self._stream: BodyStream | None = None
        self._promise: Promise | None = None
        self._slot = HeldSlot(fetcher.control, lane, timeout_s=budget_timeout_s, clock=fetcher.clock)
        #: Seconds until heads of answers came, waiting for budget apart.
        self._opening_s = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._release()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The way taken: candidates asked so far, in order."""
        return tuple(self._way.attempts)

    async def open(self) -> Fetched | Absent | PassedRedirect:
        """Ask the next unused candidate, and so on until one answers well (B2 to B5).

        Raises:
            OriginsExhausted: no candidate is left, or the last answer ends the fetch; `last` says why.
            OriginLoop: the origin leads back to this installation.
            BudgetExhausted: no slot came free in time.
        """
        self._release()
        if self._left is None:
            self._left = self._control.candidates(self._plan, self._item)[::-1]
        while self._left:
            origin = self._left.pop()
            started, budget_before = self._clock(), self._slot.waited_s
            try:
                result = await self._ask(origin)
            except OriginError as error:
                self._release()
                took_s = self._clock() - started - (self._slot.waited_s - budget_before)
                self._opening_s += took_s
                self._failed(origin, error, took_s)
                if isinstance(error, OriginLoop):
                    raise
                if error.status is not None and self._ends_asynchronously(error.status):
                    raise self._way.exhausted() from error
                if not self._switches(error):
                    break
                continue
            except BaseException:
                self._release()
                raise
            if result is not None:
                return result
            self._opening_s += self._clock() - started - (self._slot.waited_s - budget_before)
        if self._way.all_say_absent():
            return Absent(attempts=self.attempts, answer=self._way.answer)
        raise self._way.exhausted()

    def discard(self, error: OriginError) -> None:
        """The caller cannot use the latest answer; says why, should no other candidate have a better one."""
        self._way.broke(error)

    # ------------------------------------------------------------ one candidate

    async def _ask(self, origin: Origin) -> Fetched | PassedRedirect | None:
        """A success, a redirect to pass on, or None after a 404."""
        plan, clock = self._plan, self._clock
        timeouts = plan.timeouts
        total_s = max(FIRST_BYTE_TOTAL_S, timeouts.connect_s + timeouts.first_byte_s)
        if self._opening_s >= total_s:
            raise OriginTimeout(f"{origin.host}: no time left to ask", origin=origin.host, phase="total")
        page = await self._learn(origin) if self._guards else None
        await self._slot.take(origin.host)
        url = origin_url(origin, self._item)
        started, budget_before = clock(), self._slot.waited_s
        try:
            answer = await self._fetcher.client.ask(
                plan,
                origin,
                url,
                method=self._method,
                extra=() if self._range is None else (("Range", self._range),),
                first_byte_s=total_s - self._opening_s,
                hops=Hops(
                    before=self._slot.take, stop_at=plan.async_status if self._keep_error_body else None
                ),
            )
        except OriginMalformed:
            if self._method != "HEAD":
                raise
            # Some send a body after the head, which then looks like a second answer.
            answer = await self._head_by_get(origin, url)
        try:
            if self._method == "HEAD" and answer.status in {405, 501}:
                await answer.drain()
                answer = await self._head_by_get(origin, url)
            took_s = clock() - started - (self._slot.waited_s - budget_before)
            return await self._judge(origin, url, answer, took_s, page)
        except BaseException:
            answer.close()
            raise

    async def _judge(
        self, origin: Origin, url: str, answer: Answer, took_s: float, page: Fingerprint | None
    ) -> Fetched | PassedRedirect | None:
        plan = self._plan
        part = parse_content_range(answer.header("content-range")) if answer.status in {200, 206} else None
        ranged = self._range is not None or self._method == "HEAD"
        verdict = judge(answer.status, plan, part=part, range_asked=ranged)
        if self._ends_asynchronously(answer.status):
            verdict = Verdict.FINAL
        if self._method == "HEAD" and _is_empty(answer):
            verdict = Verdict.SUCCESS
        if verdict is Verdict.SWITCH and not self._left and is_redirect(answer.status, plan):
            verdict = Verdict.REDIRECT  # the last candidate's is passed on (A8)
        if verdict is Verdict.SUCCESS:
            return await self._success(origin, url, answer, part, took_s, page)
        if verdict is Verdict.REDIRECT:
            self._answered(origin, answer.status, took_s)
            await answer.drain()
            self._release()
            return PassedRedirect(
                status=answer.status, location=answer.header("location"), headers=answer.headers
            )
        await self._keep_answer(answer)
        error = status_error(answer.status, origin.host, retry_after=answer.header("retry-after"))
        if answer.status != 404 or verdict is Verdict.FINAL:
            raise error
        self._answered(origin, 404, took_s)
        self._way.last = error
        self._release()
        if verdict is Verdict.ABSENT:
            self._left = []
        return None

    async def _success(
        self,
        origin: Origin,
        url: str,
        answer: Answer,
        part: ContentRange | None,
        took_s: float,
        page: Fingerprint | None,
    ) -> Fetched:
        plan, item, host = self._plan, self._item, origin.host
        framing, length = framing_of(answer, method=self._method, origin=host)
        if part is not None and length is None:
            length = part.last + 1 - part.first  # a chunked part must still be all of it
        if self._method == "HEAD":
            answer.close()
            if answer.status == 416:
                # An empty object has no first byte.
                length = 0
            self._answered(origin, answer.status, took_s)
            self._release()
            return self._fetched(200, answer, part.total if part else length, framing, host, url, _nothing)

        async def ask_again(where: str, headers: Sequence[tuple[str, str]]) -> Answer:
            return await self._fetcher.client.ask(
                plan, origin, where, extra=headers, hops=Hops(follow=False, start_url=url)
            )

        stream = self._stream = BodyStream(
            answer,
            origin=host,
            length=length,
            framing=framing,
            timeouts=plan.timeouts,
            clock=self._clock,
            ask_again=ask_again,
        )
        if part is not None and length is not None and length != part.last + 1 - part.first:
            raise status_error(answer.status, host, retry_after=None)
        ranged = self._range is not None and answer.status == 206
        self._promise = None
        digests = False
        if not ranged:
            promise = Promise(answer.headers, item, host=host, trust_etag=plan.store.trust_etag_md5)
            if length is not None:
                promise.check_size(length)
            self._promise, digests = promise, promise.digests_offered
            if self._guards:
                await self._fetcher.error_pages.check(stream, item.path, page)
        self._way.answered(host, answer.status, took_s)
        read = partial(self._read, stream, self._promise)
        return self._fetched(
            206 if ranged else 200, answer, length, framing, host, url, read, digests=digests
        )

    def _fetched(
        self,
        status: int,
        answer: Answer,
        length: int | None,
        framing: Framing,
        host: str,
        url: str,
        read: Callable[[Fetched], Awaitable[bytes]],
        *,
        digests: bool = False,
    ) -> Fetched:
        return Fetched(
            status=status,
            headers=answer.headers,
            length=length,
            framing=framing,
            content_range=answer.header("content-range") if status == 206 else None,
            origin=host,
            url=url,
            digests_offered=digests,
            _read=read,
        )

    async def _head_by_get(self, origin: Origin, url: str) -> Answer:
        """Ask for one byte where HEAD is not allowed, or not understood (A36)."""
        return await self._fetcher.client.ask(
            self._plan, origin, url, extra=(("Range", "bytes=0-0"),), hops=Hops(before=self._slot.take)
        )

    async def _learn(self, origin: Origin) -> Fingerprint | None:
        async def ask(path: str) -> Answer:
            await self._slot.take(origin.host)
            url = origin_url(origin, replace(self._item, path=path, query=""))
            return await self._fetcher.client.ask(self._plan, origin, url, hops=Hops(before=self._slot.take))

        return await self._fetcher.error_pages.learn(f"{origin.host}{origin.base_path}", self._item.path, ask)

    def _release(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        self._slot.release()

    # ------------------------------------------------------------ answers

    def _answered(self, origin: Origin, status: int, took_s: float) -> None:
        self._control.succeeded(origin.host, took_s, status=status)
        self._way.answered(origin.host, status, took_s)

    def _failed(self, origin: Origin, error: OriginError, took_s: float) -> None:
        self._way.failed(origin.host, error, took_s)
        if not isinstance(error, OriginLoop):
            self._control.failed(origin.host, error)

    def _switches(self, error: OriginError) -> bool:
        if error.status is None:
            return error.switch
        return judge(error.status, self._plan, part=None, range_asked=False) is Verdict.SWITCH

    def _ends_asynchronously(self, status: int) -> bool:
        return self._keep_error_body and status == self._plan.async_status and status != 200

    async def _keep_answer(self, answer: Answer) -> None:
        """Remember what a candidate said; its body only when it was asked for."""
        body, cut = b"", False
        if self._keep_error_body and self._method == "GET":
            body, cut = await answer.beginning(MAX_ERROR_BODY_BYTES)
        else:
            await answer.drain()
        self._way.answer = OriginAnswer(status=answer.status, headers=answer.headers, body=body, cut=cut)

    # ------------------------------------------------------------ bytes

    async def _read(self, stream: BodyStream, promise: Promise | None, fetched: Fetched) -> bytes:
        """The next bytes of a body; what was promised of it is looked at behind the last of them."""
        try:
            chunk = await stream.read()
            if chunk:
                if promise is not None and promise.verifier is not None:
                    promise.verifier.update(chunk)
                slot = self._slot.slot
                if slot is not None:
                    await slot.pace(len(chunk))
                return chunk
            if self._stream is not stream:
                return b""  # its end was told before
            if promise is not None:
                promise.finish(stream.got)
        except OriginError as error:
            self._way.broke(error)
            self._control.failed(fetched.origin, error)
            self._done_with(stream)
            raise
        except BaseException:
            self._done_with(stream)
            raise
        self._control.succeeded(fetched.origin, self._way.attempts[-1].duration_s)
        self._release()
        return b""

    def _done_with(self, stream: BodyStream) -> None:
        if self._stream is stream:
            self._release()


async def _nothing(_: Fetched) -> bytes:
    """The body of an answer to HEAD."""
    return b""


def _is_empty(answer: Answer) -> bool:
    """Whether one byte was asked of an object that has none."""
    where = answer.header("content-range") or ""
    return answer.status == 416 and where.replace(" ", "") == "bytes*/0"
