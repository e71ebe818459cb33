"""What breaks, when and for how long: a schedule that one seed makes. PURE.

Owns the kinds of faults and how they are drawn. Every minute begins with some seconds of calm, so that work
gets on; faults overlap otherwise.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

#: Parts of the system, in the order in which they are started.
SERVERS: Final = ("redis", "store")
FRONTS: Final = ("front-a", "front-b")
PARTS: Final = (*FRONTS, "hot", "cold", "consumer", "scan")
#: Old servers, and the old bucket, which is written back to.
ORIGINS: Final = ("origin-1", "origin-2", "bucket")
#: A worker of the version before in each lane, as while a fleet is upgraded; not there otherwise.
OLDER: Final = ("older-hot", "older-cold")
#: Where people ask: the gateway and the admin side of each front.
DOORS: Final = ("front-a", "front-b", "admin-a", "admin-b")
#: Each way from a part to what it talks to, and from people to the fronts.
LINKS: Final = (
    *(f"{part}>{server}" for part in PARTS for server in (*SERVERS, *ORIGINS)),
    *(f"people>{door}" for door in DOORS),
)

#: Seconds without a new fault at the start of each minute.
CALM_S: Final = 8.0
#: Mean seconds between two faults.
_MEAN_S: Final = 2.5


class Kind(StrEnum):
    """What can happen."""

    KILL = "kill"
    TERMINATE = "terminate"
    FREEZE = "freeze"
    #: A link: every connection is reset, new ones are refused.
    CUT = "cut"
    #: A link: bytes stand still.
    STALL = "stall"
    #: A link: requests arrive, answers do not.
    MUTE = "mute"
    #: A link to the store: 503 without the store having been asked.
    BURST = "burst"
    #: A link: each piece is late.
    SLOW = "slow"
    #: Redis: over its memory, read-only, or back on what it had a second before.
    REDIS_FULL = "redis-full"
    REDIS_READ_ONLY = "redis-read-only"
    POWER_CUT = "power-cut"
    #: Redis: messages that wait are there twice, or come later than others; and there are some of an earlier
    #: shape and of a version that is yet to come, as from a fleet that is being upgraded.
    TWICE = "twice"
    LATE = "late"
    OTHER_VERSION = "other-version"
    #: A worker of the version before works beside the new ones, in one of the lanes.
    OLD_WORKER = "old-worker"
    #: An origin: 503, a body that ends early, none at all, wrong bytes of the right length under a digest.
    ORIGIN_STATUS = "origin-status"
    ORIGIN_CUT = "origin-cut"
    ORIGIN_STALL = "origin-stall"
    ORIGIN_LIE = "origin-lie"
    #: Objects of the origin that change get their next content.
    CHANGE = "change"
    #: A log: renamed, and a new one begun; copied, and truncated in place.
    ROTATE = "rotate"
    COPY_TRUNCATE = "copy-truncate"
    #: The disk of spool, checkpoints and logs is full.
    DISK_FULL = "disk-full"
    #: A part's wall clock is wrong.
    CLOCK = "clock"
    #: The consumer's machine loses power: of its files what had reached the disk is left.
    POWER_LOSS = "power-loss"


#: Kind, its weight, what it may hit, and the seconds that it lasts (least, most).
_DRAWN: Final[tuple[tuple[Kind, int, tuple[str, ...], tuple[float, float]], ...]] = (
    (Kind.KILL, 10, PARTS, (0.1, 4.0)),
    (Kind.KILL, 5, SERVERS, (0.1, 3.0)),
    (Kind.TERMINATE, 4, PARTS, (0.1, 3.0)),
    (Kind.FREEZE, 5, PARTS, (0.5, 20.0)),
    (Kind.FREEZE, 3, SERVERS, (0.5, 8.0)),
    (Kind.CUT, 7, LINKS, (0.2, 6.0)),
    (Kind.STALL, 4, LINKS, (0.5, 8.0)),
    (Kind.MUTE, 7, LINKS, (0.2, 3.0)),
    (Kind.SLOW, 3, LINKS, (1.0, 6.0)),
    (Kind.BURST, 4, tuple(link for link in LINKS if link.endswith(">store")), (0.3, 3.0)),
    (Kind.REDIS_FULL, 2, ("redis",), (0.5, 4.0)),
    (Kind.REDIS_READ_ONLY, 2, ("redis",), (0.5, 4.0)),
    (Kind.POWER_CUT, 2, ("redis",), (0.5, 2.0)),
    (Kind.TWICE, 5, ("redis",), (0.0, 0.0)),
    (Kind.LATE, 3, ("redis",), (0.5, 6.0)),
    (Kind.OTHER_VERSION, 2, ("redis",), (0.0, 0.0)),
    (Kind.ORIGIN_STATUS, 4, ORIGINS, (0.3, 4.0)),
    (Kind.ORIGIN_CUT, 5, ORIGINS, (0.3, 4.0)),
    (Kind.ORIGIN_STALL, 2, ORIGINS, (0.3, 4.0)),
    (Kind.ORIGIN_LIE, 8, ORIGINS, (1.0, 8.0)),
    (Kind.CHANGE, 6, ("origins",), (0.0, 0.0)),
    (Kind.OLD_WORKER, 2, OLDER, (2.0, 8.0)),
    (Kind.ROTATE, 4, ("log",), (0.0, 0.0)),
    (Kind.COPY_TRUNCATE, 4, ("log",), (0.0, 0.0)),
    (Kind.DISK_FULL, 2, ("disk",), (0.5, 5.0)),
    (Kind.CLOCK, 5, PARTS, (1.0, 15.0)),
    (Kind.POWER_LOSS, 3, ("consumer",), (0.1, 2.0)),
)

#: By how many seconds a wall clock is wrong; below the quarter of an hour that S3 forgives a signature.
_WRONG_S: Final = (-600.0, -45.0, -5.0, 5.0, 45.0, 600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault."""

    #: Seconds since the load began, and for how long it lasts.
    at_s: float
    for_s: float
    kind: Kind
    target: str

    @property
    def wrong_s(self) -> float:
        """Of a clock: by how much; part of the fault, so that a replay has the same."""
        return random.Random(f"{self.at_s} {self.target}").choice(_WRONG_S)

    def to_json(self) -> dict[str, Any]:
        """For a file that replays it."""
        return asdict(self)

    def __str__(self) -> str:
        wrong = f" by {self.wrong_s:+.0f} s" if self.kind is Kind.CLOCK else ""
        return f"{self.at_s:8.2f} s  {self.kind} {self.target}{wrong} for {self.for_s:.2f} s"


def make_schedule(seed: int, *, seconds: float, without: frozenset[Kind] = frozenset()) -> tuple[Fault, ...]:
    """The faults of a run, by time: first each kind once in a random order, then as their weights have it.

    The same seed gives the same ones; `without` leaves kinds out.
    """
    chance = random.Random(f"schedule {seed}")
    drawn = [row for row in _DRAWN if row[0] not in without]
    first = list({row[0]: row for row in chance.sample(drawn, len(drawn))}.values())
    faults: list[Fault] = []
    at_s = CALM_S
    while at_s < seconds:
        if at_s % 60.0 >= CALM_S:
            row = first.pop() if first else chance.choices(drawn, weights=[row[1] for row in drawn])[0]
            kind, _, targets, (least, most) = row
            target, for_s = chance.choice(targets), chance.uniform(least, most)
            faults.append(Fault(at_s=round(at_s, 2), for_s=round(for_s, 2), kind=kind, target=target))
        at_s += chance.expovariate(1 / _MEAN_S)
    return tuple(faults)


def from_json(rows: list[dict[str, Any]]) -> tuple[Fault, ...]:
    """The faults of a file."""
    return tuple(Fault(**{**row, "kind": Kind(row["kind"])}) for row in rows)
