"""Values for a reader, by the unit in their name: `_s` is seconds, `_bytes` bytes, `at` a Unix time. PURE.

Owns the forms. A number whose name tells no unit is only a number, however large it is.
"""

from __future__ import annotations

import html
from datetime import UTC, datetime

_NARROW = "\u202f"
_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")
#: Endings of names that say a unit of time, and are no part of a heading.
_UNITS = ("_per_s", "_s", "_minutes")


def label(name: str) -> str:
    """A field's name as a heading: `oldest_age_s` is `oldest age`; what is a rate stays one."""
    for unit in _UNITS:
        if name.endswith(unit) and len(name) > len(unit):
            name = name.removesuffix(unit) + ("/s" if unit == "_per_s" else "")
            break
    return name.replace("_", " ")


def quantity(name: str, value: object) -> str:
    """One value as HTML text."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return _number(name, value)
        case _:
            return html.escape(str(value))


def _number(name: str, value: float) -> str:
    if name == "at" or name.endswith("_at"):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if value > 0 else "-"
    if name.endswith("bytes_per_s"):
        return f"{size(value)}/s"
    if name.endswith("_per_s"):
        return plain_number(value)
    if name.endswith("_s"):
        return duration(value)
    if name.endswith("_minutes"):
        return duration(value * 60)
    if name == "bytes" or name.endswith("_bytes"):
        return size(value)
    return plain_number(value)


def plain_number(value: float) -> str:
    """`1 234 567`, `12.3`, `0.05`: never an exponent."""
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", _NARROW)
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def size(n_bytes: float) -> str:
    """Bytes in decimal units, as disks and networks are sold."""
    step, value = 0, float(n_bytes)
    while abs(value) >= 1000 and step < len(_SIZES) - 1:
        value /= 1000
        step += 1
    digits = 0 if step == 0 or value >= 100 else 1
    return f"{value:,.{digits}f}".replace(",", _NARROW) + _NARROW + _SIZES[step]


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would say."""
    if 0 < abs(seconds) < 1:
        return f"{seconds * 1000:.0f}{_NARROW}ms"
    if abs(seconds) < 120:
        return f"{seconds:.0f}{_NARROW}s"
    if abs(seconds) < 7200:
        return f"{seconds / 60:.0f}{_NARROW}min"
    if abs(seconds) < 2 * 86_400:
        return f"{seconds / 3600:.1f}{_NARROW}h"
    return f"{seconds / 86_400:.1f}{_NARROW}d"
