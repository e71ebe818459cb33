"""The list of one rule's origin, as keys of our bucket.

Owns the mapping of places and keys, which of the origin's keys are the rule's, and when a common prefix of
the origin has to be looked into: then the list goes on there key by key, so that a prefix is shown only for
a key that is. At most two requests a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.front.s3.listing.page import LOST
from scheduler.front.s3.listing.positions import behind_prefix, common_prefix
from scheduler.front.s3.listing.sides import Chunk
from scheduler.rules.keys import is_reserved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from scheduler.front.s3.listing.page import Entry
    from scheduler.rules.listable.routes import ListRoute


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a page is asked for."""

    prefix: str
    delimiter: str
    limit: int


#: Reads the origin's bucket: place, prefix, delimiter, limit; all in its own keys.
Read = "Callable[[str, str, str, int], Awaitable[Chunk]]"


class OriginList:
    """One rule's keys at its origin.

    Args:
        route: the rule.
        earlier: the rules that are judged before it.
        read: reads the origin's bucket from a place: `read(place, prefix, delimiter, limit)`.
        holds: whether our bucket can hold a key.
        buried_below: of directories, those below which there may be a tombstone.
    """

    def __init__(
        self,
        route: ListRoute,
        earlier: Sequence[ListRoute],
        *,
        read: Callable[[str, str, str, int], Awaitable[Chunk]],
        holds: Callable[[str, int], bool],
        buried_below: Callable[[Sequence[str]], Awaitable[set[str]]],
    ) -> None:
        self.route = route
        self._earlier = earlier
        self._read = read
        self._holds = holds
        self._buried_below = buried_below

    async def chunk(self, at: str, wanted: Wanted) -> Chunk:
        """All keys and common prefixes of the rule between a place and the chunk's end.

        Raises:
            OriginError, BudgetExhausted, OutOfOrder: the origin cannot be listed.
        """
        when, prefix = self.route.rule.when, wanted.prefix
        if not (prefix.startswith(when.prefix) or when.prefix.startswith(prefix)):
            return Chunk(items=[], until=None)
        scope = max(prefix, when.prefix, key=len)
        at = max(at, scope)
        if scope and at >= behind_prefix(scope):
            return Chunk(items=[], until=None)
        rolls = wanted.delimiter == "/" and prefix.startswith(when.prefix) and not when.suffix
        inside = common_prefix(at.removesuffix("\0"), prefix, "/") if rolls else None
        if not rolls or (inside is not None and at != inside):
            return await self._asked(at, scope, "", wanted.limit)
        rolled = await self._asked(at, scope, "/", wanted.limit)
        doubtful = await self._doubtful([name for name, entry in rolled.items if entry is None])
        if doubtful is None:
            return rolled
        before = [item for item in rolled.items if item[0] < doubtful]
        below = await self._asked(max(at, doubtful), scope, "", wanted.limit)
        return Chunk(items=before + below.items, until=below.until)

    async def _asked(self, at: str, scope: str, delimiter: str, limit: int) -> Chunk:
        route = self.route
        chunk = await self._read(route.at_origin(at), route.at_origin(scope), delimiter, limit)
        until = chunk.until
        if until is not None:
            until = route.here(until) if until.startswith(route.front) else None
        items = [
            (key, entry)
            for key, entry in ((route.here(name), entry) for name, entry in chunk.items)
            if (self._is_ours(key, entry) if entry is not None else self._may_hold(key))
        ]
        return Chunk(items=items, until=until)

    def _is_ours(self, key: str, entry: Entry) -> bool:
        """Whether a key is this rule's, and one that a pull would bring."""
        return (
            LOST not in key
            and self.route.holds(key)
            and not any(
                key.startswith(one.rule.when.prefix) and key.endswith(one.rule.when.suffix)
                for one in self._earlier
            )
            and self._holds(key, entry.size)
            and (
                self.route.rule.store.max_object_bytes is None
                or entry.size <= self.route.rule.store.max_object_bytes
            )
        )

    def _may_hold(self, above: str) -> bool:
        """Whether a common prefix can be one of this rule's keys."""
        return not (
            above.startswith("/")
            or is_reserved(above)
            or any(
                above.startswith(one.rule.when.prefix) and not one.rule.when.suffix for one in self._earlier
            )
        )

    async def _doubtful(self, prefixes: Sequence[str]) -> str | None:
        """The first of these prefixes below which there may be no key that is shown; None: all have one."""
        buried = await self._buried_below(prefixes) if prefixes else set()
        for above in prefixes:
            if (
                above in buried
                or not self._holds(above + "x", 1)
                or any(
                    one.rule.when.suffix or one.rule.when.prefix.startswith(above) for one in self._earlier
                )
            ):
                return above
        return None
