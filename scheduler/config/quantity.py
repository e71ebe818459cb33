"""Numbers for a reader: plain ones, bytes, seconds. PURE."""

from __future__ import annotations

_NARROW = "\u202f"
_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")


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
