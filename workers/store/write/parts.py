"""How an object is cut into parts.

Owns the sizes. Pure. S3 allows 10,000 parts of at most 5 GiB; all but the last have at least 5 MiB.
"""

from __future__ import annotations

from typing import Final

from workers.errors import ObjectTooLarge

MIB: Final = 1024 * 1024
MAX_PARTS: Final = 10_000
#: Of one part, and of one PUT.
MAX_PART_BYTES: Final = 5 * 1024 * MIB

#: After how many parts of an unknown length the size doubles: 8 MiB reach 8 TiB within 10,000 parts.
_GROW_EVERY: Final = 1000


def uniform_part_bytes(size: int, base: int) -> int:
    """One part size for a known length: `base`, or the smallest whole MiB that needs at most 10,000 parts.

    Raises:
        ObjectTooLarge: not even parts of 5 GiB suffice.
    """
    if size <= base * MAX_PARTS:
        return base
    needed = -(-size // MAX_PARTS)
    part = -(-needed // MIB) * MIB
    if part > MAX_PART_BYTES:
        raise ObjectTooLarge(f"{size} bytes do not fit 10,000 parts of 5 GiB")
    return part


def growing_part_bytes(number: int, base: int, *, uniform: bool = False) -> int:
    """The size of part `number` (from 1) when the length is unknown.

    Raises:
        ObjectTooLarge: there is no such part any more.
    """
    if number > MAX_PARTS:
        raise ObjectTooLarge("the object of unknown length needs more than 10,000 parts")
    if uniform:
        return base
    return int(min(base << ((number - 1) // _GROW_EVERY), MAX_PART_BYTES))


def one_put_bytes(part_bytes: int, *, memory_bytes: int, spool_bytes: int) -> int:
    """The largest object that one PUT takes where that is wanted instead of parts.

    `part_bytes` is always one PUT; beyond it an eighth of the memory budget, or the whole disk budget.
    """
    return min(max(part_bytes, memory_bytes // 8, spool_bytes), MAX_PART_BYTES)
