"""The rule sets in force: in Redis for everybody, in memory for every request.

Owns versions, owners, the history, and the refresh of every process's copy. Knows no document format: a set
comes as the canonical model and carries what its own format needs for a faithful GET. A change is one Lua
script, so a reader sees the old set or the new one (SEMANTICS.md section 2.7), and two writers cannot mix.

Key schema (ledger database; `ns` is `broker.namespace`)::

    ns:rules:epoch             string  version of the last change of any bucket; every process polls this one
    ns:rules:versions          hash    bucket → version of its last change
    ns:rules:set:<bucket>      hash    version, owner (file|api), digest, deleted (0|1), who, how, at,
                                       content (JSON)
    ns:rules:history:<bucket>  list    the last 20 versions, newest first: JSON of the same fields
    ns:rule-epochs:<bucket>    hash    what workers read: see `workers.rule_epochs`

Versions grow over all buckets together, so those of one bucket have gaps. A deleted set keeps its record, so
that a bucket *without* one means that Redis lost it: processes then go on with what they have in memory,
file-owned sets are written again by the next process that starts (`scheduler.rules.apply`) or by one that
held them back because Redis was away, and sets of the API must be put again, or restored from a backup of
Redis. While Redis does not answer, the last snapshot stays in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import orjson
import structlog
from redis.exceptions import RedisError

from scheduler.rules.model import RuleSet, SourceFormat
from scheduler.rules.retired import RetiredRules
from scheduler.rules.stored import Change, decode_content, encode_content, job_fingerprint
from workers.background import end
from workers.errors import BrokerUnavailable, FerrymanError, WireError
from workers.rule_epochs import IN_FORCE, rule_epochs_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from redis.asyncio import Redis

    from scheduler.rules.model import Owner, Rule
    from scheduler.rules.xml_tree import XmlElement

#: Versions kept for `history` and `rollback`.
HISTORY_KEPT = 20
#: Seconds between two looks at the epoch; a change is seen everywhere within twice this, far below 2 s.
POLL_S = 0.5

log = structlog.get_logger(__name__)

# KEYS: epoch, versions, set, history, rule-epochs
# ARGV: bucket, owner, digest, deleted, who, how, at, content, expected version or '', take over (0|1), floor,
#       history kept, then name and fingerprint of every rule
_PUBLISH = """
local now = redis.call('HMGET', KEYS[3], 'version', 'owner', 'digest', 'deleted')
local version = now[1] or '0'
if now[2] == 'file' and ARGV[2] == 'api' and ARGV[10] == '0' then return {'owned', version} end
if ARGV[9] ~= '' and ARGV[9] ~= version then return {'conflict', version} end
if now[1] and now[2] == ARGV[2] and now[3] == ARGV[3] and now[4] == ARGV[4] then return {'same', version} end
local epoch = redis.call('INCR', KEYS[1])
if epoch <= tonumber(ARGV[11]) then
  epoch = tonumber(ARGV[11]) + 1
  redis.call('SET', KEYS[1], epoch)
end
version = string.format('%d', epoch)
redis.call('HSET', KEYS[2], ARGV[1], version)
redis.call('HSET', KEYS[3], 'version', version, 'owner', ARGV[2], 'digest', ARGV[3], 'deleted', ARGV[4],
  'who', ARGV[5], 'how', ARGV[6], 'at', ARGV[7], 'content', ARGV[8])
redis.call('LPUSH', KEYS[4], cjson.encode({version = version, owner = ARGV[2], digest = ARGV[3],
  deleted = ARGV[4], who = ARGV[5], how = ARGV[6], at = ARGV[7], content = ARGV[8]}))
redis.call('LTRIM', KEYS[4], 0, tonumber(ARGV[12]) - 1)
local kept = {[''] = true}
for i = 13, #ARGV, 2 do
  local name, fingerprint = ARGV[i], ARGV[i + 1]
  kept[name] = true
  local old = redis.call('HGET', KEYS[5], name)
  if not old or string.match(old, ' (.*)$') ~= fingerprint then
    redis.call('HSET', KEYS[5], name, version .. ' ' .. fingerprint)
  end
