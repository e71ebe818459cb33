"""Known elements of a vendor's document, and reading a tree against them.

Owns what is the same for both vendors: unknown and doubled elements, booleans, integers, the places of
values, the fixed order of elements, masked secrets. Knows no element by name.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from scheduler.rules.problems import Place, ProblemKind
from scheduler.rules.xml_tree import XmlElement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scheduler.rules.problems import Findings

#: What a GET shows in place of a secret.
MASK = "***"

LeafKind = Literal["text", "bool", "int", "secret"]
#: Characters of a name that a message repeats.
_SHOWN = 80
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One known element: a leaf of some kind, or a container with its children in the order of writing."""

    kind: LeafKind | Literal["container"] = "text"
    children: Mapping[str, Node] = field(default_factory=dict)
    #: May occur more than once; its places carry a 1-based index.
    many: bool = False
    #: Written under this name instead (D16).
    rename: str = ""


TEXT = Node()
BOOL = Node(kind="bool")
INT = Node(kind="int")
SECRET = Node(kind="secret")


def container(children: Mapping[str, Node], *, many: bool = False, rename: str = "") -> Node:
    """An element with child elements."""
    return Node(kind="container", children=children, many=many, rename=rename)


def many(node: Node) -> Node:
    """The same element, allowed more than once."""
    return Node(kind=node.kind, children=node.children, many=True)


@dataclass(slots=True)
class Cursor:
    """An element that was checked, where it stands, and what is below it."""

    tag: str
    place: Place
    text: str = ""
    children: list[Cursor] = field(default_factory=list)

    def get(self, *path: str) -> Cursor | None:
        """The element at a path below; None when a part of it is absent."""
        found: Cursor | None = self
        for tag in path:
            if found is None:
                return None
            found = next((child for child in found.children if child.tag == tag), None)
        return found

    def all(self, *path: str) -> list[Cursor]:
        """All elements of the last name below the first elements of the others."""
        parent = self.get(*path[:-1])
        return [] if parent is None else [child for child in parent.children if child.tag == path[-1]]

    def element(self) -> XmlElement:
        """What is kept for the round trip."""
        return XmlElement(
            tag=self.tag,
            text=self.text,
            children=tuple(child.element() for child in self.children),
            line=self.place.line,
        )


def read(
    element: XmlElement,
    node: Node,
    path: str,
    findings: Findings,
    *,
    strict: bool = True,
    ignore_unknown: bool = False,
) -> Cursor:
    """Check a tree against its schema and put its elements in order.

    Unknown elements are problems (warnings when not `strict`) that name the nearest known one. A known
    element of a wrong shape is a problem and left out.
    """
    return _Reader(findings, strict=strict, ignore_unknown=ignore_unknown).read(element, node, path)


class _Reader:
    def __init__(self, findings: Findings, *, strict: bool, ignore_unknown: bool) -> None:
        self.findings = findings
        self.strict = strict
        self.ignore_unknown = ignore_unknown

    def read(self, element: XmlElement, node: Node, path: str) -> Cursor:
        place = Place(path=path, line=element.line)
        if node.kind != "container":
            return self._leaf(element, node, place)
        if element.text.strip():
            self.findings.add(
                place, ProblemKind.BAD_VALUE, f"text {element.text.strip()[:40]!r} in a container"
            )
        cursor = Cursor(tag=node.rename or element.tag, place=place)
        counts: dict[str, int] = {}
        tags: set[str] = set()
        for child in element.children:
            known = node.children.get(child.tag)
            below = f"{path}/{child.tag}" if path else child.tag
            if known is None:
                self._unknown(child, node, below)
                continue
            written_as = known.rename or child.tag
            counts[written_as] = counts.get(written_as, 0) + 1
            if known.many:
                below = f"{below}[{counts[written_as]}]"
            elif child.tag in tags:
                self.findings.add(
                    Place(path=below, line=child.line), ProblemKind.CONFLICT, "an element of one value, twice"
                )
                continue
            tags.add(child.tag)
            found = self.read(child, known, below)
            if counts[written_as] > 1 and not known.many:
                # The other spelling of the same element (D16): real clients send both, and mean both.
                next(item for item in cursor.children if item.tag == written_as).children += found.children
            else:
                cursor.children.append(found)
        order = {child.rename or tag: index for index, (tag, child) in enumerate(node.children.items())}
        cursor.children.sort(key=lambda child: order[child.tag])
        return cursor

    def _leaf(self, element: XmlElement, node: Node, place: Place) -> Cursor:
        text = element.text
        if element.children:
            message = f"no elements are known here, found {element.children[0].tag}"
            self.findings.add(place, ProblemKind.UNKNOWN_ELEMENT, message)
        elif node.kind == "bool":
            text = text.strip().lower()
            if text not in {"true", "false", ""}:
                self.findings.add(
                    place, ProblemKind.BAD_VALUE, f"true or false is needed, found {element.text!r}"
                )
                text = ""
        elif node.kind == "int":
            text = text.strip()
            if text and not _INTEGER.match(text):
                message = f"a decimal number is needed, found {element.text[:40]!r}"
                self.findings.add(place, ProblemKind.BAD_VALUE, message)
                text = ""
        elif node.kind == "secret":
            text = MASK if text else ""
        return Cursor(tag=node.rename or element.tag, place=place, text=text)

    def _unknown(self, child: XmlElement, node: Node, path: str) -> None:
        if self.ignore_unknown:
            return
        if self.strict and self.findings.full:
            self.findings.more += 1
            return
        kind = ProblemKind.UNKNOWN_ELEMENT if self.strict else ProblemKind.WARNING
        hint = _hint(child.tag, tuple(node.children))
        name = f"{child.tag[:_SHOWN]}…" if len(child.tag) > _SHOWN else child.tag
        place = Place(path=f"{path[: -len(child.tag)]}{name}", line=child.line)
        self.findings.add(place, kind, f"unknown element {name}; {hint}")


@lru_cache(maxsize=64)
def _hint(tag: str, known: tuple[str, ...]) -> str:
    """The nearest known name; a document may repeat one mistake very often, and name it at any length."""
    near = difflib.get_close_matches(tag[:_SHOWN], known, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


# -------------------------------------------------------------------- writing


def leaf(tag: str, value: object) -> XmlElement:
    """An element of one value; booleans in lower case."""
    return XmlElement(tag=tag, text=str(value).lower() if isinstance(value, bool) else str(value))


def branch(tag: str, children: Sequence[XmlElement | None]) -> XmlElement | None:
    """A container of what there is; None when that is nothing."""
    present = tuple(child for child in children if child is not None)
    return XmlElement(tag=tag, children=present) if present else None


def leaf_if(tag: str, value: object, default: object) -> XmlElement | None:
    """A leaf, unless the value is the default."""
    return None if value == default else leaf(tag, value)
