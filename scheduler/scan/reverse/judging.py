"""What is to be brought of some keys: what the origin lacks, has older, or has although it was deleted.

Owns the counts of the keys that were looked at, and the few questions that listings leave open.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from scheduler.scan.inventory.entry import Entry
from scheduler.scan.reverse.sides import same
from workers.ledger.back import DELETED, TOLD, WRITTEN
from workers.ledger.claims import DELETED as BURIED
from workers.ledger.names import Named
from workers.store.metadata import KEY_SHA256

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.runtime import Services
    from scheduler.scan.compare.compare import Groups, Selection
    from scheduler.scan.compare.merge import Pair
    from scheduler.scan.record.state import ScanOptions
    from workers.store.model import ListedObject

    #: What the origin has of a key, and what the store has.
    Both = Pair[Entry, ListedObject]

_LOOKS_AT_ONCE: Final = 32


@dataclass(slots=True, kw_only=True)
class Judged:
    """What some keys came to."""

    #: (group, what) -> number; what: as `Counts`.
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    names: list[Named] = field(default_factory=list)
    #: (group, how) -> keys to be brought; how: WRITTEN, DELETED or TOLD.
    wanted: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    #: Keys that only the origin has, and keys of the store.
    extra: int = 0
    read: int = 0


class Judge:
    """Looks at keys of one bucket."""

    def __init__(
        self, services: Services, options: ScanOptions, selection: Selection, groups: Groups
    ) -> None:
        self._services = services
        self._options = options
        self._selection = selection
        self._groups = groups

    async def judged(self, step: Sequence[Both]) -> Judged:
        """Count these keys, and say which of them are to be brought."""
        found = Judged()
        looks = await self._looks(step)
        for theirs, ours in step:
            if ours is None:
                assert theirs is not None
                if looks[theirs.key]:
                    group = self._groups.of(theirs.key)
                    found.counts[group, "found"] += 1
                    found.wanted[group, DELETED].append(theirs.key)
                else:
                    found.extra += 1
                continue
            self._judge(found, theirs, ours, pulled=looks[ours.key])
        for (group, _), keys in found.wanted.items():
            found.counts[group, "sent"] += len(keys)
        return found

    def _judge(self, found: Judged, theirs: Entry | None, ours: ListedObject, *, pulled: bool) -> None:
        key, group = ours.key, self._groups.of(ours.key)
        found.read += 1
        found.counts[group, "found"] += 1
        if not self._selection.wants(Entry(key, ours.size, None, ours.last_modified or None)):
            found.counts[group, "excluded"] += 1
            found.names.append(Named("excluded", key))
        elif theirs is None:
            found.wanted[group, WRITTEN].append(key)
        elif pulled or self._same(ours, theirs):
            found.counts[group, "present"] += 1
        elif ours.last_modified > (theirs.mtime or 0.0):
            found.wanted[group, TOLD].append(key)
        else:
            found.counts[group, "differs"] += 1
            found.names.append(Named("differs", key, "newer_at_origin"))

    def _same(self, ours: ListedObject, theirs: Entry) -> bool:
        return same(ours, theirs, self._options.compare)

    async def _looks(self, step: Sequence[Both]) -> dict[str, bool]:
        """Of keys that only the origin has: was it deleted by a client? Of different ones: was it pulled?"""
        gate = asyncio.Semaphore(_LOOKS_AT_ONCE)
        bucket, services = self._options.bucket, self._services

        async def pulled(key: str) -> bool:
            async with gate:
                info = await services.store.head(bucket, key)
                mine = sha256(key.encode()).hexdigest()
                return info is not None and info.user_meta.get(KEY_SHA256) == mine

        strange = [theirs.key for theirs, ours in step if ours is None and theirs is not None]
        claims = services.ledger.claims
        marks = await claims.tombstones_of([(bucket, key) for key in strange]) if strange else []
        found = defaultdict(bool, zip(strange, map(_by_a_client, marks), strict=True))
        different = [
            ours.key
            for theirs, ours in step
            if ours is not None and theirs is not None and not self._same(ours, theirs)
        ]
        answers = await asyncio.gather(*map(pulled, different))
        found.update(zip(different, answers, strict=True))
        return found


def _by_a_client(mark: str | None) -> bool:
    """Whether a tombstone says that the key was deleted through a gateway."""
    return mark is not None and (mark.startswith(BURIED) or mark == "deleted")