end
for _, name in ipairs(redis.call('HKEYS', KEYS[5])) do
  if not kept[name] then redis.call('HDEL', KEYS[5], name) end
end
redis.call('HSET', KEYS[5], '', version)
return {'changed', version}
"""


class OwnedByFile(FerrymanError):
    """The bucket's rules stand in the configuration file; the API may only read them (SEMANTICS.md W9)."""


class VersionConflict(FerrymanError):
    """The set in force is not the expected one; `version` is what it is."""

    def __init__(self, message: str, *, version: int) -> None:
        super().__init__(message)
        self.version = version


class UnknownVersion(FerrymanError):
    """The history has no such version (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """What a change came to: the version in force, and whether anything changed."""

    version: int
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A file-owned set that waits for Redis."""

    rules: tuple[Rule, ...]
    who: str
    how: str


class RulesRepository:
    """All rule sets; `redis` is a client of the ledger database that decodes answers to str.

    `start` loads and keeps the copy fresh until `close`. `snapshot` never does I/O.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        namespace: str = "ferryman",
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._namespace = namespace
        self._poll_s = poll_s
        self._clock = clock
        self.retired = RetiredRules(redis, namespace=namespace)
        self._publish = redis.register_script(_PUBLISH)
        self._sets: dict[str, RuleSet] = {}
        self._versions: dict[str, int] = {}
        self._epoch: str | None = None
        self._held: dict[str, _Held] = {}
        self._lost: frozenset[str] = frozenset()
        self._away = False
        self._closing = False
        self._synced_at: float | None = None
        self._task: asyncio.Task[None] | None = None
        #: What was read before another's write must not be taken after it.
        self._lock = asyncio.Lock()

    # ------------------------------------------------------------ in memory

    def snapshot(self, bucket: str) -> RuleSet | None:
        """The set in force, from memory; None when the bucket has no rules."""
        return self._sets.get(bucket)

    def buckets(self) -> tuple[str, ...]:
        """Buckets that have rules, from memory, sorted."""
        return tuple(sorted(self._sets))

    @property
    def synced(self) -> bool:
        """Whether the copy was read from Redis at least once, and the last look succeeded."""
        return self._synced_at is not None and not self._away

    def age_s(self) -> float | None:
        """Seconds since the copy was last known to be fresh; None before the first look."""
        return None if self._synced_at is None else max(0.0, self._clock() - self._synced_at)

    # ------------------------------------------------------------ keeping fresh

    async def start(self) -> None:
        """Load everything and keep it fresh. Without Redis it starts empty and goes on looking."""
        if self._task is None:
            self._closing = False
            await self._look()
            self._task = asyncio.create_task(self._watch(), name="rules-watch")

    async def close(self) -> None:
        """Stop looking; the copy stays as it is."""
        self._closing = True
        if self._task is not None:
            await end(self._task)
            self._task = None

    async def refresh(self) -> None:
        """Look at once.

        Raises:
            BrokerUnavailable: Redis does not answer; the copy is kept.
        """
        async with self._translated():
            await self._load()

    async def _watch(self) -> None:
        while not self._closing:
            await asyncio.sleep(self._poll_s)
            await self._look()

    async def _look(self) -> None:
        """One round of the watch: whatever happens, the copy stays usable and the next round comes."""
        try:
            await self._load()
            for bucket in tuple(self._held):
                await self._release(bucket)
        except (RedisError, OSError, BrokerUnavailable) as error:
            if not self._away:
                log.warning("rules_not_refreshed", error=str(error), kept=len(self._sets))
            self._away = True
        except WireError as error:
            log.error("rules_not_readable", error=str(error))  # noqa: TRY400 - the message says it all

    async def _load(self) -> None:
        epoch = str(await self._redis.get(self._key("epoch")) or "")
        if epoch != self._epoch:
            async with self._lock:
                await self._load_changed()
            self._epoch = epoch
        if self._away:
            log.info("rules_refreshed_again", buckets=len(self._sets))
        self._away = False
        self._synced_at = self._clock()

    async def _load_changed(self) -> None:
        found = cast("dict[str, str]", await self._redis.hgetall(self._key("versions")))
        versions = {bucket: int(version) for bucket, version in found.items()}
        changed = [bucket for bucket, version in versions.items() if self._versions.get(bucket) != version]
        for bucket in changed:
            self._take(bucket, await self._fields(bucket))
        lost = frozenset(self._sets) - versions.keys() - self._held.keys()
        if lost - self._lost:
            log.error("rules_lost_in_redis", buckets=sorted(lost), kept="in memory until this process ends")
        self._lost = lost
        if changed:
            log.info("rules_refreshed", buckets=sorted(changed))

    def _take(self, bucket: str, fields: dict[str, str]) -> None:
        if not fields:
            return
        change = _change(bucket, fields)
        if change.ruleset is None:
            self._sets.pop(bucket, None)
        else:
            self._sets[bucket] = change.ruleset
        self._versions[bucket] = change.version

    # ------------------------------------------------------------ reading

    async def read(self, bucket: str) -> RuleSet | None:
        """The set in force as Redis has it now; from memory while Redis does not answer."""
        try:
            async with self._lock:
                self._take(bucket, await self._fields(bucket))
        except (RedisError, OSError) as error:
            log.warning("rules_read_from_memory", bucket=bucket, error=str(error))
        return self.snapshot(bucket)

    async def owned_by_file(self) -> tuple[str, ...]:
        """Buckets whose rules in force came from a configuration file, as Redis has it now.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        await self.refresh()
        return tuple(sorted(name for name, found in self._sets.items() if found.owner == "file"))

    async def history(self, bucket: str) -> tuple[Change, ...]:
        """The last versions, newest first, at most 20; empty when the bucket never had rules.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        async with self._translated():
            entries = await self._redis.lrange(self._history_key(bucket), 0, HISTORY_KEPT - 1)
        return tuple(_change(bucket, orjson.loads(entry)) for entry in entries)

    # ------------------------------------------------------------ changing

    async def replace(
        self,
        bucket: str,
        rules: Sequence[Rule],
        *,
        owner: Owner,
        who: str,
        how: str,
        source: SourceFormat = SourceFormat.YAML,
        website: tuple[XmlElement, ...] = (),
        expected_version: int | None = None,
    ) -> Replaced:
        """Put a whole set in force; the same document again changes nothing.

        `expected_version` refuses the change when another one came between (0: there must be none yet).

        Raises:
            OwnedByFile: `owner` is `api` and the file has this bucket's rules (W9).
            VersionConflict: see `expected_version`.
            BrokerUnavailable: Redis does not answer.
        """
        return await self._write(
            bucket,
            tuple(rules),
            owner=owner,
            who=who,
            how=how,
            source=source,
            website=website,
            expected_version=expected_version,
        )

    async def delete(
        self, bucket: str, *, owner: Owner, who: str, how: str, expected_version: int | None = None
    ) -> bool:
        """Withdraw all rules of a bucket; False when it had none. A bucket is then owned by the API.

        Raises:
            OwnedByFile, VersionConflict, BrokerUnavailable: as `replace`.
        """
        async with self._translated():
            current = await self._redis.hmget(self._set_key(bucket), ["deleted", "owner"])
        if current[0] is None or (current[0] == "1" and current[1] == "api"):
            self._held.pop(bucket, None)
            return False
        replaced = await self._write(
            bucket,
            None,
            owner="api",
            who=who,
            how=how,
            take_over=owner == "file",
            expected_version=expected_version,
        )
        return replaced.changed and current[0] == "0"

    async def rollback(self, bucket: str, version: int, *, who: str) -> Replaced:
        """Put an earlier version in force again, as a new version.

        Raises:
            UnknownVersion: it is not among the last 20.
            OwnedByFile, BrokerUnavailable: as `replace`.
        """
        past = next((change for change in await self.history(bucket) if change.version == version), None)
        if past is None:
            raise UnknownVersion(f"bucket {bucket}: no version {version} among the last {HISTORY_KEPT}")
        how = f"rollback to {version}"
        if past.ruleset is None:
            return await self._write(bucket, None, owner="api", who=who, how=how)
        return await self._write(
            bucket,
            past.ruleset.rules,
            owner="api",
            who=who,
            how=how,
            source=past.ruleset.source,
            website=past.ruleset.website,
        )

    def hold(self, bucket: str, rules: Sequence[Rule], *, who: str, how: str) -> None:
        """Put a file-owned set in force in this process now, and in Redis as soon as it answers."""
        self._held[bucket] = _Held(rules=tuple(rules), who=who, how=how)
        self._sets[bucket] = RuleSet(bucket=bucket, version=0, owner="file", rules=tuple(rules))

    async def _release(self, bucket: str) -> None:
        held = self._held[bucket]
        rules = await self.retired.kept(bucket, held.rules)
        await self._write(bucket, rules, owner="file", who=held.who, how=held.how)
        self._held.pop(bucket, None)

    async def _write(
        self,
        bucket: str,
        rules: tuple[Rule, ...] | None,
        *,
        owner: Owner,
        who: str,
        how: str,
        source: SourceFormat = SourceFormat.YAML,
        website: tuple[XmlElement, ...] = (),
        expected_version: int | None = None,
        take_over: bool = False,
    ) -> Replaced:
        content, digest = encode_content(rules or (), source, website)
        names = [part for rule in rules or () for part in (rule.name, job_fingerprint(rule, owner))]
        async with self._translated(), self._lock:
            outcome, found = await self._publish(
                keys=[
                    self._key("epoch"),
                    self._key("versions"),
                    self._set_key(bucket),
                    self._history_key(bucket),
                    rule_epochs_key(self._namespace, bucket),
                ],
                args=[
                    bucket, owner, digest, int(rules is None), who, how, repr(self._clock()), content,
                    "" if expected_version is None else expected_version, int(take_over),
                    max(self._versions.values(), default=0), HISTORY_KEPT, *names,
                ],
            )  # fmt: skip
            version = int(found)
            if outcome == "owned":
                raise OwnedByFile(
                    f"the rules of bucket {bucket} stand in the configuration file; change them there"
                )
            if outcome == "conflict":
                raise VersionConflict(
                    f"bucket {bucket}: version {version} is in force, not {expected_version}", version=version
                )
            self._held.pop(bucket, None)
            self._take(bucket, await self._fields(bucket))
        changed = outcome == "changed"
        if changed:
            log.info(
                "rules_changed",
                bucket=bucket,
                version=version,
                owner=owner,
                who=who,
                how=how,
                rules=len(rules or ()),
            )
        return Replaced(version=version, changed=changed)

    # ------------------------------------------------------------ keys and errors

    async def _fields(self, bucket: str) -> dict[str, str]:
        return cast("dict[str, str]", await self._redis.hgetall(self._set_key(bucket)))

    def _key(self, name: str) -> str:
        return f"{self._namespace}:rules:{name}"

    def _set_key(self, bucket: str) -> str:
        return self._key(f"set:{bucket}")

    def _history_key(self, bucket: str) -> str:
        return self._key(f"history:{bucket}")

    @contextlib.asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis does not answer: {error}") from error


def _change(bucket: str, fields: dict[str, Any]) -> Change:
    version = int(fields["version"])
    owner: Owner = "file" if fields["owner"] == "file" else "api"
    ruleset = (
        None
        if fields["deleted"] == "1"
        else decode_content(fields["content"], bucket=bucket, version=version, owner=owner)
    )
    return Change(
        bucket=bucket,
        version=version,
        at=float(fields["at"]),
        who=fields["who"],
        how=fields["how"],
        owner=owner,
        ruleset=ruleset,
    )


__all__ = [
    "HISTORY_KEPT",
    "IN_FORCE",
    "Change",
    "OwnedByFile",
    "Replaced",
    "RulesRepository",
    "UnknownVersion",
    "VersionConflict",
]
