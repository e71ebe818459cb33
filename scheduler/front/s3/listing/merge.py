"""A page of a bucket that has everything: the store's list and the origins', merged. Pure.

Owns which name is shown, in which order, where the page ends and where the next one begins. What is in the
store is shown with the store's entry; of the others the caller says which are hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scheduler.front.s3.listing.positions import behind_key, behind_prefix, common_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.front.s3.listing.page import Entry
    from scheduler.front.s3.listing.sides import Chunk


@dataclass(slots=True, kw_only=True)
class Shown:
    """A page, in order."""

    keys: list[tuple[str, Entry]] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    #: Where the next page begins; None: there is none.
    place: str | None = None
    #: The last name that is shown.
    last: str = ""


def horizon(chunks: Iterable[Chunk]) -> str | None:
    """Up to where all sides are known; None: to the end."""
    return min((chunk.until for chunk in chunks if chunk.until is not None), default=None)


def merged(
    sides: list[Chunk], *, until: str | None, hidden: set[str], prefix: str, delimiter: str, most: int
) -> Shown:
    """What is shown of these sides, the store's first, up to `until` and `most` names.

    `hidden` are names of the other sides that are not shown.
    """
    found: dict[str, Entry | None] = {}
    for at, side in enumerate(sides):
        for name, entry in side.items:
            if (until is None or name < until) and not (at and name in hidden):
                found.setdefault(name, entry)
    page = Shown(place=until)
    above = ""
    for name in sorted(found):
        entry = found[name]
        rolled = name if entry is None else common_prefix(name, prefix, delimiter)
        if above and rolled == above:
            continue
        if len(page.keys) + len(page.prefixes) >= most:
            page.place = behind_prefix(above) if above and page.last == above else behind_key(page.last)
            return page
        if rolled is None:
            if entry is not None:
                page.keys.append((name, entry))
            page.last = name
        else:
            page.prefixes.append(rolled)
            page.last = above = rolled
    if until is not None and above and until.startswith(above):
        page.place = behind_prefix(above)
    return page
