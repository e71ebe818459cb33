"""What `ferryman status --watch` draws: the page's headline and curves in characters, and the tables below.

Owns how they fit a terminal. The words and rows are the page's own (`scheduler.front.admin.dashboard`): one
source, so that both say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.config.quantity import duration, plain_number, size
from scheduler.front.admin.dashboard import curves
from scheduler.front.admin.dashboard.chart import blocks
from workers.telemetry.log import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

    from scheduler.front.admin.dashboard.glance import Glance

#: Columns that the name and the numbers of a curve take, and the fewest that its line is worth.
_NAME, _NUMBERS, _LEAST = 22, 26, 8
#: The same by signs that every terminal and every file knows.
_PLAIN = dict(zip("▁▂▃▄▅▆▇█", "_.,-=+*#", strict=True))


def glance_screen(glance: Glance, stale: str, *, width: int, plain: bool = False) -> list[RenderableType]:
    """Headline, advice and curves in `width` columns; `plain` without signs beyond ASCII."""
    from rich.text import Text

    found: list[RenderableType] = []
    if glance.notice:
        found.append(_text(glance.notice, "dim"))
    found.append(_text(glance.headline, "bold"))
    if stale:
        found.append(_text(f"not read: {stale}; this is the last known state", "red"))
    found += [_text(f"- {line}", "yellow") for line in glance.advice]
    for name, values, told in _rows(glance):
        found.append(Text(_line(name, values, told, width=width, plain=plain), no_wrap=True, overflow="crop"))
    return found


def _rows(glance: Glance) -> list[tuple[str, Sequence[float | None], str]]:
    """Name, values and numbers of each curve; one that nobody has measured yet is left out."""
    day, month, groups = curves.day(glance), curves.month(glance), curves.recent(glance)
    rows = [
        ("store/min, 24 h", curves.hits(day), _last_and_top(curves.hits(day), plain_number)),
        ("origin/min, 24 h", curves.misses(day), _last_and_top(curves.misses(day), plain_number)),
        ("origin/h, 30 d", curves.misses(month), _last_and_top(curves.misses(month), plain_number)),
        ("stored, 24 h", curves.growth(day), f"{plain_number(glance.stored)}, {size(glance.stored_bytes)}"),
    ]
    for row in glance.first_bytes:
        if row.answers:
            told = f"p50 {_time(row.p50_s)}, p99 {_time(row.p99_s)}"
            rows.append((f"{row.kind} p99, 3 h", curves.first_byte(groups, row.kind, 0.99), told))
    rows += [
        (f"{lane} queue, 3 h", values, _last_and_top(values, plain_number))
        for lane in glance.lanes
        if any(values := curves.waiting(groups, lane))
    ]
    return [row for row in rows if any(value is not None for value in row[1])]


def _line(name: str, values: Sequence[float | None], told: str, *, width: int, plain: bool) -> str:
    room = width - _NAME - _NUMBERS
    if room < _LEAST:  # a phone's terminal: the numbers are what counts
        return f"{name}: {told}".replace("\u202f", " ")[:width]
    drawn = blocks(curves.narrowed(values, room))
    if plain:
        drawn = "".join(_PLAIN.get(sign, sign) for sign in drawn)
    return f"{name:<{_NAME}}{drawn:<{room}} {told}".replace("\u202f", " ")


def _last_and_top(values: Sequence[float | None], written: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    return f"{written(known[-1])}, top {written(max(known))}" if known else ""


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _text(text: str, style: str) -> RenderableType:
    from rich.text import Text

    return Text(printable(text.replace("\u202f", " ")), style=style)
