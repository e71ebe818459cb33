"""Where each field of a rule stands in the document it was read from. PURE.

Owns the way from a canonical field (`origin.hosts[0].weight`) to the document's own path and line. Knows no
format: codecs fill it, checks only ask.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from scheduler.rules.problems import MAX_LIST, ProblemKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.rules.problems import Findings, Place

T = TypeVar("T")


@dataclass(slots=True)
class WrittenRule:
    """One rule of a document while it is read: its place, the places of its fields, and what was found."""

    #: Position in the document, from 0.
    index: int
    place: Place
    findings: Findings
    #: Only fields that were written.
    places: dict[str, Place] = field(default_factory=dict)
    #: Tags of lists whose place is that of the element around them.
    repeated: dict[str, str] = field(default_factory=dict)
    #: Kinds of trouble already told, by field, so that one mistake is one problem.
    failed: set[str] = field(default_factory=set)

    def at(self, name: str) -> Place:
        """The place of a field, or of the nearest container that was written."""
        while name:
            found = self.places.get(name)
            if found is not None:
                return found
            cut = max(name.rfind("."), name.rfind("["))
            name = name[:cut] if cut > 0 else ""
        return self.place

    def has(self, name: str) -> bool:
        """Whether the document gave this field."""
        return name in self.places

    def note(self, name: str, place: Place) -> Place:
        """Remember where a field stands."""
        self.places[name] = place
        return place

    def missing(self, name: str, place: Place, message: str) -> None:
        """Record that a required field is not there; `place` is where it would stand."""
        self.note(name, place)
        self.refuse(name, ProblemKind.MISSING_FIELD, message)

    def first(self, name: str, items: Sequence[T]) -> Sequence[T]:
        """As much of a list as is read: a megabyte holds 20 000 headers, and one problem tells it."""
        if len(items) > MAX_LIST:
            self.refuse(
                name, ProblemKind.TOO_MANY, f"{self._count(name, items)}; no list has over {MAX_LIST}"
            )
        return items[:MAX_LIST]

    def too_many(self, name: str, items: Sequence[object], limit: int) -> None:
        """Record that a list is longer than its limit."""
        self.refuse(name, ProblemKind.TOO_MANY, f"{self._count(name, items)}; at most {limit}")

    def _count(self, name: str, items: Sequence[object]) -> str:
        tag = self.repeated.get(name)
        return str(len(items)) if tag is None else f"{len(items)} {tag}"

    def refuse(self, name: str, kind: ProblemKind, message: str) -> None:
        """Record a problem of a field, the first one only."""
        if name not in self.failed:
            self.failed.add(name)
            self.findings.add(self.at(name), kind, message)

    def warn(self, name: str, message: str) -> None:
        """Record a warning about a field."""
        self.findings.warn(self.at(name), message)
