"""An event loop without a world: it has a clock of its own, and processes that it may freeze and kill.

Owns time and order. What one process has to do is done in the order in which asyncio would do it; which
process does its next step is drawn by the seed. When nobody has anything to do the clock jumps to the next
timer. There are no sockets, no threads and no waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import sys
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import random

#: The process whose code runs; empty for the suite itself and for servers, which nobody kills.
PROCESS: Final[ContextVar[str]] = ContextVar("process", default="")


class NothingLeft(AssertionError):
    """Everybody waits for something that will never happen."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """The loop of one schedule."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self._now = 0.0
        #: By process, what it can do now.
        self._todo: dict[str, deque[asyncio.Handle]] = {}
        self.frozen: set[str] = set()
        self._dead: set[str] = set()
        #: What is to be woken or called, by moment and by the order in which it was set.
        self._timers: list[tuple[float, int, asyncio.TimerHandle | asyncio.Future[None]]] = []
        self._number = 0
        #: How many steps were made.
        self.steps = 0
        self._over = False
        self.set_task_factory(self._in_its_process)
        self.set_exception_handler(lambda *_: None)  # of tasks whose process was killed before it asked
        #: Held, because nothing of a killed process may be cleaned up before the end.
        self._tasks: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        """Seconds since the schedule began."""
        return self._now

    def kill(self, process: str) -> None:
        """As `kill -9`: nothing of it runs any more, no `finally` either."""
        self._dead.add(process)
        self._todo.pop(process, None)
        self.frozen.discard(process)

    def _in_its_process(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, *, context: Any = None, name: str | None = None
    ) -> asyncio.Task[Any]:
        if context is not None:  # one that was made anew is still one of this process
            context.run(PROCESS.set, PROCESS.get())
        task = asyncio.Task(coroutine, loop=loop, name=name, context=context)
        task._log_destroy_pending = False  # what was killed never ends
        self._tasks.append(task)
        return task

    def end(self) -> None:
        """Take what is left apart; what it does about that has no effect."""
        self._over = True
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            for task in self._tasks:
                with contextlib.suppress(BaseException):
                    task.get_coro().close()  # type: ignore[union-attr]
            for left in (self._tasks, self._todo, self._timers, self._ready):
                left.clear()
            self.close()
            gc.collect()
        finally:
            sys.unraisablehook = hook

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        """As asyncio's; nothing more when it is over."""
        handle = asyncio.Handle(callback, args, self, context)
        if not self._over:
            self._ready.append(handle)
        return handle

    # What BaseEventLoop leaves to those that have sockets.
    def _process_events(self, event_list: Any) -> None:
        raise AssertionError(f"a loop without sockets has no events: {event_list}")

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""

    async def pause(self, delay: float, result: Any = None) -> Any:
        """`asyncio.sleep`, in half as many steps: what wakes up is the task, not a handle that wakes it."""
        future = self.create_future()
        self._push(self._now + max(0.0, delay), future)
        await future
        return result

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        """As asyncio's; timers of the same moment come in the order in which they were set."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if not self._over:
            self._push(when, timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its moment comes."""

    def _push(self, when: float, due: asyncio.TimerHandle | asyncio.Future[None]) -> None:
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, due))

    def _run_once(self) -> None:
        todo, frozen, chance = self._todo, self.frozen, self._chance
        while not self._stopping:
            if self._ready:
                self._take_in()
            while not todo or (frozen and frozen.issuperset(todo)):
                self._next_moment()
            names = [name for name in todo if name not in frozen] if frozen else list(todo)
            name = names[int(chance.random() * len(names))] if len(names) > 1 else names[0]
            line = todo[name]
            handle = line.popleft()
            if not line:
                del todo[name]
            if not handle._cancelled:
                self.steps += 1
                handle._run()

    def _next_moment(self) -> None:
        timers, ready = self._timers, self._ready
        if not timers:
            raise NothingLeft("no timer is set, and nothing is to be done")
        now = self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= now:
            _, _, due = heapq.heappop(timers)
            if isinstance(due, asyncio.TimerHandle):
                if not due._cancelled:
                    ready.append(due)
            elif not due.done():
                due.set_result(None)
        self._take_in()

    def _take_in(self) -> None:
        ready, todo, dead = self._ready, self._todo, self._dead
        while ready:
            handle = ready.popleft()
            name = handle._context.get(PROCESS, "")
            if name not in dead:
                line = todo.get(name)
                if line is None:
                    todo[name] = line = deque()
                line.append(handle)
