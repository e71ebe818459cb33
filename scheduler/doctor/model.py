"""What a check found: well, worth knowing, or broken; and what to do about it.

Pure. Owns the record that every subject gives and that the command shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report."""

    #: configuration, redis, store, gateway, origins, back, loops, rules or limits.
    subject: str
    #: Name of the check, and what it looked at where there are several: a bucket, a host.
    check: str
    of: str = ""
    level: Level
    message: str
    #: What to do; empty for what is well.
    remedy: str = ""


class Subject:
    """Makes the findings of one subject."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.findings: list[Finding] = []

    def ok(self, check: str, message: str, *, of: str = "") -> None:
        """Nothing to do."""
        self._add(check, Level.OK, message, "", of)

    def warning(self, check: str, message: str, remedy: str, *, of: str = "") -> None:
        """It works, and somebody should know."""
        self._add(check, Level.WARNING, message, remedy, of)

    def failed(self, check: str, message: str, remedy: str, *, of: str = "") -> None:
        """It does not work, or will not when it matters."""
        self._add(check, Level.FAILED, message, remedy, of)

    def _add(self, check: str, level: Level, message: str, remedy: str, of: str) -> None:
        self.findings.append(
            Finding(subject=self.name, check=check, of=of, level=level, message=message, remedy=remedy)
        )
