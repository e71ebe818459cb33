"""Finding the few lines of a chunk that can be misses, without reading the rest.

Owns the search for a status in a chunk of whole lines: a substring search at memory speed, not a parse. What
it finds is a candidate; the format decides. PURE.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A literal, or a pattern where there are several statuses.
Needle = bytes | re.Pattern[bytes]


def status_needle(before: bytes, statuses: tuple[int, ...], after: bytes) -> Needle:
    """What stands in a line that has one of `statuses` between the literals `before` and `after`."""
    numbers = [b"%d" % status for status in statuses]
    if len(numbers) == 1:
        return before + numbers[0] + after
    return re.compile(re.escape(before) + b"(?:" + b"|".join(numbers) + b")" + re.escape(after))


def candidates(chunk: bytes, needle: Needle) -> Iterator[bytes]:
    """The lines of `chunk` that contain `needle`, in order, without line end. `chunk` ends with one."""
    rfind = chunk.rfind
    find = chunk.find
    if isinstance(needle, bytes):
        at = find(needle)
        while at >= 0:
            end = find(b"\n", at)
            yield chunk[rfind(b"\n", 0, at) + 1 : end]
            at = find(needle, end)
        return
    search = needle.search
    found = search(chunk)
    while found is not None:
        at = found.start()
        end = find(b"\n", at)
        yield chunk[rfind(b"\n", 0, at) + 1 : end]
        found = search(chunk, end)
