"""Connections are taken and given back the short way while that is right, and theirs wherever it is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError

from workers.broker.clients import connect
from workers.broker.pool import Pool
from workers.settings import BrokerSettings

if TYPE_CHECKING:
    from collections.abc import Callable


async def until(look: Callable[[], object]) -> None:
    """Poll until it is so."""
    deadline = asyncio.get_running_loop().time() + 15
    while True:
        if look():
            return
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


class Server:
    """Answers every line that ends a command with OK; what it accepted can be cut and written to."""

    def __init__(self) -> None:
        self.sides: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sides.append(writer)
        while data := await reader.read(65536):
            writer.write(b"+OK\r\n" * data.count(b"*"))


@pytest.fixture
async def server():
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()
    for side in made.sides:
        side.transport.abort()
    for _ in range(3):
        await asyncio.sleep(0)  # the loop closes sockets in its next rounds


@pytest.fixture
async def client(server):
    made = connect(BrokerSettings(url=f"redis://127.0.0.1:{server.port}/0?protocol=2"), max_connections=2)
    yield made
    await made.aclose()


async def kept(client) -> object:
    """The pool's only connection, which was used and given back."""
    await client.execute_command("GET", "k")
    (connection,) = client.connection_pool._available_connections
    return connection


@pytest.fixture
def long_ways(monkeypatch):
    """How often redis-py's own way to a connection, and back, was taken."""
    taken = []
    for name in ("get_connection", "release"):
        theirs = getattr(redis.asyncio.BlockingConnectionPool, name)

        def counted(self, *args, name=name, theirs=theirs, **kwargs):
            taken.append(name)
            return theirs(self, *args, **kwargs)

        monkeypatch.setattr(redis.asyncio.BlockingConnectionPool, name, counted)
    return taken


async def test_every_client_of_the_house_has_such_a_pool(client):
    assert type(client.connection_pool) is Pool


async def test_a_connection_that_lies_there_is_taken_and_given_back_the_short_way(client, long_ways):
    connection = await kept(client)
    long_ways.clear()
    for _ in range(3):
        await client.execute_command("GET", "k")
    assert long_ways == []
    assert client.connection_pool._available_connections == [connection]
    assert not client.connection_pool._in_use_connections


async def test_a_connection_that_the_server_has_closed_is_opened_anew(client, server, long_ways):
    connection = await kept(client)
    server.sides[0].close()
    await until(connection._reader.at_eof)
    long_ways.clear()
    assert await client.execute_command("GET", "k") == "OK"
    assert long_ways[0] == "get_connection"
    assert len(server.sides) == 2


async def test_an_answer_that_belongs_to_nobody_is_given_to_nobody(client, server):
    connection = await kept(client)
    server.sides[0].write(b"+STRAY\r\n")
    await until(lambda: connection._reader._buffer)
    assert await client.execute_command("GET", "k") == "OK"


async def test_who_waits_for_a_connection_gets_the_next_that_is_given_back(client):
    pool = client.connection_pool
    held = [await pool.get_connection() for _ in range(2)]
    waiting = asyncio.create_task(pool.get_connection())
    await until(lambda: pool._coming)
    await pool.release(held.pop())
    behind = asyncio.create_task(pool.get_connection())
    first = await waiting
    assert not behind.done()
    await pool.release(first)
    held.append(await behind)
    for connection in held:
        await pool.release(connection)
    assert not pool._in_use_connections


async def test_no_more_connections_are_opened_than_may_be(client, server):
    await asyncio.gather(*(client.execute_command("GET", "k") for _ in range(20)))
    assert len(server.sides) <= 2


async def test_who_finds_no_connection_in_time_is_told_so(server):
    client = connect(BrokerSettings(url=f"redis://127.0.0.1:{server.port}/0?protocol=2"), max_connections=1)
    pool = client.connection_pool
    pool.timeout = 0.01
    held = await pool.get_connection()
    with pytest.raises(RedisConnectionError, match="No connection available"):
        await pool.get_connection()
    await pool.release(held)
    assert await client.execute_command("GET", "k") == "OK"
    await client.aclose()
