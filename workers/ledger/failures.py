"""The list of what could not be moved, in Redis: one record a key, until it is retried or waived.

Owns failures and waivers. Recording the same failure twice changes nothing but its last time, so delivery at
least once is harmless; a waiver holds for its key and reason, however often that fails again.

Key schema (ledger database)::

    ns:failures:<bucket>         hash  key -> JSON Failure
    ns:failure-reasons:<bucket>  hash  reason -> how many of them, changed in one step with the list
    ns:waivers:<bucket>          hash  key -> JSON {reason, by, at, failure}
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import orjson
from pydantic import TypeAdapter

from workers.answers import Attempt  # noqa: TC001  # pydantic reads the annotations
from workers.errors import ControlCharacter, KeyNotRepresentable
from workers.ledger.failure_scripts import PUT, REMOVE, REMOVE_BUT_BACK, REMOVE_UNCHANGED
from workers.plan import FetchItem  # noqa: TC001  # pydantic reads the annotations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from redis.asyncio import Redis


#: Reason of a record whose key is a place that a scan's inventory could not be read at.
UNREAD_PLACE = "unread_place"
#: Lane of a failure of the way back.
BACK = "back"
#: Reasons of failures that do not end because the store has the name.
_NO_KEYS = frozenset({UNREAD_PLACE, KeyNotRepresentable.reason, ControlCharacter.reason})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One key that could not be moved after its last attempt."""

    bucket: str
    key: str
    #: snake_case constant of `workers.errors`, or `poison_message`, `unreadable_message`, `unread_place`.
    reason: str
    message: str
    rule: str
    #: The way taken in the last attempt.
    attempts: tuple[Attempt, ...] = ()
    #: Tries that were spent.
    tries: int = 1
    #: Unix time in seconds.
    first_at: float = 0.0
    last_at: float = 0.0
    lane: str = "hot"
    #: Scan run and place, so that a retry is accounted where it belongs.
    scan: str = ""
    batch: int = -1
    item: FetchItem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """A failure that somebody accepted, with a reason."""

    key: str
    reason: str
    by: str
    at: float
    failure: Failure


#: As the scripts find it.
_REASON = re.compile(r'"reason":"([^"]*)"')
#: What means more than itself in a pattern of Redis.
_GLOB = re.compile(r"[*?\[\]\\^-]")
#: Records that Redis hands out in one step.
_AT_ONCE = 500
_FAILURE: TypeAdapter[Failure] = TypeAdapter(Failure)
_WAIVER: TypeAdapter[Waiver] = TypeAdapter(Waiver)


def failure_to_json(failure: Failure) -> dict[str, Any]:
    """The record as plain JSON values, for the API and export."""
    record: dict[str, Any] = _FAILURE.dump_python(failure, mode="json")
    return record


