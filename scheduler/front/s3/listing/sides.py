"""One bucket's list, read in the order of UTF-8 bytes from any place, whatever order its server lists in.

Owns the two ways. A server that lists by bytes is read as it comes. One that lists by path component
(SeaweedFS) shows `a/1` before `a-1`: its pages are put in order here, and what could still come before
their last key is looked for, which costs it one small request for each directory that a page ends in, and
for each part of the last key that may be a directory of its own. Knows neither what is asked nor who
answers: `Ask` does.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from scheduler.front.s3.listing.positions import MAX, behind_key, behind_prefix, start_after

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.front.s3.listing.page import Entry, Page

#: Requests to a server that lists by component, for one page; a page that needs more is a fault.
_MOST_ROUNDS: Final = 64
#: Small requests at once.
_AT_ONCE: Final = 8


class OutOfOrder(Exception):
    """A server does not list as it should."""


class Ask(Protocol):
    """One request for a page of a bucket's list."""

    async def __call__(self, *, prefix: str, after: str | None, delimiter: str, limit: int) -> Page:
        """Keys and common prefixes behind `after`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """All that is between a place and `until`; None stands for the end."""

    items: list[tuple[str, Entry | None]]
    until: str | None


async def read_by_bytes(ask: Ask, at: str, *, prefix: str, delimiter: str, limit: int) -> Chunk:
    """One request.

    Raises:
        OutOfOrder: what came is in another order, or from before the place.
    """
    at = max(at, prefix)
    if not at.startswith(prefix):
        return Chunk(items=[], until=None)
    page = await ask(
        prefix=prefix, after=None if at == prefix else start_after(at), delimiter=delimiter, limit=limit
    )
    items = sorted(_items(page))
    keys = list(page.keys)
    for before, after in itertools.pairwise(keys):
        if before >= after:
            message = f"{after!r} comes behind {before!r}, which is not the order of UTF-8 bytes"
            raise OutOfOrder(message)
    if items and not delimiter and items[0][0] < at:
        message = f"{items[0][0]!r} comes where the list was asked for from {at!r} on (start-after)"
        raise OutOfOrder(message)
    items = [item for item in items if item[0] >= at]
    if not page.truncated:
        return Chunk(items=items, until=None)
    if not items:
        message = "a page without any key says that there are more"
        raise OutOfOrder(message)
    return Chunk(items=items, until=_behind(*items[-1]))


async def read_by_component(ask: Ask, at: str, *, prefix: str, delimiter: str, limit: int) -> Chunk:
    """As few requests as are needed for a chunk that has something, or ends.

    Raises:
        OutOfOrder: the server does not list by component either.
    """
    at = max(at, prefix)
    if not at.startswith(prefix):
        return Chunk(items=[], until=None)
    while True:
        chunk = await _read_on(ask, at, prefix=prefix, delimiter=delimiter, limit=limit)
        if chunk.until is not None and chunk.until <= at:
            message = f"the list comes back to {chunk.until!r} from {at!r}"
            raise OutOfOrder(message)
        if chunk.items or chunk.until is None:
            return chunk
        at = chunk.until


async def _read_on(ask: Ask, at: str, *, prefix: str, delimiter: str, limit: int) -> Chunk:
    """All up to the next place that the server lists elsewhere."""
    waiting = [] if at == prefix else await _there(ask, _directories_before(at, prefix))
    #: The first directory that comes later by bytes, though the server would list it before.
    bound = min(waiting, default=None)
    after = None if at == prefix else _after_component(at, waiting)
    for _ in range(_MOST_ROUNDS):
        page = await ask(prefix=prefix, after=after, delimiter=delimiter, limit=limit)
        items = sorted(item for item in _items(page) if item[0] >= at and (bound is None or item[0] < bound))
        if not page.truncated:
            return Chunk(items=items, until=bound)
        last = max((*page.keys, *page.prefixes), key=_by_component, default=None)
        if last is None:
            message = "a page without any key says that there are more"
            raise OutOfOrder(message)
        entered = [
            directory
            for directory in _directories(last, prefix)
            if directory > at and (bound is None or directory < bound)
        ]
        first = next(iter(await _with_later_siblings(ask, entered)), None)
        if first is None:
            until = _behind(last, page.keys.get(last))
            if until <= at:  # siblings of a directory that the place is in: of that one nothing more comes
                over = _with_sibling(last, at, prefix)
                until = behind_prefix(over)
                after = f"{over[:-1]}.{MAX}"
                if not items:
                    continue
            if bound is not None and until > bound:
                until = bound
            return Chunk(items=[item for item in items if item[0] < until], until=until)
        until = first.removesuffix("/") + "\0"
        kept = [item for item in items if item[0] < until]
        if kept:
            return Chunk(items=kept, until=until)
        after, bound = first + MAX, first
    message = f"more than {_MOST_ROUNDS} requests for one page"
    raise OutOfOrder(message)


def _items(page: Page) -> list[tuple[str, Entry | None]]:
    return [*page.keys.items(), *((name, None) for name in page.prefixes)]


def _behind(name: str, entry: Entry | None) -> str:
    return behind_prefix(name) if entry is None else behind_key(name)


def _by_component(name: str) -> str:
    return name.replace("/", "\0")


def _directories(key: str, prefix: str) -> Iterable[str]:
    """The directories that a key is in, the outermost first, of those whose siblings a prefix leaves open."""
    at = key.find("/", len(prefix))
    while at >= 0:
        yield key[: at + 1]
        at = key.find("/", at + 1)


def _directories_before(place: str, prefix: str) -> list[str]:
    """Directories that a server may have listed before a place, and whose keys come behind it by bytes."""
    return [
        f"{place[:at]}/"
        for at in range(max(1, len(prefix)), len(place))
        if place[at] < "/" and place[at - 1] != "/"
    ]


async def _there(ask: Ask, directories: list[str]) -> list[str]:
    """Those in which there is a key."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def has_key(directory: str) -> bool:
        async with gate:
            page = await ask(prefix=directory, after=None, delimiter="", limit=1)
        return bool(page.keys)

    found = await asyncio.gather(*map(has_key, directories))
    return [directory for directory, there in zip(directories, found, strict=True) if there]


async def _with_later_siblings(ask: Ask, directories: list[str]) -> list[str]:
    """Those with siblings that are listed behind them and come before them by bytes: `a-1` of `a/`."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def has_sibling(directory: str) -> bool:
        name = directory[:-1]
        async with gate:
            page = await ask(prefix=name, after=directory + MAX, delimiter="", limit=1)
        return any(name < key < directory for key in page.keys)

    found = await asyncio.gather(*map(has_sibling, directories))
    return [directory for directory, there in zip(directories, found, strict=True) if there]


def _after_component(place: str, waiting: list[str]) -> str:
    """`start-after` of a server that lists by component, so that all from a place on comes but what waits."""
    if place.endswith("\0"):
        key = place[:-1]
        return f"{key}/{MAX}" if f"{key}/" in waiting else key
    if place.endswith("0"):  # behind a directory: its siblings with a sign before the slash are over, too
        return f"{place[:-1]}.{MAX}"
    if place.endswith("/"):
        name = place[:-1]
        return start_after(name) if not name.endswith("0") else f"{name[:-1]}.{MAX}"
    return start_after(place)


def _with_sibling(key: str, place: str, prefix: str) -> str:
    """The directory, of those that a place is in, beside which a key lies that comes before it by bytes."""
    for directory in _directories(place, prefix):
        if directory[:-1] < key < directory:
            return directory
    message = f"{key!r} comes where the list was asked for from {place!r} on (start-after)"
    raise OutOfOrder(message)
