"""What is wanted of Ferryman, as data: the one place of it. PURE.

A figure is met by its median over the rounds. Where even a bare program on the same libraries, measured in
the same rounds, misses what is wanted, it counts as `held` when Ferryman is within a factor of that floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from figures import Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A bound of one value of a row."""

    row: str
    value: str
    #: As a person reads it.
    what: str
    at_least: float | None = None
    at_most: float | None = None
    #: The value of the same row that says what a bare program reaches, and which factor of it is enough.
    floor: str = ""
    within: float = 1.25
    #: Digits that are shown.
    digits: int = 2

    @property
    def bound(self) -> str:
        sign, number = (">=", self.at_least) if self.at_least is not None else ("<=", self.at_most)
        return f"{sign} {number:,.{self.digits}f}"

    def meets(self, number: float) -> bool:
        """Whether a number is within the bound."""
        if self.at_least is not None:
            return number >= self.at_least
        assert self.at_most is not None
        return number <= self.at_most

    def near(self, number: float, floor: float) -> bool:
        """Whether a number is within the allowed factor of the floor."""
        return number >= floor / self.within if self.at_least is not None else number <= floor * self.within


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one wanted figure."""

    wanted: Wanted
    #: met; held: the floor misses it too, and we are near the floor; missed; unmeasured.
    word: str
    readings: tuple[float, ...] = ()
    floor: tuple[float, ...] = ()

    @property
    def passes(self) -> bool:
        return self.word in {"met", "held"}


WANTED = (
    Wanted(row="move", value="rate_ratio", what="16 KiB objects: rate, of rclone's", at_least=1.45,
           floor="floor_rate_ratio"),
    Wanted(row="move", value="cpu_ratio", what="16 KiB objects: CPU, of rclone's", at_most=0.36,
           floor="floor_cpu_ratio"),
    Wanted(row="large", value="rate_ratio", what="256 MiB objects: rate, of rclone's", at_least=1.3,
           floor="floor_rate_ratio"),
    Wanted(row="large", value="cpu_ratio", what="256 MiB objects: CPU, of rclone's", at_most=0.5,
           floor="floor_cpu_ratio"),
    Wanted(row="large", value="rss_ratio", what="256 MiB objects: peak memory, of rclone's", at_most=0.8),
    Wanted(row="hit", value="of_bare", what="hit 16 KiB: rate, of a bare ASGI proxy's", at_least=0.85),
    Wanted(row="miss", value="of_put", what="miss 16 KiB, look-up by the front: rate, of bare PUTs",
           at_least=0.45, floor="floor_of_put"),
    Wanted(row="miss", value="front_cpu_ms", what="miss 16 KiB: CPU of the front, ms", at_most=0.6,
           floor="floor_front_cpu_ms"),
    Wanted(row="miss told", value="of_put", what="miss 16 KiB, gateway has asked already: rate, of bare PUTs",
           at_least=0.55, floor="floor_of_put"),
    Wanted(row="first byte", value="p50_added_ms", what="first byte of a miss, p50 beyond the origin's, ms",
           at_most=2.0, floor="floor_p50_added_ms"),
    Wanted(row="first byte", value="p99_added_ms", what="first byte of a miss, p99 beyond the origin's, ms",
           at_most=6.0, floor="floor_p99_added_ms"),
    Wanted(row="logs", value="lines_per_s", what="logs, end to end: lines/s", at_least=1_000_000,
           floor="floor_lines_per_s", digits=0),
    Wanted(row="scan manifest", value="keys_per_s", what="manifest with bucket: keys/s", at_least=150_000,
           digits=0),
    Wanted(row="scan buckets", value="keys_per_s", what="bucket with bucket: keys/s", at_least=80_000,
           digits=0),
    Wanted(row="scan buckets", value="of_rclone", what="bucket with bucket: rate, of rclone check's",
           at_least=3.0),
    Wanted(row="scan fleet", value="two_of_one", what="8 shards in two processes: rate, of one's",
           at_least=1.8, floor="floor_two_of_one"),
    Wanted(row="scan latency", value="of_one_shard", what="80 ms a page, 32 shards: rate, of one shard's",
           at_least=15.0, digits=1),
    Wanted(row="idle", value="hot_percent", what="idle hot worker: % of a core", at_most=0.5),
    Wanted(row="idle", value="cold_percent", what="idle cold worker: % of a core", at_most=0.5),
    Wanted(row="suite", value="minutes", what="make test: minutes", at_most=4.0),
)  # fmt: skip


def judge(wanted: Wanted, figures: Figures) -> Verdict:
    """One wanted figure beside what was measured."""
    values = figures.get(wanted.row, {})
    readings, floor = tuple(values.get(wanted.value, ())), tuple(values.get(wanted.floor, ()))
    if not readings:
        return Verdict(wanted=wanted, word="unmeasured")
    word = "missed"
    if wanted.meets(median(readings)):
        word = "met"
    elif floor and not wanted.meets(median(floor)) and wanted.near(median(readings), median(floor)):
        word = "held"
    return Verdict(wanted=wanted, word=word, readings=readings, floor=floor)


def judge_rows(rows: frozenset[str], figures: Figures) -> list[Verdict]:
    """Every figure that is wanted of these rows; one that nobody measured is no met one."""
    return [judge(one, figures) for one in WANTED if one.row in rows]
