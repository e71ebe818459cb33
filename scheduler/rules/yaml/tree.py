"""YAML and JSON as a tree in which every value knows its line.

Owns reading text and telling where a value stands (dotted path, line). Knows no rule.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

import orjson
import yaml

from scheduler.rules.encodings import foreign_encoding
from scheduler.rules.problems import Findings, Place, ProblemKind
from scheduler.rules.xml_tree import MAX_DOCUMENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Aliases multiply; a document that unfolds to more values than this is refused.
MAX_VALUES = 50_000
#: Deeper nesting than any rule document has.
MAX_DEPTH = 32
#: No rule names a larger number; Python refuses to print some that YAML can write.
MAX_NUMBER = 10**18
#: Characters of a value that a message repeats.
_SHOWN = 80
#: A longer number is read as text: to work out its value could take minutes.
_MAX_NUMBER_CHARS = 1000
#: The loader in C where PyYAML has it: ten times faster.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WORDS = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a whole number"}


@dataclass(slots=True)
class Value:
    """One value of a document: a scalar, a list of values, or a mapping of values."""

    path: str
    line: int = 0
    #: The scalar; None for null and for containers.
    scalar: Any = None
    items: list[Value] | None = None
    entries: dict[str, Value] | None = None
    #: Keys that a reader has asked for, so that the rest are unknown.
    asked: set[str] = field(default_factory=set)

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place(path=self.path, line=self.line)

    @property
    def absent(self) -> bool:
        """Whether it says nothing (null)."""
        return self.scalar is None and self.items is None and self.entries is None

    def get(self, key: str) -> Value | None:
        """The value under a key of a mapping; None when absent or null."""
        self.asked.add(key)
        found = (self.entries or {}).get(key)
        return None if found is None or found.absent else found

    def unknown(self) -> Iterable[Value]:
        """Entries that nobody asked for."""
        return [value for key, value in (self.entries or {}).items() if key not in self.asked]

    def describe(self) -> str:
        """What was found, for a message."""
        if self.items is not None:
            return "a list"
        if self.entries is not None:
            return "a mapping"
        if isinstance(self.scalar, int) and abs(self.scalar) > MAX_NUMBER:
            return "a number beyond all use"
        text = repr(self.scalar)
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


class _TooLarge(Exception):
    """The document unfolds to too many values."""


class _TooDeep(Exception):
    """The document is nested too deep; `line` is where."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line


def _check_size(text: str) -> None:
    """Refuse what the reader in C would recurse over until its stack ends, and the process with it.

    Raises:
        _TooDeep: nested deeper than any rule document.
        _TooLarge: more values than are read.
        yaml.YAMLError: not YAML.
    """
    depth = count = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            continue
        count += 1
        if count > 2 * MAX_VALUES:  # a value and its key
            raise _TooLarge
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _TooDeep(event.start_mark.line + 1 if event.start_mark is not None else 0)


def from_text(text: str | bytes, findings: Findings) -> Value | None:
    """Read YAML or JSON; None, with a problem recorded, when it is neither."""
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) > MAX_DOCUMENT_BYTES:
        message = f"{len(raw)} bytes; at most {MAX_DOCUMENT_BYTES} are read"
        findings.add(Place(path="", line=0), ProblemKind.TOO_LARGE, message)
        return None
    if problem := foreign_encoding(raw):
        findings.add(Place(path="", line=0), ProblemKind.BAD_YAML, problem)
        return None
    if raw.lstrip()[:1] in {b"{", b"["}:
        try:
            data = orjson.loads(raw)
        except ValueError:
            data = None  # YAML in flow style, or broken: the YAML reader tells
        if data is not None:
            if b"\\u" in raw and raw.count(b",") < MAX_VALUES:
                return from_data(data, "")  # YAML would not join the two halves of a \ud83d\ude00
            raw = raw.replace(b"\t", b" ")  # no JSON string has a bare tab, and YAML refuses them as indent
    try:
        text = raw.decode("utf-8")
        loader = _Loader(text)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        findings.add(Place(path="", line=0), ProblemKind.BAD_YAML, str(error))
        return None
    try:
        _check_size(text)
        node = loader.get_single_node()
        return Value(path="", line=1) if node is None else _NodeReader(loader, findings).read(node, "")
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 0
        findings.add(Place(path="", line=line), ProblemKind.BAD_YAML, error.problem or str(error))
    except (yaml.YAMLError, ValueError) as error:
        findings.add(Place(path="", line=0), ProblemKind.BAD_YAML, str(error))
    except _TooDeep as error:
        findings.add(Place(path="", line=error.line), ProblemKind.BAD_YAML, f"nested deeper than {MAX_DEPTH}")
    except (_TooLarge, RecursionError):
        message = f"unfolds to more than {MAX_VALUES} values"
        findings.add(Place(path="", line=0), ProblemKind.TOO_LARGE, message)
    finally:
        loader.dispose()
    return None


