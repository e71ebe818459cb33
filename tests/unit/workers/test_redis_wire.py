"""Commands written by hiredis are, byte for byte, those that redis-py writes, and arrive as those do."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError
from redis.exceptions import TimeoutError as RedisTimeoutError

from workers.broker.clients import connect
from workers.broker.following import AsyncTcp, AsyncTls, AsyncUnix
from workers.plan import Lane
from workers.redis_wire import packed
from workers.settings import BrokerSettings

THEIRS = Connection()
OURS = packed(Connection)()

ARGUMENTS = st.one_of(
    st.text(),
    st.binary(),
    st.binary().map(memoryview),
    st.binary().map(bytearray),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(Lane),
)


def wire(connection, *args):
    return b"".join(bytes(piece) for piece in connection.pack_command(*args))


@given(st.sampled_from(["GET", "EVALSHA", "CONFIG GET", b"SCRIPT LOAD"]), st.lists(ARGUMENTS, max_size=20))
def test_a_command_is_written_as_redis_py_writes_it(name, args):
    assert wire(OURS, name, *args) == wire(THEIRS, name, *args)


def test_commands_of_a_pipeline_are_written_as_redis_py_writes_them():
    commands = [("SET", "k", b"v" * size) for size in (0, 10, 5000, 70_000)]
    ours, theirs = (b"".join(one.pack_commands(commands)) for one in (OURS, THEIRS))
    assert ours == theirs


@pytest.mark.parametrize("bad", [None, object(), ["x"]])
def test_what_is_neither_text_bytes_nor_a_number_is_refused_as_by_redis_py(bad):
    with pytest.raises(DataError):
        THEIRS.pack_command("SET", "k", bad)
    with pytest.raises(DataError):
        OURS.pack_command("SET", "k", bad)


def test_text_that_is_no_unicode_is_refused_as_by_redis_py():
    for connection in (THEIRS, OURS):
        with pytest.raises(UnicodeEncodeError):
            connection.pack_command("SET", "k", "\udcff")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://127.0.0.1:6379/1", AsyncTcp),
        ("rediss://127.0.0.1:6379/1", AsyncTls),
        ("unix:///run/valkey.sock?db=1", AsyncUnix),
    ],
)
def test_every_kind_of_connection_of_ours_is_written_by_hiredis(url, kind):
    assert connect(BrokerSettings(url=url)).connection_pool.connection_class is packed(kind)
    assert issubclass(packed(kind), kind)


@pytest.fixture
async def wired():
    """A connection of ours with a timeout, and what its other side reads; it reads when it is asked to."""
    accepted = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *sides: accepted.set_result(sides), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = packed(Connection)(host="127.0.0.1", port=port, socket_timeout=5)
    connection._reader, connection._writer = await asyncio.open_connection("127.0.0.1", port)
    connection._parser.on_connect(connection)
    transport = connection._writer.transport
    reader, writer = await accepted
    yield connection, reader, writer
    await connection.disconnect()
    transport.abort()
    writer.transport.abort()
    server.close()
    for _ in range(3):
        await asyncio.sleep(0)  # the loop closes sockets in its next rounds


async def test_a_command_is_sent_without_a_task_of_its_own(wired):
    connection, reader, _ = wired
    before = asyncio.all_tasks()
    sending = connection.send_packed_command([b"abc", b"def"])
    with pytest.raises(StopIteration):
        sending.send(None)  # it never waits
    assert asyncio.all_tasks() == before
    assert await reader.readexactly(6) == b"abcdef"


@pytest.mark.parametrize("command", [b"x" * 1_000_000, [b"x" * 1_000_000], (b"x" * 10, b"x" * 999_990)])
async def test_a_command_that_the_connection_does_not_take_at_once_arrives_whole(wired, command):
    connection, reader, _ = wired
    async with asyncio.TaskGroup() as group:
        got = group.create_task(reader.readexactly(1_000_003))
        await connection.send_packed_command(command)
        await connection.send_packed_command([b"end"])
    assert got.result() == b"x" * 1_000_000 + b"end"


async def test_a_server_that_reads_nothing_is_given_up_after_the_timeout(wired):
    connection, _, _ = wired
    connection.socket_timeout = 0.05
    with pytest.raises(RedisTimeoutError, match="writing to socket"):
        for _ in range(100):
            await connection.send_packed_command([b"x" * 1_000_000])
    assert not connection.is_connected


async def test_an_answer_is_waited_for_without_a_timer_of_its_own(wired, monkeypatch):
    connection, _, writer = wired
    loop, timers = asyncio.get_running_loop(), []
    call_at = loop.call_at
    monkeypatch.setattr(
        loop, "call_at", lambda *args, **kwargs: timers.append(args) or call_at(*args, **kwargs)
    )
    for number in range(20):
        writer.write(b":%d\r\n" % number)
        assert await connection.read_response() == number
    assert len(timers) < 20


async def test_an_answer_that_does_not_come_ends_the_connection_after_its_timeout(wired):
    connection, _, _ = wired
    connection.socket_timeout = 0.05
    with pytest.raises(RedisTimeoutError, match=r"0\.05 s"):
        await connection.read_response()
    assert not connection.is_connected


async def test_a_reader_that_is_cancelled_is_not_told_of_a_timeout(wired):
    connection, _, _ = wired
    reading = asyncio.create_task(connection.read_response())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not connection.is_connected


async def test_a_caller_that_waits_no_longer_than_it_says_gets_nothing_and_keeps_the_connection(wired):
    connection, _, writer = wired
    assert await connection.read_response(timeout=0.01) is None
    writer.write(b"+OK\r\n")
    assert await connection.read_response() == b"OK"


async def test_a_connection_that_was_lost_is_an_error_of_redis(wired):
    connection, _, writer = wired
    writer.transport.abort()
    with pytest.raises(RedisConnectionError):
        await connection.send_packed_command([b"abc"])
        await connection.read_response()
