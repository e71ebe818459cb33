"""Pages that stay open: hours of them neither grow nor stall, and a hundred cost one drawing."""

from __future__ import annotations

import asyncio
import gc

import pytest
from starlette.requests import Request

from scheduler.front.admin.dashboard import live as live_module
from scheduler.front.admin.dashboard.live import ALIVE_S, live
from scheduler.front.admin.guard import Visitor


class Board:
    """A reading that is another one whenever `number` grows; rounds end after `rounds`, or never."""

    def __init__(self, rounds=None):
        self.number = 0
        self.rounds = rounds
        self._readings = {}

    async def read(self):
        if self.number not in self._readings:
            self._readings = {self.number: object()}
        return self._readings[self.number]

    async def until_next(self, _seconds):
        await asyncio.sleep(0)
        self.number += 1
        return self.rounds is None or self.number < self.rounds


class Rooms:
    """Draws after a moment, as one that asks Redis does."""

    def __init__(self, board, *, text="<p>{}</p>\n<p>next</p>"):
        self.board, self.text = board, text
        self.drawn = 0

    async def draw(self, room, _request):
        await asyncio.sleep(0)
        if room != "/":
            return None
        self.drawn += 1
        return self.text.format(self.board.number)


def asked(*, room="/", name="admin", gone=None):
    async def receive():
        if gone is not None and gone.is_set():
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError

    scope = {
        "type": "http", "method": "GET", "path": "/live", "headers": [],
        "query_string": f"room={room}".encode(),
        "ferryman.visitor": Visitor(name=name, csrf="c"),
    }  # fmt: skip
    return Request(scope, receive)


async def stream(handler, request):
    answer = await handler(request)
    assert answer.media_type == "text/event-stream"
    return answer.body_iterator


async def test_an_event_is_the_room_line_by_line_and_comes_only_when_it_changed():
    board = Board(rounds=4)
    rooms = Rooms(board, text="<p>same</p>\n<p>next</p>")
    sent = [part async for part in await stream(live(board, rooms.draw), asked())]
    assert sent == [b"retry: 3000\n\n", b"event: room\ndata: <p>same</p>\ndata: <p>next</p>\n\n"]


async def test_a_room_that_follows_nothing_is_not_found():
    board = Board()
    assert (await live(board, Rooms(board).draw)(asked(room="/nowhere"))).status_code == 404


async def test_a_hundred_who_look_at_once_cost_one_drawing_a_reading():
    board = Board()
    rooms = Rooms(board)
    handler = live(board, rooms.draw)
    streams = await asyncio.gather(*(stream(handler, asked()) for _ in range(100)))
    assert rooms.drawn == 1
    for one in streams:
        assert await anext(one) == b"retry: 3000\n\n"
    events = await asyncio.gather(*(anext(one) for one in streams))
    assert rooms.drawn == 1
    assert len({id(event) for event in events}) == 1, "one event is sent to all, not a copy each"
    for one in streams:
        await one.aclose()


async def test_viewer_and_admin_get_drawings_of_their_own():
    board = Board()
    rooms = Rooms(board)
    handler = live(board, rooms.draw)
    for name in ("admin", "viewer", "admin"):
        await handler(asked(name=name))
    assert rooms.drawn == 2


async def test_a_page_that_does_not_read_is_sent_nothing_more_and_keeps_nothing():
    board = Board()
    rooms = Rooms(board)
    slow = await stream(live(board, rooms.draw), asked())
    assert await anext(slow) == b"retry: 3000\n\n"
    for _ in range(1000):
        board.number += 1
        await asyncio.sleep(0)
    assert rooms.drawn == 1, "nothing is drawn, queued or kept for it"
    assert b"<p>1000</p>" in await anext(slow), "and what it reads next is the present state"
    await slow.aclose()


async def test_a_page_left_open_for_hours_neither_grows_nor_stalls():
    rounds = 3000
    board = Board(rounds=rounds)
    rooms = Rooms(board, text="<p>{}</p>")
    one = await stream(live(board, rooms.draw), asked())
    events, objects = 0, []
    async for _ in one:
        events += 1
        if events % 500 == 0:
            gc.collect()
            objects.append(len(gc.get_objects()))
    assert events == rounds + 1, "each change came"
    assert objects[-1] - objects[1] < 100
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "drawing"]


async def test_a_page_that_went_away_ends_its_stream_at_the_next_look():
    board, gone = Board(), asyncio.Event()
    one = await stream(live(board, Rooms(board).draw), asked(gone=gone))
    await anext(one)
    await anext(one)
    gone.set()
    with pytest.raises(StopAsyncIteration):
        await anext(one)


async def test_who_leaves_while_it_is_drawn_does_not_take_the_drawing_from_the_others():
    board, begun, go = Board(), asyncio.Event(), asyncio.Event()

    async def draw(_room, _request):
        begun.set()
        await go.wait()
        return "drawn"

    handler = live(board, draw)
    first = asyncio.create_task(handler(asked()))
    await begun.wait()
    second = asyncio.create_task(handler(asked()))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    go.set()
    assert (await second).status_code == 200


async def test_a_quiet_stream_says_that_it_lives(monkeypatch):
    board = Board(rounds=3)
    clock = iter(range(0, 1000, int(ALIVE_S) + 1))
    monkeypatch.setattr(live_module.time, "monotonic", lambda: float(next(clock)))
    sent = [part async for part in await stream(live(board, Rooms(board, text="same").draw), asked())]
    assert b": alive\n\n" in sent