class Failures:
    """Failures and waivers of every bucket."""

    def __init__(self, redis: Redis, *, namespace: str) -> None:
        self._redis = redis
        self._ns = namespace

    def _failures(self, bucket: str) -> str:
        return f"{self._ns}:failures:{bucket}"

    def _list(self, bucket: str) -> tuple[str, str]:
        """Keys of the scripts: the list and its counts."""
        return self._failures(bucket), f"{self._ns}:failure-reasons:{bucket}"

    def _waivers(self, bucket: str) -> str:
        return f"{self._ns}:waivers:{bucket}"

    async def add(self, failures: Sequence[Failure]) -> int:
        """List failures; a key listed before keeps its first time. How many were listed.

        What somebody has waived stays waived while it fails for the same reason; another reason is listed.
        """
        if not failures:
            return 0
        async with self._redis.pipeline(transaction=False) as pipe:
            for failure in failures:
                pipe.hget(self._failures(failure.bucket), failure.key)
                pipe.hget(self._waivers(failure.bucket), failure.key)
            rows = await pipe.execute()
        now = time.time()
        listed = 0
        async with self._redis.pipeline(transaction=False) as pipe:
            for failure, old, waived in zip(failures, rows[::2], rows[1::2], strict=True):
                if waived and _WAIVER.validate_json(waived).failure.reason == failure.reason:
                    continue
                first = _FAILURE.validate_json(old).first_at if old else failure.first_at or now
                record = replace(failure, first_at=first, last_at=failure.last_at or now)
                wire = orjson.dumps(failure_to_json(record))
                pipe.eval(PUT, 2, *self._list(failure.bucket), failure.key, failure.reason, wire)
                listed += 1
            await pipe.execute()
        return listed

    async def get(self, bucket: str, key: str) -> Failure | None:
        """The failure of one key, or None."""
        found = await self._redis.hget(self._failures(bucket), key)
        return None if found is None else _FAILURE.validate_json(found)

    async def iterate(
        self,
        bucket: str,
        *,
        reason: str = "",
        prefix: str = "",
        scan: str = "",
        within_s: float | None = None,
    ) -> AsyncIterator[Failure]:
        """Every failure of a bucket, or of one reason, prefix and scan run, in no order, in bounded memory.

        With `within_s` it ends after that many seconds, however many there are: for somebody who waits.
        """
        ends = None if within_s is None else time.monotonic() + within_s
        # Most records are not of a rare reason: those are not taken apart. Other prefixes are not even sent.
        marks = [
            f'"{name}":{orjson.dumps(value).decode()}'
            for name, value in (("reason", reason), ("scan", scan))
            if value
        ]
        match = _GLOB.sub(r"\\\g<0>", prefix) + "*" if prefix else None
        async for _, record in self._redis.hscan_iter(self._failures(bucket), match=match, count=_AT_ONCE):
            if ends is not None and time.monotonic() > ends:
                return
            if all(mark in record for mark in marks):
                failure = _FAILURE.validate_json(record)
                if reason in {"", failure.reason} and scan in {"", failure.scan}:
                    yield failure

    async def reasons(self, bucket: str) -> dict[str, int]:
        """How many are listed, by reason, the most first; costs the same for a million."""
        rows = cast("dict[str, str]", await self._redis.hgetall(self._list(bucket)[1]))
        return dict(sorted(((reason, int(n)) for reason, n in rows.items()), key=lambda pair: -pair[1]))

    async def recount(self, bucket: str) -> bool:
        """Count the reasons anew where they do not add up to the list; whether that was so.

        A version that kept no counts may have written it. What is listed meanwhile may be missed; it is seen
        the next time.
        """
        listed, counts = self._list(bucket)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hlen(listed)
            pipe.hvals(counts)
            number, known = await pipe.execute()
        if number == sum(int(n) for n in known):
            return False
        found: Counter[str] = Counter()
        async for _, record in self._redis.hscan_iter(listed, count=1000):
            match = _REASON.search(record)
            found[match[1] if match else ""] += 1
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(counts)
            if found:
                pipe.hset(counts, mapping=cast("dict[Any, Any]", found))
            await pipe.execute()
        return True

    async def count(self, bucket: str) -> int:
        """How many keys are listed."""
        return int(await self._redis.hlen(self._failures(bucket)))

    async def remove(self, bucket: str, keys: Sequence[str]) -> int:
        """Take keys off the list (they were retried, or moved after all); how many were on it.

        What the lane `back` listed stays: see `remove_back`.
        """
        if not keys:
            return 0
        return int(await self._redis.eval(REMOVE_BUT_BACK, 2, *self._list(bucket), *keys))

    async def remove_back(self, bucket: str, keys: Sequence[str]) -> int:
        """Take keys off the list that are at their origin after all, or not wanted there."""
        if not keys:
            return 0
        return int(await self._redis.eval(REMOVE, 2, *self._list(bucket), *keys))

    async def keys(self, bucket: str, *, most: int) -> list[str]:
        """The listed keys, in no order; none when there are more than `most`."""
        if not 0 < await self.count(bucket) <= most:
            return []
        return [str(key) for key in await self._redis.hkeys(self._failures(bucket))]

    async def settle(self, bucket: str, keys: Sequence[str], *, before: float) -> int:
        """Take keys off the list that the store was seen to hold at `before`; how many were on it.

        What failed since then stays, and so does what a name in the store says nothing of: a key that it
        confuses with another one, a place of an inventory.
        """
        rows = await self.versions(bucket, keys)
        old = {}
        for key, row in rows.items():
            failure = _FAILURE.validate_json(row)
            if failure.last_at < before and failure.reason not in _NO_KEYS and failure.lane != BACK:
                old[key] = row
        return await self.remove_unchanged(bucket, old)

    async def versions(self, bucket: str, keys: Sequence[str]) -> dict[str, str]:
        """The records of keys exactly as they stand, for `remove_unchanged`."""
        if not keys:
            return {}
        rows = await self._redis.hmget(self._failures(bucket), list(keys))
        return {key: str(row) for key, row in zip(keys, rows, strict=True) if row is not None}

    async def remove_unchanged(self, bucket: str, versions: Mapping[str, str]) -> int:
        """Take keys off the list whose records are still these; a failure recorded since then stays."""
        done = 0
        pairs = list(versions.items())
        for at in range(0, len(pairs), 500):
            flat = [part for pair in pairs[at : at + 500] for part in pair]
            done += int(await self._redis.eval(REMOVE_UNCHANGED, 2, *self._list(bucket), *flat))
        return done

    async def waive(self, bucket: str, keys: Sequence[str], *, reason: str, by: str) -> int:
        """Accept failures for good, each for its reason; how many were listed and are now waived."""
        done = 0
        for key in keys:
            failure = await self.get(bucket, key)
            if failure is None:
                continue
            waiver = Waiver(key=key, reason=reason, by=by, at=time.time(), failure=failure)
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hset(self._waivers(bucket), key, orjson.dumps(_WAIVER.dump_python(waiver, mode="json")))
                pipe.eval(REMOVE, 2, *self._list(bucket), key)
                await pipe.execute()
            done += 1
        return done

    async def waivers(self, bucket: str) -> list[Waiver]:
        """Every waiver of a bucket, by key."""
        rows = await self._redis.hgetall(self._waivers(bucket))
        return sorted((_WAIVER.validate_json(row) for row in rows.values()), key=lambda waiver: waiver.key)


def unread_failures(wire: Mapping[str, Any], message: str) -> list[Failure]:
    """A failure for each key that can be told of a queue message that this version cannot read."""
    plan, items = wire.get("plan"), wire.get("items")
    if not isinstance(plan, dict) or not isinstance(plan.get("bucket"), str) or not isinstance(items, list):
        return []
    return [
        Failure(
            bucket=plan["bucket"],
            key=item["key"],
            reason="unreadable_message",
            message=message,
            rule=str(plan.get("rule", "")),
            lane="cold" if wire.get("lane") == "cold" else "hot",
        )
        for item in items
        if isinstance(item, dict) and isinstance(item.get("key"), str)
    ]
