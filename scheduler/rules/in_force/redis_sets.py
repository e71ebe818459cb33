"""Rule sets in Redis: their keys, and the one script that changes them.

Owns the key schema, atomicity, owners, versions and the history. Knows nothing of who keeps a copy
(`scheduler.rules.in_force.repository`). A change is one Lua script, so a reader sees the old set or the new
one (SEMANTICS.md section 2.7), and two writers cannot mix.

Key schema (ledger database; `ns` is `broker.namespace`)::

    ns:rules:epoch             string  the version of the last change of any bucket; every process polls this
    one key ns:rules:versions          hash    bucket → version of its last change ns:rules:set:<bucket>
    hash    version, owner (file|api), digest, deleted (0|1), who, how, at, content (JSON)
    ns:rules:history:<bucket>  list    the last 20 versions, newest first: JSON of the same fields
    ns:rule-epochs:<bucket>    hash    what workers read: see `workers.ledger.rule_epochs`
    ns:back:routes             hash    likewise: see `workers.ledger.back`

Versions grow over all buckets together, so those of one bucket have gaps. A deleted set keeps its record, so
that a bucket *without* one means that Redis lost it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import orjson
from redis.exceptions import RedisError

from scheduler.rules.in_force.stored import Change, decode_content, encode_content, job_fingerprint
from scheduler.rules.model import SourceFormat
from scheduler.rules.write_back import routes_of
from workers.back_routes import encode_routes
from workers.errors import BrokerUnavailable, FerrymanError
from workers.ledger.back import routes_key
from workers.ledger.rule_epochs import rule_epochs_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from scheduler.rules.model import Owner, Rule
    from scheduler.rules.xml_tree import XmlElement

#: Versions kept for `history` and `rollback`.
HISTORY_KEPT = 20

# KEYS: epoch, versions, set, history, rule-epochs, routes of the way back
# ARGV: bucket, owner, digest, deleted, who, how, at, content, expected version or '', take over (0|1), floor,
#       history kept, routes of the way back or '', then name and fingerprint of every rule
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
for i = 14, #ARGV, 2 do
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
if ARGV[13] == '' then
  redis.call('HDEL', KEYS[6], ARGV[1])
else
  redis.call('HSET', KEYS[6], ARGV[1], ARGV[13])
end
return {'changed', version}
"""


class OwnedByFile(FerrymanError):
    """The bucket's rules stand in the configuration file; the API may only read them (SEMANTICS.md W9)."""

    def __init__(self, bucket: str) -> None:
        super().__init__(f"the rules of bucket {bucket} stand in the configuration file; change them there")


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
class NewSet:
    """What is to be put in force; `rules` None deletes."""

    bucket: str
    rules: tuple[Rule, ...] | None
    owner: Owner
    who: str
    how: str
    source: SourceFormat = SourceFormat.YAML
    website: tuple[XmlElement, ...] = ()
    #: Refuse the change when another version is in force; 0 means none.
    expected_version: int | None = None
    #: The file gives its bucket up.
    take_over: bool = False


@contextlib.asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Errors of the client become BrokerUnavailable."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise BrokerUnavailable(f"Redis does not answer: {error}") from error


class RuleSets:
    """The rule sets of one namespace; `redis` decodes answers to str. Raises what the client raises."""

    def __init__(self, redis: Redis, *, namespace: str) -> None:
        self._redis = redis
        self._namespace = namespace
        self._publish = redis.register_script(_PUBLISH)

    async def epoch(self) -> str:
        """The version of the last change of any bucket; empty before the first."""
        return str(await self._redis.get(self._key("epoch")) or "")

    async def versions(self) -> dict[str, int]:
        """The version of the last change of every bucket, deletions included."""
        found = cast("dict[str, str]", await self._redis.hgetall(self._key("versions")))
        return {bucket: int(version) for bucket, version in found.items()}

    async def latest(self, bucket: str) -> Change | None:
        """The last change of a bucket; None when there is no record of one.

        Raises:
            WireError: it was written by a newer Ferryman.
        """
        fields = cast("dict[str, Any]", await self._redis.hgetall(self._set_key(bucket)))
        return _change(bucket, fields) if fields else None

    async def history(self, bucket: str) -> tuple[Change, ...]:
        """The last versions, newest first, at most 20."""
        entries = await self._redis.lrange(self._history_key(bucket), 0, HISTORY_KEPT - 1)
        return tuple(_change(bucket, orjson.loads(entry)) for entry in entries)

    async def publish(self, new: NewSet, *, at: float, floor: int) -> Replaced:
        """Put a set in force, unless it is in force already.

        `at` is Unix seconds; `floor` is a version that was seen before: the new one is above it, also when
        Redis has lost its count.

        Raises:
            OwnedByFile, VersionConflict: nothing was changed.
        """
        content, digest = encode_content(new.rules or (), new.source, new.website)
        names = [part for rule in new.rules or () for part in (rule.name, job_fingerprint(rule, new.owner))]
        outcome, found = await self._publish(
            keys=[
                self._key("epoch"),
                self._key("versions"),
                self._set_key(new.bucket),
                self._history_key(new.bucket),
                rule_epochs_key(self._namespace, new.bucket),
                routes_key(self._namespace),
            ],
            args=[
                new.bucket, new.owner, digest, int(new.rules is None), new.who, new.how, repr(at), content,
                "" if new.expected_version is None else new.expected_version, int(new.take_over),
                floor, HISTORY_KEPT, encode_routes(routes_of(new.rules or (), new.owner)), *names,
            ],
        )  # fmt: skip
        version = int(found)
        if outcome == "owned":
            raise OwnedByFile(new.bucket)
        if outcome == "conflict":
            raise VersionConflict(
                f"bucket {new.bucket}: version {version} is in force, not {new.expected_version}",
                version=version,
            )
        return Replaced(version=version, changed=outcome == "changed")

    def _key(self, name: str) -> str:
        return f"{self._namespace}:rules:{name}"

    def _set_key(self, bucket: str) -> str:
        return self._key(f"set:{bucket}")

    def _history_key(self, bucket: str) -> str:
        return self._key(f"history:{bucket}")


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
