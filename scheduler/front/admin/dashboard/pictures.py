"""The pictures of the first screen: the rows of `curves` as `chart` draws them. PURE.

Owns which picture shows which rows, and what each says in words.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from scheduler.config.quantity import duration
from scheduler.front.admin.dashboard import chart, curves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.front.admin.dashboard.glance import Glance
    from workers.ledger.history import Sample


#: Origins on the first screen; the room has all.
ORIGINS_SHOWN: Final = 4


def pictures(glance: Glance) -> dict[str, Any]:
    """The pictures of the first screen, by the names that its template uses."""
    return {
        "origins_shown": ORIGINS_SHOWN,
        "moved_bar": _drawn(
            chart.bar(
                (
                    ("in the store", "store", glance.moved.in_store),
                    ("on their way", "pending", glance.moved.pending),
                    ("failed", "bad", glance.moved.failed),
                    ("absent at the origin", "absent", glance.moved.absent),
                ),
                title="Keys that scans know, by where they are",
            )
        ),
        "budgets": {
            origin.host: _drawn(
                chart.bar(
                    (
                        ("in use", "store" if origin.budget_used < 0.9 else "bad", origin.budget_used),
                        ("free", "free", 1 - origin.budget_used),
                    ),
                    title=f"{origin.budget_used:.0%} of the budget of {origin.host} in use",
                    height=6,
                    width=240,
                )
            )
            for origin in glance.origins[:ORIGINS_SHOWN]
            if origin.budget_used is not None
        },
        **_of_samples(_Same(glance)),
    }


class _Same:
    """A glance that equals another when the pictures of its samples do: those are drawn once a minute."""

    __slots__ = ("_key", "glance")

    def __init__(self, glance: Glance) -> None:
        self.glance = glance
        self._key = (
            id(glance.minutes),
            id(glance.hours),
            int(glance.at) // 60,
            int(glance.ends_at or 0) // 3600,
            glance.lanes,
            tuple(one.host for one in glance.origins[:ORIGINS_SHOWN]),
        )

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._key == other._key


@lru_cache(maxsize=2)
def _of_samples(of: _Same) -> dict[str, Any]:
    glance = of.glance
    day = curves.day(glance)
    month, fitted = curves.decay(glance, glance.decay)
    groups = curves.recent(glance)
    return {
        "day": _drawn(
            _miss_curve(
                curves.hits(day),
                curves.misses(day),
                "Answers a minute by the store and with an origin, last 24 hours",
                labels=_ends(glance.at, day),
            )
        ),
        "month": _drawn(
            _miss_curve(
                curves.hits(month),
                curves.misses(month),
                "Answers an hour by the store and with an origin, last 30 days"
                + (", with the fitted decay of the misses" if fitted else ""),
                fitted,
                labels=_with_future(glance.at, month),
            )
        ),
        "throughput": _spark(curves.growth(day), "Objects stored, last 24 hours", width=240, height=40),
        "lanes": {
            lane: _spark(curves.waiting(groups, lane), f"Messages waiting in lane {lane}, last 3 hours")
            for lane in glance.lanes
        },
        "first_bytes": {
            row.kind: _spark(
                curves.first_byte(groups, row.kind, 0.99),
                f"First byte of a {row.kind}, p99, last 3 hours",
                kind="store" if row.kind == "hit" else "origin",
            )
            for row in glance.first_bytes
        },
        "origin_lines": {
            origin.host: _spark(
                curves.origin_p99(groups, origin.host),
                f"First byte of {origin.host}, p99, last 3 hours",
                kind="origin",
            )
            for origin in glance.origins[:ORIGINS_SHOWN]
        },
    }


def _miss_curve(
    hits: Sequence[float | None],
    misses: Sequence[float | None],
    title: str,
    fitted: Sequence[float | None] = (),
    *,
    labels: Sequence[tuple[float, str]] = (),
) -> str:
    rows = [
        chart.Line(name="by the store", kind="store", values=hits),
        chart.Line(name="with an origin", kind="origin", values=misses),
    ]
    if fitted:
        # Where the misses stood far above what is drawn, the fit is cut: it is there for the end.
        top = max((v for row in rows for v in row.values if v is not None), default=0.0)
        shown = [None if value is None or value > top else value for value in fitted]
        rows.append(chart.Line(name="fitted decay of the misses", kind="fit", values=shown))
    return chart.lines(rows, title=title, labels=labels)


def _ends(now: float, samples: Sequence[Sample | None]) -> list[tuple[float, str]]:
    """How long ago it begins, and now: nobody's zone is needed for that."""
    first = next((one.at for one in samples if one is not None), None)
    return [] if first is None else [(0.0, f"{_about(now - first)} ago"), (1.0, "now")]


def _with_future(now: float, hours: Sequence[Sample | None]) -> list[tuple[float, str]]:
    """The same of hours behind which there is room for what is to come."""
    ends = _ends(now, hours)
    known = len(hours) - next((at for at, one in enumerate(reversed(hours)) if one is not None), 0)
    ahead = len(hours) - known
    if not ends or ahead < 2:
        return ends
    at = (known - 1) / (len(hours) - 1)
    middle = [(at, "now")] if 0.15 < at < 0.85 else []
    return [ends[0], *middle, (1.0, f"in {_about(ahead * 3600)}")]


def _spark(
    values: Sequence[float | None], title: str, *, kind: str = "store", width: int = 120, height: int = 28
) -> Markup:
    known = [value for value in values if value is not None]
    if not known:
        return Markup()
    if "First byte" in title:
        title = f"{title}: at most {duration(max(known))}"
    return _drawn(chart.spark(values, title=title, kind=kind, width=width, height=height))


def _drawn(svg: str) -> Markup:
    """A picture as it is: `chart` escapes every text in it."""
    return Markup(svg)  # noqa: S704


def _about(seconds: float) -> str:
    """Without a decimal that is none."""
    return duration(seconds).replace(".0", "")
