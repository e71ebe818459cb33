"""Who still needs the origin: misses that it served, by prefix, referrer and user agent, hour by hour.

Owns the record behind `ferryman report`. Every process counts in memory and writes sums every few seconds; a
process that is killed loses seconds of a report, never of the account. Names are bounded for each kind and
hour; what comes beyond is counted together.

Key schema (ledger database)::

    ns:served:<bucket>:<hour>  hash  `kind|name` -> misses; kind is p (prefix), r (referrer), a (agent) or n
                                     (all); hour is unix seconds // 3600; kept 8 days
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import structlog
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

KEPT_S = 8 * 86_400
FLUSH_S = 5.0
#: Names of one kind that one process counts apart between two writes, and that one hour shows.
MAX_NAMES = 300
OTHER = "(other)"
NONE = "(none)"

log = structlog.get_logger(__name__)


def prefix_of(key: str) -> str:
    """The first two path components of a key, or what there is: `img/2024/` of `img/2024/a.png`."""
    parts = key.split("/", 2)
    return "(root)" if len(parts) == 1 else "/".join(parts[:2]) + "/" if len(parts) == 3 else parts[0] + "/"


def referrer_of(referer: str) -> str:
    """Host and path of a referrer without its query, at most 200 characters."""
    if not referer or referer == "-":
        return NONE
    try:
        parts = urlsplit(referer)
    except ValueError:  # clients send anything: `http://[`
        return NONE
    return (parts.netloc.rpartition("@")[2] + parts.path)[:200] or NONE


def agent_of(user_agent: str) -> str:
    """The first product of a user agent, without its version's tail: `Mozilla/5.0`, `curl/8.5`."""
    return user_agent.split(" ", 1)[0][:80] if user_agent and user_agent != "-" else NONE


class DependencyRecorder:
    """Counts misses of one process that an origin serves."""

    def __init__(self, redis: Redis, *, namespace: str) -> None:
        self._redis = redis
        self._ns = namespace
        self._counts: dict[tuple[str, int], Counter[str]] = {}
        self._names: Counter[str] = Counter()

    def note(self, bucket: str, key: str, *, referer: str = "", user_agent: str = "") -> None:
        """One miss that an origin serves, now or by a queued pull."""
        hour = int(time.time()) // 3600
        counts = self._counts.get((bucket, hour))
        if counts is None:
            counts = self._counts[bucket, hour] = Counter()
        counts["n|"] += 1
        for kind, name in (("p", prefix_of(key)), ("r", referrer_of(referer)), ("a", agent_of(user_agent))):
            field = f"{kind}|{name}"
            if field not in counts:
                if self._names[kind] >= MAX_NAMES:
                    field = f"{kind}|{OTHER}"
                else:
                    self._names[kind] += 1
            counts[field] += 1

    async def flush(self) -> None:
        """Write what was counted; what a missing Redis does not take stays for the next time."""
        pending, self._counts, self._names = self._counts, {}, Counter()
        for (bucket, hour), counts in pending.items():
            name = f"{self._ns}:served:{bucket}:{hour}"
            try:
                async with self._redis.pipeline(transaction=False) as pipe:
                    for field, number in counts.items():
                        pipe.hincrby(name, field, number)
                    pipe.expire(name, KEPT_S)
                    await pipe.execute()
            except (RedisError, OSError) as error:
                log.warning("dependency_record_not_written", error=str(error))
                self._counts.setdefault((bucket, hour), Counter()).update(counts)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """What still needed the origin in a period."""

    bucket: str
    #: Seconds looked back.
    period_s: float
    misses: int
    #: (name, misses), most first.
    prefixes: tuple[tuple[str, int], ...]
    referrers: tuple[tuple[str, int], ...]
    agents: tuple[tuple[str, int], ...]
    #: (unix seconds of the hour's begin, misses), oldest first; hours without a miss are 0.
    curve: tuple[tuple[int, int], ...]
    #: Unix seconds when the curve is expected to be below one miss an hour; None when it does not fall.
    expected_zero: float | None


async def dependency(
    redis: Redis, bucket: str, *, namespace: str, period_s: float, now: float | None = None
) -> Dependency:
    """Sum the record of a bucket over the last `period_s` seconds, in whole hours."""
    now = time.time() if now is None else now
    last = int(now) // 3600
    hours = range(last - max(1, math.ceil(period_s / 3600)) + 1, last + 1)
    async with redis.pipeline(transaction=False) as pipe:
        for hour in hours:
            pipe.hgetall(f"{namespace}:served:{bucket}:{hour}")
        rows = cast("list[dict[str, str]]", await pipe.execute())
    kinds: dict[str, Counter[str]] = {kind: Counter() for kind in "pra"}
    curve: list[tuple[int, int]] = []
    for hour, row in zip(hours, rows, strict=True):
        curve.append((hour * 3600, int(row.get("n|", 0))))
        for field, number in row.items():
            kind, _, name = field.partition("|")
            if kind in kinds:
                kinds[kind][name] += int(number)
    return Dependency(
        bucket=bucket,
        period_s=period_s,
        misses=sum(number for _, number in curve),
        prefixes=tuple(kinds["p"].most_common(50)),
        referrers=tuple(kinds["r"].most_common(50)),
        agents=tuple(kinds["a"].most_common(50)),
        curve=tuple(curve),
        expected_zero=expected_zero(curve, now=now),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decay:
    """An exponential: the logarithm of the hours' misses is `level` at `hour` and falls by `per_hour`."""

    hour: float
    level: float
    per_hour: float

    def misses(self, at: float) -> float:
        """Misses an hour that it tells for a time in unix seconds."""
        return max(0.0, math.expm1(min(self.level - self.per_hour * (at / 3600 - self.hour), 700.0)))

    @property
    def ends_at(self) -> float:
        """Unix time at which it falls below one an hour."""
        return (self.hour + (self.level - math.log(2)) / self.per_hour) * 3600


def expected_zero(curve: Sequence[tuple[int, int]], *, now: float) -> float | None:
    """When misses fall below one an hour, by `fitted`; None when nobody can say. PURE."""
    found = fitted(curve, now=now)
    return None if found is None else max(found.ends_at, now)


def fitted(curve: Sequence[tuple[int, int]], *, now: float) -> Decay | None:
    """An exponential through the whole hours of the curve, as (unix seconds, misses). PURE.

    Least squares on the logarithm of misses + 1, because migrations cool down exponentially. None when there
    are fewer than three whole hours with misses, or they do not fall.
    """
    points = [(at / 3600, math.log1p(number)) for at, number in curve if at + 3600 <= now]
    while points and points[0][1] == 0:
        points.pop(0)
    if len(points) < 3:
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    if slope >= -1e-9:
        return None
    return Decay(hour=mean_x, level=mean_y, per_hour=-slope)
