"""Thousands of lines of a manifest at once, as columns: a key a line, or CSV with keys and sizes.

Owns the question whether lines are so plain that they need no reader: no quote, no odd end of a line, as many
cells as the header says, keys that stand as they are, sizes that are decimal numbers. What is not is left to
`rows`, from that line on, so that there is one meaning, and one message of each error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.scan.inventory.entry import Columns

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Longest size, in digits, that needs no closer look.
_MOST_DIGITS = 18
#: Longest key, in characters, of which the same is true.
_MOST_CHARS = 1_024


def plain(text: str) -> Columns | None:
    """Whole lines with a key each; None when they are not plain."""
    if "\r" in text or _not_as_it_stands("\n" + text):
        return None
    return Columns(list(filter(None, text.split("\n"))), None, None, None)


def separated(text: str, separator: str, *, width: int, key_at: int, size_at: int) -> Columns | None:
    """Whole lines of `width` cells with key and size in these places; None when one is not so."""
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if '"' in text or "\r" in text or "\0" in text:
        return None
    count = text.count("\n")
    cells = text.replace("\n", f"{separator}\n").split(separator)
    # Each end of a line begins a cell now. When all of those are where a line's first cell is to be, and
    # nowhere else, every line has as many cells as it should.
    firsts = "".join(cells[::width])
    if len(cells) != width * count + 1 or firsts.count("\n") != count:
        return None
    del cells[-1]
    first = firsts.split("\n")
    del first[-1]
    keys, sizes = (first if at == 0 else cells[at::width] for at in (key_at, size_at))
    numbers = "\n" + "\n\n".join(sizes) + "\n"
    if (
        not all(keys)
        or not all(sizes)
        or max(map(len, keys), default=0) > _MOST_CHARS
        or not ("".join(sizes).isdecimal() and numbers.isascii())
        or max(map(len, sizes), default=0) > _MOST_DIGITS
        or numbers.count("\n0") != numbers.count("\n0\n")  # such as 007
        or _not_as_it_stands("\n" + "\n".join(keys))
    ):
        return None
    return Columns(keys, sizes, None, None)


def _not_as_it_stands(lines: str) -> bool:
    """Whether one of the keys, each behind a line's end, is a URL or begins with a slash."""
    return "\n/" in lines or "\nhttp://" in lines or "\nhttps://" in lines


def joined(parts: Sequence[Columns]) -> Columns:
    """One after the other; a column that one of them lacks is unknown there."""
    if len(parts) == 1:
        return parts[0]
    columns: list[list[str] | None] = []
    for name in ("sizes", "digests", "mtimes"):
        some = [getattr(part, name) for part in parts]
        known = any(column is not None for column in some)
        columns.append(
            [
                text
                for part, column in zip(parts, some, strict=True)
                for text in (column if column is not None else [""] * len(part))
            ]
            if known
            else None
        )
    return Columns([key for part in parts for key in part.keys], *columns)
