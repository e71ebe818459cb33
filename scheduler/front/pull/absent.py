"""Keys that no origin has, remembered in this process for a short time (L14).

Owns the near half of the negative cache; the far half is the ledger's and is shared by all processes.
Bounded in entries and in bytes; the clock is a parameter. Knows no store and no origin.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.origin.fetch.fetcher import OriginAnswer

#: Bytes of transparent 404 bodies that are kept, all together (A6).
MAX_BODY_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class AbsentKey:
    """One remembered key."""

    #: Clock time at which it is forgotten.
    until: float
    #: Rule and version that looked for it: another rule may know another origin.
    rule: str
    epoch: int
    #: The origin's own answer, where the rule shows it (A6).
    answer: OriginAnswer | None
    #: Only a HEAD said so: no proof for anybody who wants the object.
    by_head: bool = False


class AbsentCache:
    """At most `size` keys; the oldest go first, and those whose time is over."""

    def __init__(self, size: int, *, clock: Callable[[], float]) -> None:
        self._size = size
        self._clock = clock
        self._entries: OrderedDict[tuple[str, str], AbsentKey] = OrderedDict()
        self._body_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, bucket: str, key: str, *, rule: str, epoch: int, head: bool = False) -> AbsentKey | None:
        """What is remembered of a key under this version of a rule, or None; for a `head`, of HEADs, too."""
        found = self._entries.get((bucket, key))
        if found is None:
            return None
        if found.until <= self._clock() or found.rule != rule or found.epoch != epoch:
            self.forget(bucket, key)
            return None
        if found.by_head and not head:
            return None
        metrics.negative_cache_hit()
        return found

    def remember(
        self,
        bucket: str,
        key: str,
        *,
        rule: str,
        epoch: int,
        ttl_s: float,
        answer: OriginAnswer | None = None,
        by_head: bool = False,
    ) -> None:
        """Remember a key for `ttl_s` seconds; what a HEAD said takes the place of nothing better."""
        if ttl_s <= 0 or self._size <= 0:
            return
        if by_head and self.find(bucket, key, rule=rule, epoch=epoch) is not None:
            return
        self.forget(bucket, key)
        now = self._clock()
        self._entries[bucket, key] = AbsentKey(now + ttl_s, rule, epoch, answer, by_head)
        if answer is not None:
            self._body_bytes += len(answer.body)
        while self._entries:
            oldest, entry = next(iter(self._entries.items()))
            full = len(self._entries) > self._size or self._body_bytes > MAX_BODY_BYTES
            if not full and entry.until > now:  # what nobody asks for again is not kept for its sake
                break
            self.forget(*oldest)

    def forget(self, bucket: str, key: str) -> None:
        """The key is not known to be absent any more."""
        found = self._entries.pop((bucket, key), None)
        if found is not None and found.answer is not None:
            self._body_bytes -= len(found.answer.body)
