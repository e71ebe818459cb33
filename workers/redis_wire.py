"""Commands to Redis, written by hiredis in one call each.

Owns one gap of redis-py: its asynchronous connections read with hiredis and write in Python, argument by
argument, which was 15 % of the function calls of a moved object. Knows no command and no key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hiredis

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection


_made: dict[object, type[AbstractConnection]] = {}


def packed(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """The same kind of connection, but for how commands become bytes."""
    found = _made.get(kind)
    if found is None:
        found = _made[kind] = _make(kind)
    return found


def _make(kind: type[AbstractConnection]) -> type[AbstractConnection]:

    class Packed(kind):  # type: ignore[misc,valid-type]  # a class made at run time
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

    return Packed
