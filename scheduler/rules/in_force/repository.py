"""The rule sets in force: in Redis for everybody, in memory for every request.

Owns every process's copy and how it stays fresh. Knows no document format: a set comes as the canonical model
and carries what its own format needs for a faithful GET. Keys, versions and atomicity are
`scheduler.rules.in_force.redis_sets`'.

While Redis does not answer, the last snapshot stays in force. When Redis lost its data, processes go on with
what they have in memory; file-owned sets are written again by the next process that starts
(`scheduler.rules.in_force.apply`), or by one that held them back because Redis was away. Sets of the API must
be put again, or restored from a backup of Redis.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from scheduler.rules.in_force.buckets import PublishedBuckets
from scheduler.rules.in_force.redis_sets import (
    HISTORY_KEPT,
    NewSet,
    OwnedByFile,
    Replaced,
    RuleSets,
    UnknownVersion,
    VersionConflict,
    translated,
)
from scheduler.rules.in_force.retired import RetiredRules
from scheduler.rules.model import RuleSet, SourceFormat
from workers.background import end
from workers.errors import BrokerUnavailable, WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from scheduler.rules.in_force.stored import Change
    from scheduler.rules.model import Owner, Rule
    from scheduler.rules.xml_tree import XmlElement

#: Seconds between two looks at the epoch; a change is seen everywhere within twice this, far below 2 s.
POLL_S = 0.5
#: Seconds that a start waits for the first look.
FIRST_LOOK_S = 3.0

log = structlog.get_logger(__name__)


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
        self._store = RuleSets(redis, namespace=namespace)
        #: Rules that the gate retired: a configuration file does not bring them back.
        self.retired = RetiredRules(redis, namespace=namespace)
        #: Buckets that a file brought since processes were started.
        self.published = PublishedBuckets(redis, namespace=namespace)
        self._poll_s = poll_s
        self._clock = clock
        self._sets: dict[str, RuleSet] = {}
        self._versions: dict[str, int] = {}
        self._epoch: str | None = None
        #: File-owned sets that wait for Redis.
        self._held: dict[str, NewSet] = {}
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
        """Load everything and keep it fresh. Without Redis it starts empty and goes on looking.

        So it does when Redis takes the connection and says nothing for `FIRST_LOOK_S`.
        """
        if self._task is None:
            self._closing = False
            first = asyncio.create_task(self._look(), name="rules-first-look")
            await asyncio.wait({first}, timeout=FIRST_LOOK_S)
            self._task = asyncio.create_task(self._watch(first), name="rules-watch")

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
        async with translated():
            await self._load()

    async def _watch(self, first: asyncio.Task[None]) -> None:
        await first
        while not self._closing:
            await asyncio.sleep(self._poll_s)
            await self._look()

    async def _look(self) -> None:
        """One round of the watch: whatever happens, the copy stays usable and the next round comes."""
        try:
            await self._load()
            for held in tuple(self._held.values()):
                await self._write(held)
        except (RedisError, OSError, BrokerUnavailable) as error:
            if not self._away:
                log.warning("rules_not_refreshed", error=str(error), kept=len(self._sets))
            self._away = True
        except WireError as error:
            log.error("rules_not_readable", error=str(error))  # noqa: TRY400 - the message says it all

    async def _load(self) -> None:
        await self.retired.refresh()
        await self.published.refresh()
        epoch = await self._store.epoch()
        if epoch != self._epoch:
            async with self._lock:
                await self._load_changed()
            self._epoch = epoch
        if self._away:
            log.info("rules_refreshed_again", buckets=len(self._sets))
        self._away = False
        self._synced_at = self._clock()

    async def _load_changed(self) -> None:
        versions = await self._store.versions()
        changed = [bucket for bucket, version in versions.items() if self._versions.get(bucket) != version]
        for bucket in changed:
            self._take(bucket, await self._store.latest(bucket))
        lost = frozenset(self._sets) - versions.keys() - self._held.keys()
        if lost - self._lost:
            log.error("rules_lost_in_redis", buckets=sorted(lost), kept="in memory until this process ends")
        self._lost = lost
        if changed:
            log.info("rules_refreshed", buckets=sorted(changed))

    def _take(self, bucket: str, change: Change | None) -> None:
        if change is None:
            return
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
                self._take(bucket, await self._store.latest(bucket))
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
        async with translated():
            return await self._store.history(bucket)

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
            NewSet(
                bucket=bucket,
                rules=tuple(rules),
                owner=owner,
                who=who,
                how=how,
                source=source,
                website=website,
                expected_version=expected_version,
            )
        )

    async def delete(
        self, bucket: str, *, owner: Owner, who: str, how: str, expected_version: int | None = None
    ) -> bool:
        """Withdraw all rules of a bucket; False when it had none. A bucket is then owned by the API.

        Raises:
            OwnedByFile, VersionConflict, BrokerUnavailable: as `replace`.
        """
        async with translated():
            latest = await self._store.latest(bucket)
        self._held.pop(bucket, None)
        if latest is None or (latest.ruleset is None and latest.owner == "api"):
            return False
        new = NewSet(
            bucket=bucket,
            rules=None,
            owner="api",
            who=who,
            how=how,
            take_over=owner == "file",
            expected_version=expected_version,
        )
        return (await self._write(new)).changed and latest.ruleset is not None

    async def rollback(self, bucket: str, version: int, *, who: str) -> Replaced:
        """Put an earlier version in force again, as a new version.

        Raises:
            UnknownVersion: it is not among the last 20.
            OwnedByFile, BrokerUnavailable: as `replace`.
        """
        past = next((change for change in await self.history(bucket) if change.version == version), None)
        if past is None:
            raise UnknownVersion(f"bucket {bucket}: no version {version} among the last {HISTORY_KEPT}")
        new = NewSet(bucket=bucket, rules=None, owner="api", who=who, how=f"rollback to {version}")
        if past.ruleset is not None:
            found = past.ruleset
            new = replace(new, rules=found.rules, source=found.source, website=found.website)
        return await self._write(new)

    def hold(self, bucket: str, rules: Sequence[Rule], *, who: str, how: str) -> None:
        """Put a file-owned set in force in this process now, and in Redis as soon as it answers."""
        self._held[bucket] = NewSet(bucket=bucket, rules=tuple(rules), owner="file", who=who, how=how)
        self._sets[bucket] = RuleSet(bucket=bucket, version=0, owner="file", rules=tuple(rules))

    async def _write(self, new: NewSet) -> Replaced:
        async with translated(), self._lock:
            floor = max(self._versions.values(), default=0)
            replaced = await self._store.publish(new, at=self._clock(), floor=floor)
            self._held.pop(new.bucket, None)
            self._take(new.bucket, await self._store.latest(new.bucket))
        if replaced.changed:
            log.info(
                "rules_changed",
                bucket=new.bucket,
                version=replaced.version,
                owner=new.owner,
                who=new.who,
                how=new.how,
                rules=len(new.rules or ()),
            )
        return replaced


__all__ = [
    "HISTORY_KEPT",
    "OwnedByFile",
    "Replaced",
    "RulesRepository",
    "UnknownVersion",
    "VersionConflict",
]
