"""An answer becomes bytes: its head goes with what comes at once, and alone where nothing does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from scheduler.front.http.cycle import Cycle


class _Wire:
    """A transport that keeps each write, and the connection around it."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False
        self.was_reset = False
        self.unread_ended = False
        self.loop = asyncio.get_running_loop()

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))

    def writelines(self, pieces: list[bytes]) -> None:
        self.writes.append(b"".join(pieces))

    def is_closing(self) -> bool:
        return self.closed or self.was_reset

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.was_reset = True

    def get_extra_info(self, _name: str) -> None:
        return None

    def end_unread(self) -> None:
        self.unread_ended = True


def _cycle(wire: Any, *, method: str = "GET", version: str = "1.1", keep_alive: bool = True) -> Cycle:
    cycle = Cycle(
        scope={"method": method, "http_version": version, "extensions": {"ferryman.connection": wire}},  # type: ignore[typeddict-item]  # what it looks at
        transport=wire,
        flow=FlowControl(wire),
        logger=None,  # type: ignore[arg-type]  # never used
        access_logger=None,  # type: ignore[arg-type]
        access_log=False,
        default_headers=[(b"date", b"now")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )
    cycle.more_body = False
    return cycle


def _head(*headers: tuple[bytes, bytes], status: int = 200) -> Any:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def _body(data: bytes = b"", *, more: bool = False) -> Any:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _one_round() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_head_and_the_bytes_that_come_with_it_are_one_write() -> None:
    wire = _Wire()
    cycle = _cycle(wire)
    await cycle.send(_head((b"content-length", b"3")))
    await cycle.send(_body(b"abc", more=True))
    await cycle.send(_body())
    await _one_round()
    assert wire.writes == [b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 3\r\n\r\nabc"]
    assert cycle.response_complete
    assert not wire.closed


async def test_a_head_does_not_wait_for_a_body_that_comes_later() -> None:
    wire = _Wire()
    cycle = _cycle(wire)
    await cycle.send(_head((b"content-length", b"3")))
    await _one_round()
    assert wire.writes == [b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 3\r\n\r\n"]
    await cycle.send(_body(b"abc"))
    assert wire.writes[1:] == [b"abc"]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304), ("GET", 204)])
async def test_an_answer_without_a_body_is_its_head(method: str, status: int) -> None:
    wire = _Wire()
    cycle = _cycle(wire, method=method)
    await cycle.send(_head((b"etag", b'"e"'), status=status))
    await cycle.send(_body())
    await _one_round()
    (sent,) = wire.writes
    assert sent.endswith(b'etag: "e"\r\n\r\n')
    assert b"transfer-encoding" not in sent
    assert cycle.response_complete


async def test_a_body_without_a_length_is_chunked() -> None:
    wire = _Wire()
    cycle = _cycle(wire)
    await cycle.send(_head())
    await cycle.send(_body(b"abc", more=True))
    await cycle.send(_body())
    assert wire.writes == [
        b"HTTP/1.1 200 OK\r\ndate: now\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"0\r\n\r\n",
    ]


async def test_a_body_without_a_length_ends_with_the_connection_for_http_1_0() -> None:
    wire = _Wire()
    cycle = _cycle(wire, version="1.0", keep_alive=False)
    await cycle.send(_head())
    await cycle.send(_body(b"abc", more=True))
    await cycle.send(_body(b"de"))
    assert wire.writes == [b"HTTP/1.1 200 OK\r\ndate: now\r\nconnection: close\r\n\r\nabc", b"de"]
    assert wire.closed


async def test_the_connection_closes_where_the_answer_says_so_and_says_so_once() -> None:
    wire = _Wire()
    cycle = _cycle(wire)
    await cycle.send(_head((b"content-length", b"1"), (b"connection", b"Close")))
    await cycle.send(_body(b"x"))
    assert wire.writes[0].lower().count(b"connection:") == 1
    assert wire.closed


async def test_an_answer_before_the_whole_request_leaves_the_connection_to_run_off() -> None:
    wire = _Wire()
    cycle = _cycle(wire)
    cycle.more_body = True
    await cycle.send(_head((b"content-length", b"1"), (b"connection", b"close")))
    await cycle.send(_body(b"x"))
    assert wire.unread_ended
    assert not wire.closed


@pytest.mark.parametrize("length", [2, 4])
async def test_a_body_that_is_not_as_long_as_promised_is_an_error(length: int) -> None:
    wire = _Wire()
    cycle = _cycle(wire)
    await cycle.send(_head((b"content-length", b"%d" % length)))
    with pytest.raises(RuntimeError, match="than its head says"):
        await cycle.send(_body(b"abc"))
    assert not cycle.response_complete


@pytest.mark.parametrize("header", [(b"bad name", b"v"), (b"name", b"a\r\nb: c"), (b"name", b"\0")])
async def test_a_header_that_would_break_the_head_is_an_error(header: tuple[bytes, bytes]) -> None:
    wire = _Wire()
    with pytest.raises(RuntimeError, match="in the head of an answer"):
        await _cycle(wire).send(_head(header))
    await _one_round()
    assert wire.writes == []


async def test_messages_out_of_turn_are_errors() -> None:
    wire = _Wire()
    cycle = _cycle(wire)
    with pytest.raises(RuntimeError, match="start is due"):
        await cycle.send(_body(b"x"))
    await cycle.send(_head((b"content-length", b"1")))
    with pytest.raises(RuntimeError, match="body is due"):
        await cycle.send(_head())
    await cycle.send(_body(b"x"))
    with pytest.raises(RuntimeError, match="body is due"):
        await cycle.send(_body(b"x"))


async def test_an_answer_that_is_left_unfinished_ends_with_a_reset_and_sends_no_more() -> None:
    wire = _Wire()
    cycle = _cycle(wire)

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(_head((b"content-length", b"9")))

    await cycle.run_asgi(app)
    await _one_round()
    assert wire.was_reset
    assert wire.writes == []
