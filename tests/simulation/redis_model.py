"""The data of one Redis, in memory: as many of its commands as the house uses, and its scripts in Lua.

Owns what commands mean. Each is one step; nothing here waits or fails. Everything is text.
"""

from __future__ import annotations

import fnmatch
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from lupa.lua51 import LuaRuntime, lua_type

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


#: Of the model that was made last.
_LUA: Final = LuaRuntime(unpack_returned_tuples=True)


def text(value: Any) -> str:
    """As the wire has it."""
    if type(value) is str:
        return value
    if isinstance(value, bytes):
        return value.decode()
    return f"{value:.17g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """What a script answers, as Redis turns it."""
    if value is False:
        return None
    return int(value) if isinstance(value, float) else value


@cache
def _compiled(script: str) -> Any:
    """Once a process: schedules come one after the other."""
    return _LUA.eval(f"function(KEYS, ARGV)\n{script}\nend")


class RedisModel:
    """One server; both databases lie in it, for no key of the one is a key of the other."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._values: dict[str, Any] = {}
        self._ends: dict[str, float] = {}
        _LUA.globals().redis = _LUA.table_from({"call": self._called})

    # ------------------------------------------------------------------ scripts
    def eval(self, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """Run a script, compiled once."""
        table = _LUA.table_from
        answer = _compiled(script)(table([text(key) for key in keys]), table([text(one) for one in args]))
        return self._from_lua(answer) if lua_type(answer) == "table" else _plain(answer)

    def _from_lua(self, value: Any) -> Any:
        return [self._from_lua(one) if lua_type(one) == "table" else _plain(one) for one in value.values()]

    def _called(self, name: str, *given: Any) -> Any:
        name, words = name.lower(), [text(int(one) if isinstance(one, float) else one) for one in given]
        match name:
            case "set":
                options, more = [word.lower() for word in words[2:]], {}
                if "px" in options:
                    more["px"] = int(float(options[options.index("px") + 1]))
                answer = self.set(words[0], words[1], nx="nx" in options, **more)
                answer = False if answer is None else answer
            case "zadd":
                more = {flag: True for flag in ("nx", "xx") if words[1].lower() == flag}
                answer = self.zadd(words[0], {words[-1]: float(words[-2])}, **more)
            case "zrangebyscore":
                limit = words[3:] and {"start": int(words[4]), "num": int(words[5])}
                answer = self.zrangebyscore(words[0], words[1], words[2], **(limit or {}))
            case "hset":
                answer = self.hset(words[0], mapping=dict(zip(words[1::2], words[2::2], strict=True)))
            case "hmget":
                answer = self.hmget(words[0], words[1:])
            case "hgetall":
                answer = [part for pair in self.hgetall(words[0]).items() for part in pair]
            case "del":
                answer = self.delete(*words)
            case "hdel" | "zrem" | "sadd" | "srem" | "rpush" | "exists":
                answer = getattr(self, name)(*words)
            case _:
                answer = getattr(self, name)(*words)
        if isinstance(answer, list):
            return _LUA.table_from([False if one is None else one for one in answer])
        return False if answer is None else answer

    # ------------------------------------------------------------------ what was kept
    def kept(self) -> Any:
        """A copy of everything."""
        values = {name: one if isinstance(one, str) else one.copy() for name, one in self._values.items()}
        return values, dict(self._ends)

    def back_to(self, kept: Any) -> None:
        """As after a crash: nothing was told since."""
        self._values, self._ends = kept

    # ------------------------------------------------------------------ keys
    def _at(self, key: Any, empty: Callable[[], Any] | None = None) -> Any:
        name = text(key)
        ends = self._ends.get(name)
        if ends is not None and ends <= self._clock():
            del self._values[name], self._ends[name]
        if empty is not None and name not in self._values:
            self._values[name] = empty()
        return self._values.get(name)

    def _trim(self, key: Any) -> None:
        if not self._values.get(text(key), True):
            self.delete(key)

    def names(self, pattern: str) -> list[str]:
        """Keys that are there now."""
        return [
            name for name in list(self._values) if fnmatch.fnmatchcase(name, pattern) and self.exists(name)
        ]

    keys = names

    def delete(self, *names: Any) -> int:
        found = [text(name) for name in names if self._at(name) is not None]
        for name in found:
            del self._values[name]
            self._ends.pop(name, None)
        return len(found)

    def rename(self, key: Any, new: Any) -> str:
        self.delete(new)
        self._values[text(new)] = self._at(key)
        if text(key) in self._ends:
            self._ends[text(new)] = self._ends[text(key)]
        self.delete(key)
        return "OK"

    def time(self) -> list[str]:
        now = self._clock()
        return [text(int(now)), text(int(now % 1 * 1e6))]

    def exists(self, *names: Any) -> int:
        return sum(self._at(name) is not None for name in names)

    def pexpire(self, key: Any, ms: Any) -> int:
        if self._at(key) is None:
            return 0
        self._ends[text(key)] = self._clock() + float(ms) / 1000
        return 1

    def expire(self, key: Any, seconds: Any, *, nx: bool = False, gt: bool = False) -> int:
        old = self._ends.get(text(key))
        new = self._clock() + float(seconds)
        if (nx and old is not None) or (gt and (old is None or old >= new)):
            return 0
        return self.pexpire(key, float(seconds) * 1000)

    # ------------------------------------------------------------------ strings
    def get(self, key: Any) -> Any:
        return self._at(key)

    def mget(self, names: Sequence[Any]) -> list[Any]:
        return [self._at(name) for name in names]

    def set(
        self, key: Any, value: Any, *, px: Any = None, ex: Any = None, nx: bool = False, get: bool = False
    ) -> Any:
        old = self._at(key)
        if nx and old is not None:
            return None
        self._values[text(key)] = text(value)
        self._ends.pop(text(key), None)
        if px is not None or ex is not None:
            self.pexpire(key, px if px is not None else float(ex) * 1000)
        return old if get else "OK"

    def incr(self, key: Any) -> int:
        self._values[text(key)] = text(int(self._at(key) or 0) + 1)
        return int(self._values[text(key)])

    def getrange(self, key: Any, first: Any, last: Any) -> str:
        return str(self._at(key) or "")[int(first) : int(last) + 1]

    def setrange(self, key: Any, at: Any, value: Any) -> int:
        held, new = str(self._at(key) or ""), text(value)
        self._values[text(key)] = held[: int(at)] + new + held[int(at) + len(new) :]
        return len(self._values[text(key)])

    def getbit(self, key: Any, at: Any) -> int:
        return int(text(at) in (self._at(key) or {}))

    def setbit(self, key: Any, at: Any, value: Any) -> int:
        held, before = self._at(key, dict), self.getbit(key, at)
        if int(value):
            held[text(at)] = ""
        else:
            held.pop(text(at), None)
        return before

    # ------------------------------------------------------------------ hashes
    def hset(self, key: Any, name: Any = None, value: Any = None, *, mapping: Any = None) -> int:
        rows = dict(mapping or {}) if name is None else {name: value}
        self._at(key, dict).update({text(k): text(v) for k, v in rows.items()})
        return len(rows)

    def hget(self, key: Any, name: Any) -> Any:
        return (self._at(key) or {}).get(text(name))

    def hmget(self, key: Any, names: Sequence[Any]) -> list[Any]:
        return [self.hget(key, name) for name in names]

    def hexists(self, key: Any, name: Any) -> int:
        return int(self.hget(key, name) is not None)

    def hdel(self, key: Any, *names: Any) -> int:
        held = self._at(key) or {}
        gone = sum(held.pop(text(name), None) is not None for name in names)
        self._trim(key)
        return gone

    def hincrby(self, key: Any, name: Any, number: Any) -> int:
        held = self._at(key, dict)
        held[text(name)] = text(int(held.get(text(name), 0)) + int(number))
        return int(held[text(name)])

    def hlen(self, key: Any) -> int:
        return len(self._at(key) or {})

    def hkeys(self, key: Any) -> list[str]:
        return list(self._at(key) or {})

    def hvals(self, key: Any) -> list[str]:
        return list((self._at(key) or {}).values())

    def hgetall(self, key: Any) -> dict[str, str]:
        return dict(self._at(key) or {})

    def hscan(self, key: Any, cursor: Any = 0, count: Any = None) -> Any:
        """All at once."""
        del cursor, count
        return 0, self.hgetall(key)

    # ------------------------------------------------------------------ sets
    def sadd(self, key: Any, *members: Any) -> int:
        held = self._at(key, dict)
        before = len(held)
        held.update(dict.fromkeys(map(text, members)))
        return len(held) - before

    def srem(self, key: Any, *members: Any) -> int:
        held = self._at(key) or {}
        gone = sum(text(one) in held and held.pop(text(one), 0) is None for one in members)
        self._trim(key)
        return gone

    def smembers(self, key: Any) -> list[str]:
        return list(self._at(key) or {})

    def scard(self, key: Any) -> int:
        return len(self._at(key) or {})

    # ------------------------------------------------------------------ lists
    def rpush(self, key: Any, *values: Any) -> int:
        held = self._at(key, list)
        held.extend(map(text, values))
        return len(held)

    def lpop(self, key: Any) -> Any:
        held = self._at(key)
        if not held:
            return None
        first = held.pop(0)
        self._trim(key)
        return first

    def lrange(self, key: Any, first: Any, last: Any) -> list[str]:
        end = None if int(last) == -1 else int(last) + 1
        return (self._at(key) or [])[int(first) : end]

    def llen(self, key: Any) -> int:
        return len(self._at(key) or [])

    def lindex(self, key: Any, at: Any) -> Any:
        held = self._at(key) or []
        return held[int(at)] if int(at) < len(held) else None

    # ------------------------------------------------------------------ sorted sets
    def zadd(
        self, key: Any, scores: dict[Any, Any], *, gt: bool = False, nx: bool = False, xx: bool = False
    ) -> int:
        held = self._at(key, dict)
        for member, score in scores.items():
            name = text(member)
            if (name in held and (nx or (gt and held[name] >= float(score)))) or (xx and name not in held):
                continue
            held[name] = float(score)
        self._trim(key)
        return len(scores)

    def zrem(self, key: Any, *members: Any) -> int:
        held = self._at(key) or {}
        gone = sum(held.pop(text(one), None) is not None for one in members)
        self._trim(key)
        return gone

    def zscore(self, key: Any, member: Any) -> Any:
        return (self._at(key) or {}).get(text(member))

    def zrevrange(self, key: Any, first: Any, last: Any) -> list[str]:
        held = self._at(key) or {}
        return sorted(held, key=lambda name: (held[name], name), reverse=True)[int(first) : int(last) + 1]

    def zcard(self, key: Any) -> int:
        return len(self._at(key) or {})

    def zrangebyscore(
        self, key: Any, low: Any, high: Any, start: int = 0, num: int | None = None
    ) -> list[str]:
        held = self._at(key) or {}
        found = sorted((score, name) for name, score in held.items() if float(low) <= score <= float(high))
        names = [name for _, name in found]
        return names[start:] if num is None else names[start : start + num]

    def zremrangebyscore(self, key: Any, low: Any, high: Any) -> int:
        return self.zrem(key, *self.zrangebyscore(key, low, high))
