"""What the Redis user of an installation must be allowed, and what it is not.

Owns the ACL line of docs/operations.md, and a harmless call for each command that the house uses: the server
judges the right before it looks at the key, which is a short-lived string that most of them only fail on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from redis.exceptions import NoPermissionError, ResponseError

from workers.broker.following import Demoted

if TYPE_CHECKING:
    from redis.asyncio import Redis

#: Rules of the user, but for its name and password and the namespace of its keys.
ACL_RULES: Final = (
    "resetchannels -@all +@read +@write +@connection +@transaction -@dangerous "
    "+eval +evalsha +script|load +script|exists +time +wait +keys +info +role"
)
#: Command and its arguments behind the key; None: it takes no key.
_CALLS: Final[dict[str, tuple[str, ...]]] = {
    "SET": ("1", "EX", "10"), "GET": (), "MGET": (), "EXISTS": (), "TTL": (), "PTTL": (), "STRLEN": (),
    "EXPIRE": ("10",), "PEXPIRE": ("10000",), "INCR": (), "SETRANGE": ("0", "1"), "GETRANGE": ("0", "0"),
    "SETBIT": ("0", "0"), "GETBIT": ("0",),
    "HSET": ("f", "v"), "HGET": ("f",), "HMGET": ("f",), "HGETALL": (), "HDEL": ("f",), "HLEN": (),
    "HKEYS": (), "HVALS": (), "HEXISTS": ("f",), "HINCRBY": ("f", "1"), "HSCAN": ("0",),
    "ZADD": ("1", "m"), "ZREM": ("m",), "ZSCORE": ("m",), "ZMSCORE": ("m",), "ZCARD": (),
    "ZRANGE": ("0", "0"), "ZRANGEBYSCORE": ("0", "0"), "ZREMRANGEBYSCORE": ("0", "0"),
    "SADD": ("m",), "SREM": ("m",), "SMEMBERS": (), "SCARD": (), "SISMEMBER": ("m",), "SMISMEMBER": ("m",),
    "RPUSH": ("m",), "LPOP": (), "LRANGE": ("0", "0"), "LLEN": (), "LINDEX": ("0",), "DEL": (),
}  # fmt: skip
_WITHOUT_KEY: Final[dict[str, tuple[str, ...]]] = {
    "TIME": (), "WAIT": ("0", "1"), "ROLE": (), "INFO": ("server",), "SCAN": ("0", "COUNT", "1"),
    "EVAL": ("return 1", "0"), "EVALSHA": ("0" * 40, "0"), "SCRIPT LOAD": ("return 1",),
    "SCRIPT EXISTS": ("0" * 40,), "MULTI": (), "EXEC": (),
}  # fmt: skip


def acl_rules(namespace: str) -> str:
    """The rules of a user that may do what Ferryman does, and nothing else, to the keys of a namespace."""
    return f"~{namespace} ~{namespace}:* {ACL_RULES}"


async def missing(redis: Redis, namespace: str) -> list[str]:
    """The rules that the user lacks, as an ACL has them: `+hset`, `~ferryman:*`.

    Raises redis-py's errors of the connection untranslated.
    """
    key = f"{namespace}:doctor"
    lacking: list[str] = []
    async with redis.client() as one:
        for command, arguments in _WITHOUT_KEY.items():
            await _try(one, (*command.split(), *arguments), f"+{command.lower().replace(' ', '|')}", lacking)
        await _try(one, ("KEYS", key), "+keys", lacking)
        for command, arguments in _CALLS.items():
            await _try(one, (command, key, *arguments), f"+{command.lower()}", lacking)
        await _try(one, ("BLMOVE", key, key, "LEFT", "LEFT", "0.01"), "+blmove", lacking)
        await _try(one, ("RENAME", key, f"{key}2"), "+rename", lacking)
        await _try(one, ("EXISTS", namespace), f"~{namespace}", lacking)
    if "key" in lacking:
        lacking = [f"~{namespace}:*", *(rule for rule in lacking if rule != "key")]
    return lacking


async def _try(redis: Redis, call: tuple[str, ...], rule: str, lacking: list[str]) -> None:
    try:
        await redis.execute_command(*call)  # type: ignore[no-untyped-call]
    except NoPermissionError as error:
        # "No permissions to access a key" is about the pattern, all else about the command.
        about_key = "key" in str(error) and "command" not in str(error)
        found = rule if rule.startswith("~") or not about_key else "key"
        if found not in lacking:
            lacking.append(found)
    except (ResponseError, Demoted):
        return  # it was judged allowed, and failed at what there is
