"""Commands written by hiredis are, byte for byte, those that redis-py writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection
from redis.exceptions import DataError

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
