"""What operators write about budgets: rates like `20MB/s`, and hours like `08:00-20:00 mon-fri`.

Pure. Owns the reading of these texts and the question whether a local time lies in a window; knows nothing of
settings, budgets or clocks. Problems are `ValueError`s that say what was found and what is allowed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60

_SCALE = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_NUMBER = r"(?P<number>\d+(?:\.\d+)?)"
_BYTES = re.compile(rf"{_NUMBER}\s*(?P<scale>[kmg]i?)?(?P<unit>b|bytes?|bits?)?(?:/s)?", re.IGNORECASE)
_REQUESTS = re.compile(rf"{_NUMBER}\s*(?:req|requests?)?\s*/s", re.IGNORECASE)
_SLOTS = re.compile(r"(?P<number>\d+)\s*(?:slots?|connections?|concurrent)", re.IGNORECASE)
_TIMES = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_ONE_LINE = re.compile(r"(?P<when>.*[^:\s\d]|.*\d:\d{2})\s*:\s+(?P<values>.+)")

_ONE_LINE_EXAMPLE = "08:00-20:00 mon-fri: 20MB/s, 10 requests/s, 4 connections"
_WHEN_ALLOWED = "allowed: `HH:MM-HH:MM`, days such as `mon-fri` or `sat,sun`, or both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hours on some days of the week, local time. An end before the start runs over midnight."""

    #: Minutes since midnight; `end` is not part of the window and may be 1440.
    start: int = 0
    end: int = DAY_MINUTES
    #: Days on which it begins, 0 is Monday.
    days: frozenset[int] = frozenset(range(7))

    def contains(self, local: datetime) -> bool:
        """Whether `local`, a time of the place's clock, lies in the window."""
        minute = local.hour * 60 + local.minute
        today = local.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= minute < self.end
        if minute >= self.start:
            return today in self.days
        return minute < self.end and (today - 1) % 7 in self.days


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLine:
    """The one-line form `08:00-20:00 mon-fri: 20MB/s, 10 requests/s, 4 connections`, taken apart."""

    when: str
    concurrency: int | None = None
    requests_per_s: float | None = None
    bytes_per_s: float | None = None


def parse_window(text: str) -> Window:
    """Read `08:00-20:00 mon-fri`; either half may be left out.

    Raises:
        ValueError: it is neither hours nor days, or names a time that is none.
    """
    start, end = 0, DAY_MINUTES
    days: frozenset[int] | None = None
    seen_times = False
    for word in text.lower().replace(", ", ",").split():
        times = _TIMES.fullmatch(word)
        if times is not None and not seen_times:
            seen_times = True
            start, end = _minute(text, times[1], times[2]), _minute(text, times[3], times[4])
            if start in {end, DAY_MINUTES}:
                raise ValueError(f"window {text!r}: an empty span of hours; {_WHEN_ALLOWED}")
        elif times is None and days is None:
            days = _days(text, word)
        else:
            raise ValueError(f"window {text!r}: {word!r} is one too many; {_WHEN_ALLOWED}")
    if not seen_times and days is None:
        raise ValueError(f"window {text!r} is empty; {_WHEN_ALLOWED}")
    return Window(start=start, end=end, days=days if days is not None else frozenset(range(7)))


def parse_bytes_per_s(text: str) -> float:
    """Read `20MB/s` (decimal), `20MiB/s` (binary), `100Mbit/s` or a plain number of bytes a second.

    Raises:
        ValueError: the number or the unit is unknown.
    """
    found = _BYTES.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"rate {text!r}; allowed: bytes a second, or e.g. 500KB/s, 20MB/s, 1GiB/s, 100Mbit/s"
        )
    value = float(found["number"]) * _SCALE[(found["scale"] or "").lower()]
    return value / 8 if (found["unit"] or "").lower().startswith("bit") else value


def parse_requests_per_s(text: str) -> float:
    """Read `10/s`, `10 requests/s` or a plain number.

    Raises:
        ValueError: it is none of these.
    """
    found = _REQUESTS.fullmatch(text.strip()) or re.fullmatch(_NUMBER, text.strip())
    if found is None:
        raise ValueError(f"rate {text!r}; allowed: requests a second, or e.g. 10/s, 10 requests/s")
    return float(found["number"])


def parse_window_line(text: str) -> WindowLine:
    """Read a window with its values in one line.

    Raises:
        ValueError: no `: ` between hours and values, or one of them cannot be read.
    """
    found = _ONE_LINE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"window {text!r}; allowed: e.g. `{_ONE_LINE_EXAMPLE}`")
    parse_window(found["when"])
    concurrency: int | None = None
    requests: float | None = None
    rate: float | None = None
    for value in (part.strip() for part in found["values"].split(",")):
        slots = _SLOTS.fullmatch(value)
        if slots is not None and concurrency is None:
            concurrency = int(slots["number"])
        elif slots is None and _REQUESTS.fullmatch(value) and requests is None:
            requests = parse_requests_per_s(value)
        elif slots is None and not _REQUESTS.fullmatch(value) and rate is None:
            rate = parse_bytes_per_s(value)
        else:
            raise ValueError(f"window {text!r}: {value!r} is a second value of its kind")
    return WindowLine(when=found["when"], concurrency=concurrency, requests_per_s=requests, bytes_per_s=rate)


def _minute(text: str, hour: str, minute: str) -> int:
    value = int(hour) * 60 + int(minute)
    if int(minute) > 59 or value > DAY_MINUTES:
        raise ValueError(f"window {text!r}: {hour}:{minute} is no time of day; {_WHEN_ALLOWED}")
    return value


def _days(text: str, word: str) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        first, dash, last = part.partition("-")
        names = (first, last) if dash else (first, first)
        if any(name not in DAYS for name in names):
            raise ValueError(f"window {text!r}: {part!r} is no day; {_WHEN_ALLOWED}")
        begin, end = DAYS.index(names[0]), DAYS.index(names[1])
        found.update(day % 7 for day in range(begin, end + 1 if begin <= end else end + 8))
    return frozenset(found)
