"""How many parts of an object may be on their way at once, by how many objects go in parts just now.

Owns that number. Parts are what a process that moves large objects has its memory in: one object has the
connections and the memory for several; of many, each keeps the store busy with one while it fills the next.
Must not know what a part is.
"""

from __future__ import annotations

from typing import Final

#: Objects that have all of their parts at once; more of them share what these may have.
_FULL: Final = 2


class PartTurns:
    """The objects of one process that go in parts; `enter` and `leave` for each."""

    def __init__(self, of_one: int) -> None:
        """`of_one`: parts of one object at once, as configured."""
        self._of_one = of_one
        self._objects = 0

    def enter(self) -> None:
        """One more object goes in parts."""
        self._objects += 1

    def leave(self) -> None:
        """One fewer."""
        self._objects -= 1

    @property
    def each(self) -> int:
        """Parts of one object that may be on their way now; at least one."""
        shared = _FULL * self._of_one // max(self._objects, _FULL)
        return max(1, shared)
