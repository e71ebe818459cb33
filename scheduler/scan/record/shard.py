"""What the records of shards, and of verifications, have beside what every run has. PURE."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Keys that only the bucket has and that are kept by name.
MAX_EXTRA = 20

#: `listing`: each key beside the bucket's listing. `looking`: the listing once more; what is missing is asked
#: for at the origin, and of all (`full`) the bytes are compared. `sample`: bytes of the keys that were drawn.
Step = Literal["listing", "looking", "sample"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found in a range, or in several together."""

    #: Keys of the inventory that were compared with the listing; missing ones whose failure was waived.
    checked: int = 0
    waived: int = 0
    #: Keys that the listing lacked.
    missing: int = 0
    #: Objects that the inventory lacks, and the first of them.
    extra: int = 0
    extra_keys: tuple[str, ...] = ()
    #: Finding -> number.
    counts: dict[str, int] = field(default_factory=dict)
    #: Missing keys that the origin was asked for, and those it lacks as well, by group, where no list of
    #: failures knows why; then those where one does.
    asked: int = 0
    gone: dict[str, int] = field(default_factory=dict)
    known_gone: int = 0
    #: Objects that were compared byte by byte, their bytes, and those that the origin has no more.
    compared: int = 0
    compared_bytes: int = 0
    left_behind: int = 0

    @property
    def all_gone(self) -> int:
        """Keys that are neither in the store nor at the origin."""
        return sum(self.gone.values()) + self.known_gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """One verification on the fleet."""

    #: The scan, and the run of it, whose keys are looked at.
    scan: str
    of: str
    #: Objects to be compared byte by byte, or all of them; lots are drawn with the seed.
    sample: int | None = None
    full: bool = False
    seed: int = 0
    step: Step = "listing"
    #: What the steps before have found; ranges of the first.
    before: Verified = field(default_factory=Verified)
    ranges: int = 0
    #: Why nothing more is asked of the origin; empty else.
    stopped: str = ""


def together(parts: Iterable[Verified]) -> Verified:
    """What ranges that follow one another have found as one."""
    every = list(parts)
    counts: dict[str, int] = {}
    gone: dict[str, int] = {}
    for one in every:
        for finding, number in one.counts.items():
            counts[finding] = counts.get(finding, 0) + number
        for group, number in one.gone.items():
            gone[group] = gone.get(group, 0) + number
    return Verified(
        checked=sum(one.checked for one in every),
        waived=sum(one.waived for one in every),
        missing=sum(one.missing for one in every),
        extra=sum(one.extra for one in every),
        extra_keys=tuple([key for one in every for key in one.extra_keys][:MAX_EXTRA]),
        counts=counts,
        asked=sum(one.asked for one in every),
        gone=gone,
        known_gone=sum(one.known_gone for one in every),
        compared=sum(one.compared for one in every),
        compared_bytes=sum(one.compared_bytes for one in every),
        left_behind=sum(one.left_behind for one in every),
    )
