"""One page of a merged list: every side read once, at most twice.

Owns the order: sides together, then what is hidden, then the merge. Knows no server: callers hand in the
sides.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from scheduler.front.s3.listing.merge import Shown, horizon, merged
from workers.background import end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from scheduler.front.s3.listing.origins import Wanted
    from scheduler.front.s3.listing.sides import Chunk

#: Times that sides are read for one page, where all that the first one found is hidden.
_ROUNDS: Final = 2


class Side(Protocol):
    """A list beside the store's."""

    def chunk(self, at: str, wanted: Wanted) -> Coroutine[None, None, Chunk]:
        """All between a place and the chunk's end."""


async def union_page(
    place: str,
    wanted: Wanted,
    *,
    most: int,
    store: Callable[[str, Wanted], Coroutine[None, None, Chunk]],
    origins: Sequence[Side],
    buried: Callable[[list[str]], Awaitable[set[str]]],
) -> Shown:
    """The page of at most `most` names from a place on; `buried` says which keys have a tombstone.

    A page may be empty and yet not the last one: all that is hidden is not gone over for one answer.
    """
    # With a delimiter one round may have cost a side two requests already.
    left = 1 if wanted.delimiter else _ROUNDS
    while most:
        sides = await _together(store(place, wanted), *(one.chunk(place, wanted) for one in origins))
        in_store = {name for name, _ in sides[0].items}
        theirs = {
            name
            for side in sides[1:]
            for name, entry in side.items
            if entry is not None and name not in in_store
        }
        page = merged(
            sides,
            until=horizon(sides),
            hidden=await buried(sorted(theirs)),
            prefix=wanted.prefix,
            delimiter=wanted.delimiter,
            most=most,
        )
        left -= 1
        if page.last or page.place is None or not left:
            return page
        place = page.place
    return Shown()


async def _together(*reads: Coroutine[None, None, Chunk]) -> list[Chunk]:
    tasks = [asyncio.create_task(read) for read in reads]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        await end(*tasks)
        raise
