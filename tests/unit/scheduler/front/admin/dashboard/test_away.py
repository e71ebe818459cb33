"""With Redis away a room says so, and shows what it knew last, with its time."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as RedisAway
from starlette.requests import Request

from scheduler.front.admin.dashboard.board import Reading
from scheduler.front.admin.dashboard.glance import glance
from scheduler.front.admin.dashboard.pages import render
from scheduler.front.admin.dashboard.room import LastKnown, Room
from scheduler.front.admin.guard import Visitor
from scheduler.status import Status
from workers.errors import BrokerUnavailable


class Board:
    async def read(self):
        status = Status(at=1_795_238_532.0)
        return Reading(status=status, glance=glance(status, [], []))


def room_that(answers, nothing):
    """The room of logs, whose reading gives these, or raises them, one after another."""

    async def more(services, request):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Room(path="/logs", name="Logs", template="logs.html", more=more, nothing=nothing)


async def drawn(room, known, query=b""):
    request = Request(
        {"type": "http", "method": "GET", "path": "/logs", "query_string": query, "headers": [],
         "ferryman.visitor": Visitor(name="viewer")}
    )  # fmt: skip
    return await render(room, SimpleNamespace(), Board(), request, known=known)


@pytest.mark.parametrize("error", [RedisAway("refused"), BrokerUnavailable("refused")])
async def test_a_room_that_cannot_be_read_shows_what_it_knew_last(error):
    known = LastKnown()
    room = room_that([{"files": [], "stamp": 1}, error], {})
    await drawn(room, known)
    page = await drawn(room, known)
    assert "Not read: " in page
    assert "refused" in page
    assert "Who watches for misses" in page, "the room as it was"
    at, more = known.of("/logs", "")
    assert more["stamp"] == 1
    assert datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") in page


async def test_a_room_of_which_nothing_is_known_says_that_it_comes_back():
    page = await drawn(room_that([RedisAway("refused")], {}), LastKnown())
    assert "It comes back when Redis answers" in page
    assert "Not read: " in page


async def test_what_was_known_of_one_address_is_not_shown_at_another():
    known = LastKnown()
    room = room_that([{"files": []}, RedisAway("refused")], {})
    await drawn(room, known, b"a=1")
    assert "It comes back when Redis answers" in await drawn(room, known, b"a=2")
