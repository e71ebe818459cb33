"""Rules that were retired by the gate: remembered, so that a configuration file does not bring them back.

Owns the marks, and the step before them: a share of a bucket's missing keys that fronts answer with 404
already, to see who complains. A mark names a rule by its content: a rule that is edited in the file
afterwards is a new rule and comes into force; the very same one stays retired until it is rolled back.

Key schema (ledger database)::

    ns:rules:retired:<bucket>  hash  rule name -> JSON {digest, at, by, report, version}
    ns:rules:dry-retired       hash  bucket -> share of its missing keys that are answered as if retired
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

import orjson
from pydantic import TypeAdapter

from scheduler.rules.model import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

_RULE: TypeAdapter[Rule] = TypeAdapter(Rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """One retired rule."""

    digest: str
    #: Unix seconds.
    at: float
    by: str
    #: Name of the report that says why.
    report: str
    #: Version of the rule set that had the rule: what a rollback restores.
    version: int


def rule_digest(rule: Rule) -> str:
    """Equal for rules that say the same."""
    wire = _RULE.dump_json(rule, exclude_defaults=True, exclude={"written", "line"})
    return hashlib.sha256(wire).hexdigest()[:32]


class RetiredRules:
    """The marks of every bucket."""

    def __init__(self, redis: Redis, *, namespace: str) -> None:
        self._redis = redis
        self._ns = namespace
        self._shares: dict[str, float] = {}

    def _name(self, bucket: str) -> str:
        return f"{self._ns}:rules:retired:{bucket}"

    def is_dry(self, bucket: str, key: str) -> bool:
        """Whether a missing key is to be answered as if its rule were retired: no I/O, always the same
        keys.
        """
        share = self._shares.get(bucket)
        return share is not None and zlib.crc32(key.encode("utf-8", "surrogateescape")) < share * 2**32

    async def refresh(self) -> None:
        """Read the shares again."""
        rows = cast("dict[str, str]", await self._redis.hgetall(f"{self._ns}:rules:dry-retired"))
        self._shares = {bucket: float(share) for bucket, share in rows.items()}

    async def set_share(self, bucket: str, share: float) -> None:
        """Answer that share (0 to 1) of a bucket's missing keys with 404; every front does within a
        second.
        """
        name = f"{self._ns}:rules:dry-retired"
        if share > 0:
            await self._redis.hset(name, bucket, repr(share))
        else:
            await self._redis.hdel(name, bucket)
        await self.refresh()

    async def read(self, bucket: str) -> dict[str, Retired]:
        """Retired rules by name."""
        rows = cast("dict[str, str]", await self._redis.hgetall(self._name(bucket)))
        return {name: Retired(**orjson.loads(row)) for name, row in rows.items()}

    async def mark(
        self, bucket: str, rules: Sequence[Rule], *, by: str, at: float, report: str, version: int
    ) -> None:
        """Mark rules as retired."""
        for rule in rules:
            mark = Retired(digest=rule_digest(rule), at=at, by=by, report=report, version=version)
            await self._redis.hset(self._name(bucket), rule.name, orjson.dumps(asdict(mark)))

    async def unmark(self, bucket: str, names: Sequence[str]) -> None:
        """Forget marks, so that the rules may come into force again."""
        if names:
            await self._redis.hdel(self._name(bucket), *names)

    async def kept(self, bucket: str, rules: Sequence[Rule]) -> tuple[Rule, ...]:
        """The rules that are not retired."""
        retired = await self.read(bucket)
        return tuple(
            rule
            for rule in rules
            if rule.name not in retired or retired[rule.name].digest != rule_digest(rule)
        )
