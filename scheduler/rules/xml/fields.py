"""Values of one rule's element as canonical fields, each with its place remembered.

Owns what an empty element means (an empty string for text, absent elsewhere; SEMANTICS.md 1.1). Knows no
vendor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from scheduler.rules.model import Header
from scheduler.rules.problems import Place, ProblemKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.rules.written import WrittenRule
    from scheduler.rules.xml.schema import Cursor

T = TypeVar("T")


@dataclass(slots=True)
class FieldReader:
    """Reads below one element; a problem is recorded, never raised."""

    cursor: Cursor
    where: WrittenRule

    def find(self, field: str, *path: str) -> Cursor | None:
        """The element at a path, noted as the place of `field`."""
        found = self.cursor.get(*path)
        if found is not None:
            self.where.note(field, found.place)
        return found

    def missing(self, field: str, message: str, *path: str) -> None:
        """Refuse, because the element at this path is absent or empty; the problem names its path."""
        deepest = self.cursor
        for tag in path:
            below = deepest.get(tag)
            if below is None:
                break
            deepest = below
        place = Place(path="/".join([self.cursor.place.path, *path]), line=deepest.place.line)
        self.where.missing(field, place, message)

    def text(self, field: str, *path: str) -> str | None:
        """The text, which may be empty; None when the element is absent."""
        found = self.find(field, *path)
        return None if found is None else found.text

    def filled(self, field: str, *path: str) -> str | None:
        """The text; None when the element is absent or empty."""
        found = self.cursor.get(*path)
        return self.text(field, *path) if found is not None and found.text else None

    def boolean(self, field: str, *path: str) -> bool | None:
        """A boolean; None when absent or empty."""
        text = self.filled(field, *path)
        return None if text is None else text == "true"

    def integer(self, field: str, *path: str) -> int | None:
        """An integer; None when absent or empty."""
        text = self.filled(field, *path)
        return None if text is None else int(text)

    def choice(self, field: str, words: Mapping[str, T], *path: str, any_case: bool = False) -> T | None:
        """One of some words; None when absent, empty or (with a problem) another one."""
        text = self.filled(field, *path)
        if text is None:
            return None
        for word, value in words.items():
            if word == text or (any_case and word.lower() == text.lower()):
                return value
        message = f"one of {', '.join(words)} is needed, found {text[:40]!r}"
        self.where.refuse(field, ProblemKind.BAD_VALUE, message)
        return None

    def texts(self, field: str, *path: str) -> tuple[str, ...]:
        """The texts of a repeated element."""
        self.note_list(field, *path)
        found = self.where.first(field, self.cursor.all(*path))
        for index, item in enumerate(found):
            self.where.note(f"{field}[{index}]", item.place)
        return tuple(item.text for item in found)

    def headers(self, field: str, *path: str) -> tuple[Header, ...]:
        """Repeated elements of `Key` and `Value`."""
        return tuple(Header(name=name, value=value) for name, value in self.pairs(field, *path))

    def pairs(self, field: str, *path: str) -> list[tuple[str, str]]:
        """Repeated elements of `Key` and `Value`, as pairs."""
        self.note_list(field, *path)
        pairs = []
        for index, item in enumerate(self.where.first(field, self.cursor.all(*path))):
            self.where.note(f"{field}[{index}]", item.place)
            reader = FieldReader(item, self.where)
            name = reader.text(f"{field}[{index}].name", "Key") or ""
            if not name:
                reader.missing(f"{field}[{index}].name", "Key is needed", "Key")
            pairs.append((name, reader.text(f"{field}[{index}].value", "Value") or ""))
        return pairs

    def note_list(self, field: str, *path: str) -> None:
        """The place of a list is that of the element that holds it; what repeats there is named beside it."""
        parent = self.cursor.get(*path[:-1])
        if parent is not None:
            self.where.note(field, parent.place)
            self.where.repeated[field] = path[-1]


def given(**values: object) -> dict[str, object]:
    """Those arguments that are not None: fields that a document gave."""
    return {name: value for name, value in values.items() if value is not None}
