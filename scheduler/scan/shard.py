"""What a shard of a scan is: a range of keys, and what is known of it beside what every run has. PURE."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRange:
    """The keys from `begin` on that come before `end`; without an end all that follow."""

    begin: str = ""
    end: str | None = None

    def __str__(self) -> str:
        end = "end" if self.end is None else repr(self.end)
        return f"[{repr(self.begin) if self.begin else 'begin'}, {end})"


#: The whole key space.
WHOLE = KeyRange()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """What a shard's record has beside what it shares with a scan's."""

    number: int
    #: Its keys, in the scan's order.
    range: KeyRange = WHOLE
    #: How often its range was made smaller by a split, its own or that which it came from.
    generation: int = 0
    #: Keys of the inventory that are likely in the range; an estimate.
    expected: int = 0
    #: `host:pid` of whoever ran it last.
    worker: str = ""
