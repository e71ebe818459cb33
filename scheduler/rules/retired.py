"""Rules that were retired by the gate: remembered, so that a configuration file does not bring them back.

Owns the marks. A mark names a rule by its content: a rule that is edited in the file afterwards is a new rule
and comes into force; the very same one stays retired until it is rolled back.

Key schema (ledger database)::

    ns:rules:retired:<bucket>  hash  rule name -> JSON {digest, at, by, report, version}
"""

from __future__ import annotations

import hashlib
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

    def _name(self, bucket: str) -> str:
        return f"{self._ns}:rules:retired:{bucket}"

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
