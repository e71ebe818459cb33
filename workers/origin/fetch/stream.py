"""The bytes of one answer: read, counted, continued where they break, and judged at their end.

Owns the body from the head to the last byte: idle and total deadlines (L9, L10), resuming by Range (B6), and
the difference between an end and a break (A2, A3, A12, P1, P7). Knows neither candidates nor budgets; asking
again is a callable.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from workers.errors import OriginError, OriginMalformed, OriginTimeout, OriginTruncated
from workers.origin.fetch.resume import resumption
from workers.origin.wire.body import BODY_ERRORS, body_error, framing_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from workers.origin.fetch.resume import Resumption
    from workers.origin.wire.body import Framing
    from workers.origin.wire.response import Answer
    from workers.plan import Timeouts

log = structlog.get_logger()

#: Seconds a job may wait for its origin, plus one for each MiB (L10).
JOB_S = 600.0
BYTES_PER_S = 1024 * 1024
#: Times in a row that a body is continued without a single new byte, and times altogether.
MAX_FRUITLESS = 2
MAX_RESUMES = 20
#: Pause in seconds before each continuation that follows a fruitless one.
RESUME_PAUSE_S = 0.25


class BodyStream:
    """One body. `ask_again(url, headers)` repeats the request with other headers and without redirects."""

    __slots__ = (
        "_ahead",
        "_ask_again",
        "_clock",
        "_ended",
        "_fruitless",
        "_got_before",
        "_resumes",
        "_resumption",
        "_timeouts",
        "_waited_s",
        "answer",
        "framing",
        "got",
        "length",
        "origin",
    )

    def __init__(
        self,
        answer: Answer,
        *,
        origin: str,
        length: int | None,
        framing: Framing,
        timeouts: Timeouts,
        clock: Callable[[], float],
        ask_again: Callable[[str, Sequence[tuple[str, str]]], Awaitable[Answer]],
    ) -> None:
        self.answer = answer
        self.origin = origin
        self.length = length
        self.framing = framing
        #: Bytes that were handed out, or read ahead.
        self.got = 0
        self._timeouts = timeouts
        self._clock = clock
        self._ask_again = ask_again
        self._ahead = b""
        self._ended = False
        #: Seconds spent waiting for the origin; a slow consumer does not count.
        self._waited_s = 0.0
        self._resumption: Resumption | None = None
        self._resumes = self._fruitless = self._got_before = 0

    def close(self) -> None:
        """End the connection, unless the body was read to its end: then it is in the pool already."""
        if not self._ended:
            self.answer.close()

    async def read(self) -> bytes:
        """The next bytes; empty at an end that was checked.

        Raises:
            OriginTruncated, OriginTimeout: it broke and could not be continued.
            OriginMalformed: more bytes came than were promised.
        """
        if self._ahead:
            chunk, self._ahead = self._ahead, b""
            return chunk
        if self._ended:
            return b""
        started = self._clock()
        try:
            chunk = await self.answer.read()
        except BODY_ERRORS as error:
            chunk = await self._mend(error)
        self._waited_s += self._clock() - started
        if not chunk:
            chunk = await self._end()
        self.got += len(chunk)
        if self.length is not None and self.got >= self.length:
            if self.got > self.length:
                raise OriginMalformed(
                    f"{self.origin}: more than the {self.length} bytes that were promised", origin=self.origin
                )
            self._ended = self.framing == "length"
        if self._waited_s >= JOB_S or self._timeouts.total_s is not None:
            self._check_deadline()
        return chunk

    async def look(self, n_bytes: int) -> bytes:
        """The beginning of the body, at least `n_bytes` or all of it; it is read again afterwards."""
        pieces = []
        size = 0
        while size < n_bytes and (chunk := await self.read()):
            pieces.append(chunk)
            size += len(chunk)
        self._ahead = b"".join(pieces)
        return self._ahead

    async def _end(self) -> bytes:
        if self.length is not None:
            if self.got != self.length:
                return await self._mend(self._truncated())
        elif self.framing == "close" and self.answer.was_reset:
            raise self._truncated()
        self._ended = True
        return b""

    def _truncated(self) -> OriginTruncated:
        how = "bytes, by a reset" if self.length is None else f"of {self.length} bytes"
        return OriginTruncated(
            f"{self.origin}: the body ended after {self.got} {how}",
            origin=self.origin,
            got=self.got,
            expected=self.length,
        )

    async def _mend(self, broken: BaseException) -> bytes:
        """Continue a broken body (B6); returns its next bytes.

        Raises:
            OriginTruncated, OriginTimeout: it cannot be continued.
        """
        while True:
            error = self._translated(broken)
            if not self._may_resume():
                raise error from broken
            if self._fruitless > 1:
                await asyncio.sleep(RESUME_PAUSE_S * (self._fruitless - 1))
            if not await self._resumed(error):
                raise error from broken
            try:
                chunk = await self.answer.read()
            except BODY_ERRORS as again:
                broken = again
                continue
            if chunk:
                return chunk
            broken = self._truncated()

    def _translated(self, broken: BaseException) -> OriginError:
        if isinstance(broken, OriginError):
            return broken
        return body_error(
            broken, origin=self.origin, got=self.got, expected=self.length, idle_s=self._timeouts.idle_s
        )

    def _may_resume(self) -> bool:
        if self._resumes == 0:
            self._resumption = resumption(self.answer.status, self.answer.headers, self.length)
        self._fruitless = self._fruitless + 1 if self.got == self._got_before and self._resumes else 0
        self._got_before = self.got
        return (
            self._resumption is not None
            and self.got < (self.length or 0)
            and self._fruitless <= MAX_FRUITLESS
            and self._resumes < MAX_RESUMES
        )

    async def _resumed(self, error: OriginError) -> bool:
        plan = self._resumption
        assert plan is not None
        self._resumes += 1
        self.answer.close()
        answer = None
        try:
            answer = await self._ask_again(self.answer.url, plan.request(self.got))
            framing, _ = framing_of(answer, method="GET", origin=self.origin)
        except OriginError as again:
            if answer is not None:
                answer.close()
            log.info("origin_not_resumed", origin=self.origin, got=self.got, reason=again.reason)
            return False
        if not plan.continues(answer.status, answer.headers, self.got):
            answer.close()
            log.info("origin_not_resumed", origin=self.origin, got=self.got, status=answer.status)
            return False
        log.info("origin_resumed", origin=self.origin, got=self.got, of=self.length, reason=error.reason)
        self.answer, self.framing = answer, framing
        return True

    def _check_deadline(self) -> None:
        limit_s = self._timeouts.total_s
        if limit_s is None:
            limit_s = JOB_S + max(self.length or 0, self.got) / BYTES_PER_S
        if self._waited_s > limit_s:
            raise OriginTimeout(
                f"{self.origin}: only {self.got} bytes in {limit_s:.0f} s", origin=self.origin, phase="total"
            )
