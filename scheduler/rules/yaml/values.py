"""Values of a YAML or JSON rule by key and type, each with its place remembered.

Owns types and their messages; knows no field by name beyond the table of plain ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scheduler.rules.model import Header
from scheduler.rules.problems import ProblemKind
from scheduler.rules.yaml.fields import PLAIN
from scheduler.rules.yaml.tree import MAX_NUMBER, Value, from_data, report_unknown, wrong_type

if TYPE_CHECKING:
    from scheduler.rules.problems import ReadOptions
    from scheduler.rules.written import WrittenRule
    from scheduler.rules.yaml.fields import Kind


class ValueReader:
    """Reads values of one rule; every problem is recorded, none raised."""

    def __init__(self, value: Value, where: WrittenRule, options: ReadOptions) -> None:
        self.value = value
        self.where = where
        self.options = options

    def section(self, name: str) -> Value:
        found = self.value.get(name)
        if found is None:
            return from_data({}, f"{self.value.path}.{name}")
        self.where.note(name, found.place)
        if found.entries is None:
            wrong_type(found, dict, self.where.findings)
            return from_data({}, found.path)
        return found

    def finish(self, section: Value) -> None:
        report_unknown(section, self.where.findings, strict=self.options.strict)

    def plain(self, name: str, section: Value) -> dict[str, Any]:
        fields = {}
        for key, attribute, kind in PLAIN[name]:
            found = self.get(section, key, f"{name}.{key}", kind)
            if found is not None:
                fields[attribute] = found
        return fields

    def get(self, section: Value, key: str, field: str, kind: Kind | tuple[str, ...]) -> Any:
        """The value of a key, or None when it is absent or (with a problem recorded) wrong."""
        value = section.get(key)
        if value is None:
            return None
        self.where.note(field, value.place)
        scalar = value.scalar
        if isinstance(kind, tuple):
            if isinstance(scalar, bool) and "off" in kind:
                # YAML reads a bare `off` as false; true is the vendor's switch for the digest check (F43).
                scalar = ("stream" if field == "store.check_md5" else scalar) if scalar else "off"
            if field == "request.protocol" and isinstance(scalar, str):
                scalar = scalar.lower()  # F10: any case
            if scalar in kind:
                return scalar
            message = f"one of {', '.join(kind)} is needed, found {value.describe()}"
            self.where.refuse(field, ProblemKind.BAD_VALUE, message)
            return None
        if kind == "texts":
            items = self.items(section, key, field)
            texts = (self.text(item, f"{field}[{i}]") for i, item in enumerate(items))
            return tuple(text for text in texts if text is not None)
        if kind == "codes":
            return self.codes(section, key, field)
        if kind == "text":
            return self.text(value, field)
        number = isinstance(scalar, int | float) and not isinstance(scalar, bool)
        if kind == "float" and number and not abs(scalar) > MAX_NUMBER:
            return float(scalar)
        if kind == "int" and number and isinstance(scalar, int) and abs(scalar) <= MAX_NUMBER:
            return scalar
        if kind == "bool" and isinstance(scalar, bool):
            return scalar
        wrong_type(value, bool if kind == "bool" else int, self.where.findings)
        return None

    def text(self, value: Value, field: str) -> str | None:
        self.where.note(field, value.place)
        if not isinstance(value.scalar, str):
            wrong_type(value, str, self.where.findings)
            return None
        try:
            value.scalar.encode()
        except UnicodeEncodeError:
            self.where.refuse(field, ProblemKind.BAD_VALUE, "half of a surrogate pair is no text")
            return None
        return value.scalar

    def codes(self, section: Value, key: str, field: str) -> tuple[int, ...]:
        codes = []
        for index, item in enumerate(self.items(section, key, field)):
            self.where.note(f"{field}[{index}]", item.place)
            if (
                isinstance(item.scalar, int)
                and not isinstance(item.scalar, bool)
                and item.scalar < MAX_NUMBER
            ):
                codes.append(item.scalar)
            else:
                wrong_type(item, int, self.where.findings)
        return tuple(codes)

    def items(self, section: Value, key: str, field: str) -> list[Value]:
        value = section.get(key)
        if value is None:
            return []
        self.where.note(field, value.place)
        if value.items is None:
            wrong_type(value, list, self.where.findings)
            self.where.failed.add(field)
            return []
        return list(self.where.first(field, value.items))

    def header_name(self, item: Value, place: str) -> str:
        """`name`, or `key` as the vendors call it, of a header in a list."""
        key = "key" if item.get("name") is None else "name"
        name = self.get(item, key, f"{place}.name", "text") or ""
        if not name:
            at = replace(item.place, path=f"{item.path}.name")
            self.where.missing(f"{place}.name", at, "a header name is needed")
        return str(name)

    def headers(self, section: Value, key: str, field: str) -> tuple[Header, ...]:
        found = section.get(key)
        if found is not None and found.entries is not None:
            self.where.note(field, found.place)
            names = list(found.entries)
            pairs = [(name, self.get(found, name, f"{field}[{i}]", "text")) for i, name in enumerate(names)]
            return tuple(Header(name=name, value=text or "") for name, text in pairs)
        headers = []
        for index, item in enumerate(self.items(section, key, field)):
            place = f"{field}[{index}]"
            self.where.note(place, item.place)
            if item.entries is None:
                wrong_type(item, dict, self.where.findings)
                continue
            name = self.header_name(item, place)
            headers.append(Header(name=name, value=self.get(item, "value", f"{place}.value", "text") or ""))
            self.finish(item)
        return tuple(headers)


def plain_data(value: Value) -> Any:
    """The tree as dicts, lists and scalars."""
    if value.entries is not None:
        return {key: plain_data(entry) for key, entry in value.entries.items()}
    if value.items is not None:
        return [plain_data(item) for item in value.items]
    return value.scalar
