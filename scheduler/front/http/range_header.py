"""The `Range` header: reading it, and what it means for an object of a known size (RFC 9110, section 14).

Owns the syntax and the arithmetic. Pure: knows no store, no origin and no answer. SEMANTICS.md A15 to A19 say
what the front does with it on a miss.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: More parts than this in one header are ignored as a whole: nobody but an attacker asks so.
MAX_RANGES = 32

#: Stands for every position beyond it: no object is as large, and some clients write 2**64 - 1 for "the end".
FARTHEST = 10**18 - 1

_SPEC = re.compile(r"([0-9]+)-([0-9]*)|-([0-9]+)")


@dataclass(frozen=True, slots=True)
class RangeSpec:
    """One element as written: `first-last`, `first-` (last None), or `-suffix` (first None)."""

    first: int | None
    last: int | None

    def __str__(self) -> str:
        first = "" if self.first is None else str(self.first)
        last = "" if self.last is None else str(self.last)
        return f"{first}-{last}"


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes `start` to `stop` (exclusive) of an object; never empty."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    def content_range(self, size: int | None) -> str:
        """The value of `Content-Range` for this part of `size` bytes (None: unknown)."""
        return f"bytes {self.start}-{self.stop - 1}/{'*' if size is None else size}"


def parse_range(value: str) -> tuple[RangeSpec, ...] | None:
    """The elements of a `Range` header, or None when it is to be ignored.

    None stands for another unit, bad syntax, a last position before the first, and more than `MAX_RANGES`
    elements (A19).
    """
    unit, separator, rest = value.partition("=")
    if not separator or unit.strip().lower() != "bytes":
        return None
    specs: list[RangeSpec] = []
    for element in rest.split(","):
        text = element.strip(" \t")
        if not text:
            continue  # RFC 9110, 5.6.1: empty list elements do not count
        match = _SPEC.fullmatch(text)
        if match is None:
            return None
        first, last, suffix = match.groups()
        if suffix is not None:
            specs.append(RangeSpec(None, _position(suffix)))
            continue
        spec = RangeSpec(_position(first), _position(last) if last else None)
        if spec.last is not None and spec.first is not None and spec.last < spec.first:
            return None
        specs.append(spec)
        if len(specs) > MAX_RANGES:
            return None
    return tuple(specs) or None


def _position(digits: str) -> int:
    return int(digits) if len(digits) <= 18 else min(FARTHEST, int(digits.lstrip("0")[:19] or "0"))


def single(specs: Sequence[RangeSpec] | None) -> RangeSpec | None:
    """The only element, or None when there is none or more than one."""
    return specs[0] if specs is not None and len(specs) == 1 else None


def header_value(spec: RangeSpec) -> str:
    """A `Range` header rebuilt from the parsed value (H7): the client's spelling goes to no origin."""
    return f"bytes={spec}"


def resolve(spec: RangeSpec, size: int) -> Slice | None:
    """The bytes meant for an object of `size` bytes; None when not satisfiable."""
    if spec.first is None:
        length = min(spec.last or 0, size)
        return Slice(size - length, size) if length else None
    if spec.first >= size:
        return None
    stop = size if spec.last is None else min(spec.last + 1, size)
    return Slice(spec.first, stop)


def resolve_all(specs: Sequence[RangeSpec], size: int) -> list[Slice] | None:
    """The satisfiable parts in the order asked for; empty when none is (416).

    None means that the header is to be ignored: the parts together are larger than the object, as overlapping
    ones are (RFC 9110, 14.2, against amplification).
    """
    slices = [part for part in (resolve(spec, size) for spec in specs) if part is not None]
    if len(slices) > 1 and sum(part.length for part in slices) > size:
        return None
    return slices


def is_answer(spec: RangeSpec, value: str | None) -> bool:
    """Whether a 206 with this `Content-Range` begins where it was asked to and goes no further.

    It may end earlier. Of an unknown total only what can be judged is judged.
    """
    part, total = parse_content_range(value or "") or (None, None)
    if part is None:
        return False
    if total is not None:
        asked = resolve(spec, total)
    elif spec.first is None:
        return True
    else:
        asked = Slice(spec.first, part.stop if spec.last is None else spec.last + 1)
    return asked is not None and part.start == asked.start and part.stop <= asked.stop


def parse_content_range(value: str) -> tuple[Slice | None, int | None] | None:
    """`Content-Range` as (part, total): `bytes 0-4/10`, `bytes 0-4/*`, `bytes */10`; None when malformed."""
    match = re.fullmatch(
        r"bytes +(?:([0-9]{1,18})-([0-9]{1,18})|\*)/([0-9]{1,18}|\*)", value.strip(), re.IGNORECASE
    )
    if match is None:
        return None
    first, last, total_text = match.groups()
    total = None if total_text == "*" else int(total_text)
    if first is None:
        return None, total
    part = Slice(int(first), int(last) + 1)
    if part.stop <= part.start or (total is not None and part.stop > total):
        return None
    return part, total
