"""Commands to Redis, written by hiredis in one call each, and sent without a task each.

Owns three gaps of redis-py: its asynchronous connections read with hiredis and write in Python, argument by
argument, which was 15 % of the function calls of a moved object; where a socket has a timeout, each command
is sent by a task of its own with a timer; and each answer is waited for with another. Knows no command and no
key.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import hiredis
from redis.exceptions import TimeoutError as RedisTimeoutError

from workers.deadlines import Deadlines, Wait

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio.connection import AbstractConnection


#: Looks at what is waited for within the time that it may take: who waits for long is woken seldom.
_LOOKS = 20
#: What a connection takes without being waited for: buffers of sockets and of asyncio hold as much.
_AT_ONCE_BYTES = 64 * 1024

_made: dict[object, type[AbstractConnection]] = {}


def packed(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """The same kind of connection, but for how commands become bytes."""
    found = _made.get(kind)
    if found is None:
        found = _made[kind] = _make(kind)
    return found


def _make(kind: type[AbstractConnection]) -> type[AbstractConnection]:

    class Packed(kind):  # type: ignore[misc,valid-type]  # a class made at run time
        #: Of its answers, once one was waited for.
        _deadlines: Deadlines | None = None

        def pack_command(self, *args: Any) -> list[bytes]:
            """One command as it goes over the wire; its name may consist of several words."""
            name = args[0]
            words = tuple(name.encode().split() if isinstance(name, str) else name.split())
            try:
                return [hiredis.pack_command(words + args[1:])]
            except TypeError:
                # Other buffers than bytes, or what nobody can send: redis-py knows.
                found: list[bytes] = super().pack_command(*args)
                return found

        async def send_packed_command(
            self, command: bytes | str | Iterable[bytes], check_health: bool = True
        ) -> None:
            """Send a command; only one that has to wait for the socket gets a task and a timer."""
            if (
                isinstance(command, list)
                and self.is_connected
                and not self.health_check_interval
                and sum(map(len, command)) <= _AT_ONCE_BYTES
            ):
                transport = self._writer.transport
                if not (transport.is_closing() or transport.get_write_buffer_size()):
                    transport.writelines(command)
                    return
            await super().send_packed_command(command, check_health)

        async def read_response(
            self, disable_decoding: bool = False, timeout: float | None = None, **options: Any
        ) -> Any:
            """The next answer; where only the connection's own timeout bounds it, one timer looks at many."""
            limit_s = self.socket_timeout
            if timeout is not None or limit_s is None:
                return await super().read_response(disable_decoding, timeout, **options)
            loop = asyncio.get_running_loop()
            wait = Wait(loop.time() + limit_s, loop)
            deadlines = self._deadlines
            if deadlines is None:
                deadlines = self._deadlines = Deadlines(tick_s=limit_s / _LOOKS)
            deadlines.add(wait, loop)
            try:
                return await super().read_response(disable_decoding, math.inf, **options)
            except asyncio.CancelledError as error:
                if not wait.timed_out():
                    raise
                raise RedisTimeoutError(f"no answer of {self._host_error()} in {limit_s:g} s") from error
            finally:
                deadlines.remove(wait)

        async def disconnect(self, *args: Any, **options: Any) -> None:
            """End the connection, and its timer: the next one may belong to another loop."""
            deadlines, self._deadlines = self._deadlines, None
            if deadlines is not None:
                deadlines.close()
            await super().disconnect(*args, **options)

    return Packed
