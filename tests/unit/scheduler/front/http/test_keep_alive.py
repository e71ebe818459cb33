"""A connection waits for its next request from its last answer on, with one timer however many answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from scheduler.front.http.protocol import StrictProtocol

KEEP_S = 75


class Clock:
    """A loop that only has a clock and timers."""

    def __init__(self) -> None:
        self.now = 1000.0
        #: (when, what) of the timers that were set and have not rung.
        self.timers: list[tuple[float, Any]] = []
        self.made = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, call: Any) -> Any:
        self.made += 1
        timer = (self.now + delay_s, call)
        self.timers.append(timer)
        return SimpleNamespace(cancel=lambda: self.timers.remove(timer))

    def go_to(self, at: float) -> None:
        """Let the time pass, and timers ring."""
        while due := [timer for timer in self.timers if timer[0] <= at]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now = first[0]
            first[1]()
        self.now = at


class Transport:
    closed = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def _app(_scope: Any, _receive: Any, _send: Any) -> None:
    """Never asked."""


@pytest.fixture
def connection():
    clock = Clock()
    config = uvicorn.Config(_app, timeout_keep_alive=KEEP_S, log_config=None, lifespan="off")
    config.load()
    made = StrictProtocol(config, ServerState(), {}, clock)
    made.transport, made.flow = Transport(), SimpleNamespace(resume_reading=lambda: None)
    made.parser = SimpleNamespace(feed_data=lambda _: None)
    made.clock = clock
    return made


def asked(connection: Any) -> None:
    """A request comes, whole."""
    connection.data_received(b"x")
    connection._disarm_head_timer()
    connection._in_head = False


def answered(connection: Any) -> None:
    connection.on_response_complete()
    connection._in_head, connection._head_bytes = True, 0


def test_a_connection_that_asks_no_more_is_closed_so_long_after_its_last_answer(connection):
    clock = connection.clock
    answered(connection)
    clock.go_to(1040)
    asked(connection)
    clock.go_to(1050)
    answered(connection)
    clock.go_to(1050 + KEEP_S - 1)
    assert not connection.transport.closed
    clock.go_to(1050 + KEEP_S)
    assert connection.transport.closed


def test_a_connection_is_not_closed_while_it_is_answered_however_long_that_takes(connection):
    clock = connection.clock
    answered(connection)
    asked(connection)
    clock.go_to(1000 + 10 * KEEP_S)
    assert not connection.transport.closed
    answered(connection)
    clock.go_to(1000 + 11 * KEEP_S)
    assert connection.transport.closed


def test_many_answers_cost_one_timer(connection):
    clock = connection.clock
    for second in range(1000, 1000 + KEEP_S):
        clock.go_to(second)
        asked(connection)
        answered(connection)
    # One for the head of each request is set as well, and taken back.
    assert sum(1 for _, call in clock.timers if call == connection._next_late) == 1
    assert connection.server_state.total_requests == KEEP_S


def test_a_connection_that_ends_takes_its_timer_along(connection):
    answered(connection)
    connection.flow.resume_writing = lambda: None
    connection.connection_lost(None)
    assert connection.clock.timers == []
