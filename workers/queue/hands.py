"""The hands of a process: so many items are worked off at the same time, of whichever batches.

Owns the tasks that do it. An item gets no task of its own: a hand takes the next one as soon as it is free,
in the order in which they came, and ends when there is none. Knows neither Redis nor what an item is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

J = TypeVar("J")
R = TypeVar("R")

#: Seconds after which what was cancelled and is still there is cancelled again.
_AGAIN_S = 0.2


class Share(Generic[J, R]):
    """The jobs of one batch, and what came of those that are done; made by `Hands.work_off`."""

    def __init__(
        self, jobs: Iterable[J], do: Callable[[J], Awaitable[R]], begin: Callable[[], object]
    ) -> None:
        #: Called by a hand that goes on with this share after another one.
        self.begin = begin
        #: Nobody has begun with these.
        self.jobs = deque(jobs)
        #: How many are being done.
        self.running = 0
        self._do = do
        self._done: list[tuple[J, R]] = []
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def pending(self) -> bool:
        """Whether some are not done, or `done` has not told yet what came of them."""
        return bool(self._undone or self._done or self._error is not None)

    @property
    def _undone(self) -> bool:
        return bool(self.jobs or self.running)

    async def work(self, job: J) -> None:
        """Do one job, in the task of a hand."""
        self.running += 1
        try:
            result = await self._do(job)
        except BaseException as error:  # noqa: BLE001 -- for whoever waits for the share
            self._error = error
        else:
            self._done.append((job, result))
        self.running -= 1
        if self._waiter is not None and (self._error is not None or not self._undone):
            self._wake()

    async def done(self, timeout_s: float) -> list[tuple[J, R]]:
        """What was done since the last call: once all of it is, or after `timeout_s` seconds.

        Raises what a job raised.
        """
        if self._undone and self._error is None:
            await self.wait(timeout_s)
        if self._error is not None:
            raise self._error
        found, self._done = self._done, []
        return found

    def forget(self) -> None:
        """Nobody wants to be told any more."""
        self._done, self._error = [], None

    async def wait(self, timeout_s: float) -> None:
        """Wait until nothing is pending, or a job raised, or for so many seconds."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(timeout_s, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Hands:
    """At most `limit` jobs at once; all methods belong to one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        #: Shares of which some jobs were not begun.
        self._line: deque[Share[Any, Any]] = deque()
        #: Every hand, and the share of what it does just now.
        self._hands: dict[asyncio.Task[None], Share[Any, Any] | None] = {}

    def work_off(
        self, jobs: Iterable[J], do: Callable[[J], Awaitable[R]], *, begin: Callable[[], object]
    ) -> Share[J, R]:
        """Begin with these jobs once all that came before them have been begun."""
        share: Share[J, R] = Share(jobs, do, begin)
        if share.jobs:
            self._line.append(share)
            for _ in range(min(len(share.jobs), self._limit - len(self._hands))):
                self._hands[asyncio.create_task(self._hand())] = None
        return share

    def interrupt(self, share: Share[Any, Any] | None = None) -> None:
        """Cancel what is being done, of this share or of all; the hands go on with what is left."""
        for task, doing in self._hands.items():
            if doing is not None and (share is None or doing is share):
                task.cancel()

    async def withdraw(self, share: Share[Any, Any]) -> None:
        """Begin none of the rest, cancel what is being done, wait until that has ended, and forget it."""
        if share.jobs:
            self._line.remove(share)
            share.jobs.clear()
        while share.running:
            self.interrupt(share)
            await share.wait(_AGAIN_S)
        share.forget()

    async def _hand(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        last: Share[Any, Any] | None = None
        try:
            while self._line:
                share = self._line[0]
                job = share.jobs.popleft()
                if not share.jobs:
                    self._line.popleft()
                if share is not last:
                    last = share
                    share.begin()
                self._hands[task] = share
                await share.work(job)
                self._hands[task] = None
                if task.cancelling():
                    task.uncancel()  # what it did was cancelled, not the hand
        finally:
            del self._hands[task]
