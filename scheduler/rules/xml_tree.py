"""XML of rule documents as an immutable tree: read safely with line numbers, written in one fixed spelling.

Owns well-formedness (`bad_xml`), the 1 MiB limit (L7) and the normal form of section 9 of SEMANTICS.md. Knows
no element name and no rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from defusedxml.common import DTDForbidden, EntitiesForbidden, ExternalReferenceForbidden
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from scheduler.rules.encodings import foreign_encoding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: L7: larger rule documents are refused before they are parsed.
MAX_DOCUMENT_BYTES = 1024 * 1024
#: Deeper nesting than any rule document has; a bound for what recurses over the tree.
MAX_DEPTH = 32

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
_BOM = b"\xef\xbb\xbf"


class BadXml(ValueError):
    """Not a document that can be read: `line` is 1-based, 0 when unknown."""

    def __init__(self, message: str, *, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class XmlElement:
    """One element: name without namespace, text of a leaf, children of a container."""

    tag: str
    text: str = ""
    children: tuple[XmlElement, ...] = ()
    #: 1-based line of the start tag; 0 for elements that were not read.
    line: int = field(default=0, compare=False)

    def find(self, tag: str) -> XmlElement | None:
        """The first child of that name."""
        return next((child for child in self.children if child.tag == tag), None)

    def all(self, tag: str) -> tuple[XmlElement, ...]:
        """All children of that name, in document order."""
        return tuple(child for child in self.children if child.tag == tag)

    def walk(self) -> Iterator[XmlElement]:
        """This element and everything below it, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(slots=True)
class _Open:
    """An element whose end tag has not been seen."""

    tag: str
    line: int
    text: list[str] = field(default_factory=list)
    children: list[XmlElement] = field(default_factory=list)

    def close(self) -> XmlElement:
        text = "" if self.children else "".join(self.text)
        return XmlElement(tag=self.tag, text=text, children=tuple(self.children), line=self.line)


class _Builder:
    """Target of the parser: builds frozen elements, refuses text beside child elements."""

    def __init__(self) -> None:
        self.stack: list[_Open] = []
        self.root: XmlElement | None = None
        self.parser: Any = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        line = int(self.parser.CurrentLineNumber)
        if len(self.stack) >= MAX_DEPTH:
            raise BadXml(f"nested deeper than {MAX_DEPTH} elements", line=line)
        if attributes:
            raise BadXml(
                f"attribute {next(iter(attributes))!r} on {tag}; rule documents have none", line=line
            )
        if self.stack and "".join(self.stack[-1].text).strip():
            raise BadXml(f"text beside elements in {self.stack[-1].tag}", line=line)
        self.stack.append(_Open(tag=tag.rpartition("}")[2], line=line))

    def end(self, tag: str) -> None:  # noqa: ARG002 - expat has checked that it matches
        element = self.stack.pop().close()
        if self.stack:
            self.stack[-1].children.append(element)
        else:
            self.root = element

    def data(self, data: str) -> None:
        if not self.stack:
            return
        top = self.stack[-1]
        if top.children and data.strip():
            raise BadXml(f"text beside elements in {top.tag}", line=int(self.parser.CurrentLineNumber))
        top.text.append(data)

    def close(self) -> None:
        """Asked for by the parser at the end; the root is taken from `root`."""


def parse(document: str | bytes) -> XmlElement:
    """Read a document into its root element.

    Namespaces are ignored, comments and processing instructions dropped.

    Raises:
        BadXml: larger than 1 MiB, not UTF-8, not well-formed, a DTD or an entity is declared, attributes,
            text beside elements, or nested too deep (SEMANTICS.md 1.1 `bad_xml`).
    """
    raw = document.encode() if isinstance(document, str) else document
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise BadXml(f"{len(raw)} bytes; at most {MAX_DOCUMENT_BYTES} are read")
    if problem := foreign_encoding(raw):
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadXml(problem, line=raw.count(b"\n", 0, error.start) + 1) from error
        raise BadXml(problem, line=1)
    builder = _Builder()
    parser = DefusedXMLParser(target=builder, encoding="utf-8", forbid_dtd=True)
    builder.parser = parser.parser
    try:
        parser.feed(raw.removeprefix(_BOM))
        parser.close()
    except DTDForbidden as error:
        raise BadXml("a DTD is declared", line=int(builder.parser.CurrentLineNumber)) from error
    except (EntitiesForbidden, ExternalReferenceForbidden) as error:
        raise BadXml("an entity is declared", line=int(builder.parser.CurrentLineNumber)) from error
    except ParseError as error:
        raise BadXml(str(error), line=error.position[0]) from error
    if builder.root is None:
        raise BadXml("no element")
    return builder.root


def write(root: XmlElement, *, indent: int | None = None) -> str:
    """The document of a tree: declaration, no white space between elements, empty ones as `<a></a>`.

    `indent` (spaces a level) is for people; without it the text is the normal form of section 9.
    """
    lines = list(_lines(root, 0))
    if indent is None:
        return _DECLARATION + "".join(text for _, text in lines)
    return "\n".join([_DECLARATION, *(" " * (indent * depth) + text for depth, text in lines)]) + "\n"


def normalise(document: str | bytes) -> str:
    """The normal form of a document, for comparing two of them (section 9, *Normalisation*)."""
    return write(_without_blank(parse(document)))


def _without_blank(element: XmlElement) -> XmlElement:
    return XmlElement(
        tag=element.tag,
        text=element.text if element.text.strip() else "",
        children=tuple(_without_blank(child) for child in element.children),
    )


def _lines(element: XmlElement, depth: int) -> Iterator[tuple[int, str]]:
    if not element.children:
        # A carriage return would come back as a line feed if it were not escaped.
        text = escape(element.text, {"\r": "&#13;"})
        yield depth, f"<{element.tag}>{text}</{element.tag}>"
        return
    yield depth, f"<{element.tag}>"
    for child in element.children:
        yield from _lines(child, depth + 1)
    yield depth, f"</{element.tag}>"
