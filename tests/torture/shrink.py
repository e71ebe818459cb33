"""Which of the faults that went wrong are needed for it (delta debugging, ddmin). PURE.

Owns the order of the tries; whoever calls says what still goes wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def needed(items: tuple[T, ...], goes_wrong: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """As few of the items, in their order, as still go wrong; all of them are known to."""
    if not items or goes_wrong(()):
        return ()
    parts = 2
    while len(items) > 1 and parts <= len(items):
        size = -(-len(items) // parts)
        for start in range(0, len(items), size):
            fewer = items[:start] + items[start + size :]
            if fewer and goes_wrong(fewer):
                items, parts = fewer, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(2 * parts, len(items))
    return items
