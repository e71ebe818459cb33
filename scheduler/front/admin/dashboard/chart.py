"""Pictures as SVG, drawn here, so that a page needs no chart library and no script. PURE.

Owns scales and shapes. Colours and widths of lines are the style sheet's, by class: a strict policy allows no
style in an element, and light and dark need no second drawing. Each picture says in words what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from scheduler.config.quantity import plain_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of values, at equal steps; None is a gap. `kind` is its class in the style sheet."""

    name: str
    kind: str
    values: Sequence[float | None]


def lines(
    rows: Sequence[Line],
    *,
    title: str,
    labels: Sequence[tuple[float, str]] = (),
    width: int = 640,
    height: int = 180,
    written: Callable[[float], str] = plain_number,
) -> str:
    """Lines over one another, from zero; below them `labels`, as (share of the width, text)."""
    top = _round_up(max((v for row in rows for v in row.values if v is not None), default=0.0))
    left, right, above, below = 52, 8, 8, 20 if labels else 6
    wide, high = width - left - right, height - above - below
    grid = []
    for share in (0.0, 0.5, 1.0):
        y = above + high * (1 - share)
        grid.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        grid.append(
            f'<text class="scale" x="{left - 6}" y="{y + 4:.1f}">{escape(written(top * share))}</text>'
        )
    for share, label in labels:
        x = left + wide * share
        anchor = "start" if share < 0.1 else "end" if share > 0.9 else "middle"
        if anchor == "middle":
            grid.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{above}" y2="{above + high}"/>')
        grid.append(f'<text class="time {anchor}" x="{x:.1f}" y="{height - 5}">{escape(label)}</text>')
    drawn = "".join(
        f'<path class="line {escape(row.kind)}" d="{_path(row.values, top, left, above, wide, high)}">'
        f"<title>{escape(row.name)}</title></path>"
        for row in rows
    )
    return _svg(width, height, title, "".join(grid) + drawn)


def spark(
    values: Sequence[float | None], *, title: str, kind: str = "store", width: int = 120, height: int = 28
) -> str:
    """A small line without a scale."""
    top = max((v for v in values if v is not None), default=0.0)
    shape = _path(values, top, 1, 2, width - 2, height - 4)
    return _svg(width, height, title, f'<path class="line {escape(kind)}" d="{shape}"/>', small=True)


def bar(shares: Sequence[tuple[str, str, float]], *, title: str, width: int = 640, height: int = 22) -> str:
    """Parts of a whole beside each other, as (name, class, number); nothing at all is an empty bar."""
    whole = sum(number for _, _, number in shares)
    x, drawn = 0.0, [f'<rect class="empty" x="0" y="0" width="{width}" height="{height}" rx="4"/>']
    for name, kind, number in shares:
        if whole <= 0 or number <= 0:
            continue
        wide = width * number / whole
        drawn.append(
            f'<rect class="part {escape(kind)}" x="{x:.1f}" y="0" width="{wide:.1f}" height="{height}">'
            f"<title>{escape(name)}: {escape(plain_number(number))}</title></rect>"
        )
        x += wide
    return _svg(width, height, title, "".join(drawn))


def blocks(values: Sequence[float | None]) -> str:
    """The same small line for a terminal, a character a value."""
    signs = "▁▂▃▄▅▆▇█"
    top = max((v for v in values if v is not None), default=0.0)
    return "".join(
        " " if v is None else signs[0] if top <= 0 else signs[min(7, int(8 * v / top * 0.999))]
        for v in values
    )


def _path(
    values: Sequence[float | None], top: float, left: float, above: float, wide: float, high: float
) -> str:
    parts, pen = [], "M"
    for at, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        x = left + wide * at / max(1, len(values) - 1)
        y = above + high * (1 - (value / top if top > 0 else 0.0))
        parts.append(f"{pen}{x:.1f} {y:.1f}")
        alone = pen == "M" and (at + 1 == len(values) or values[at + 1] is None)
        pen = "L"
        if alone:  # a dot, or nothing would be seen of it
            parts.append("h0.1")
    return "".join(parts)


def _svg(width: int, height: int, title: str, inside: str, *, small: bool = False) -> str:
    kind, stretched = ("chart small", ' preserveAspectRatio="none"') if small else ("chart", "")
    box = f'viewBox="0 0 {width} {height}"{stretched}'
    return f'<svg class="{kind}" {box} role="img" aria-label="{escape(title)}">{inside}</svg>'


def _round_up(value: float) -> float:
    """The next number that a scale ends with: one digit times a power of ten, that can be halved."""
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(str(int(value))) - 1) if value >= 1 else 1.0
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)