def from_data(data: Any, path: str, *, depth: int = 0) -> Value:
    """The same tree from what has been parsed already; it has no lines.

    No reader looks as deep as `MAX_DEPTH`; what is below is cut off, so that nobody recurses over it.
    """
    if depth > MAX_DEPTH:
        return Value(path=path, scalar="nested too deep")
    if isinstance(data, Mapping):
        entries = {
            str(key): from_data(value, _below(path, str(key)), depth=depth + 1) for key, value in data.items()
        }
        return Value(path=path, entries=entries)
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        items = [from_data(item, f"{path}[{i}]", depth=depth + 1) for i, item in enumerate(data)]
        return Value(path=path, items=items)
    return Value(path=path, scalar=data)


def report_unknown(value: Value, findings: Findings, *, strict: bool) -> None:
    """Record every entry that no reader asked for, with the nearest known name."""
    for extra in value.unknown():
        name = extra.path.rpartition(".")[2]
        near = difflib.get_close_matches(name, value.asked, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(value.asked))}"
        kind = ProblemKind.UNKNOWN_ELEMENT if strict else ProblemKind.WARNING
        findings.add(extra.place, kind, f"unknown key {name!r}; {hint}")


def wrong_type(value: Value, wanted: type, findings: Findings) -> None:
    """Record that a value is not what is needed."""
    quotable = isinstance(value.scalar, int | float | date)
    hint = "; put it in quotes" if wanted is str and quotable else ""
    message = f"{_WORDS[wanted]} is needed, found {value.describe()}{hint}"
    findings.add(value.place, ProblemKind.BAD_VALUE, message)


class _NodeReader:
    """Turns composed nodes into values; counts them, because aliases are shared nodes."""

    def __init__(self, loader: yaml.SafeLoader, findings: Findings) -> None:
        self.loader = loader
        self.findings = findings
        self.left = MAX_VALUES

    def read(self, node: yaml.Node, path: str) -> Value:
        self.left -= 1
        if self.left < 0:
            raise _TooLarge
        line = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return Value(path=path, line=line, entries=self._entries(node, path))
        if isinstance(node, yaml.SequenceNode):
            items = [self.read(item, f"{path}[{index}]") for index, item in enumerate(node.value)]
            return Value(path=path, line=line, items=items)
        if len(node.value) > _MAX_NUMBER_CHARS and not node.tag.endswith(":str"):
            return Value(path=path, line=line, scalar=node.value)
        return Value(path=path, line=line, scalar=self._scalar(node))

    def _scalar(self, node: yaml.Node) -> Any:
        """The value of a scalar; a tag in the document may claim what the text is not (`!!timestamp x`).

        Raises:
            yaml.MarkedYAMLError: it is not what its tag says.
        """
        try:
            return self.loader.construct_object(node)
        except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
            kind = node.tag.rpartition(":")[2]
            message = f"{str(node.value)[:_MAX_NUMBER_CHARS]!r} is no {kind}"
            raise yaml.MarkedYAMLError(problem=message, problem_mark=node.start_mark) from error

    def _entries(self, node: yaml.MappingNode, path: str) -> dict[str, Value]:
        own = {id(key) for key, _ in node.value}
        self.loader.flatten_mapping(node)
        entries: dict[str, Value] = {}
        written: set[str] = set()
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "(no text)"
            value = self.read(value_node, _below(path, key))
            value.line = key_node.start_mark.line + 1
            if id(key_node) in own and key in written:
                self.findings.add(value.place, ProblemKind.CONFLICT, "given twice")
            if id(key_node) in own:
                written.add(key)
            entries[key] = value
        return entries


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
