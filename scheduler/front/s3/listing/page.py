"""One page of a bucket's list as a store or an origin sent it. Pure.

Owns the reading of its XML: keys with everything that is said of each, and common prefixes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, unquote_plus
from xml.sax.saxutils import escape, unescape

from lxml import etree

if TYPE_CHECKING:
    from collections.abc import Callable

_PARSER: Final = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
#: References to what XML cannot hold, and such bytes themselves; what stands for them: no key of ours has it.
_NOT_XML: Final = re.compile(
    rb"&#(?:x0*(?:[0-8bcef]|1[0-9a-f])|0*(?:[0-8]|1[124-9]|2[0-9]|3[01]));|[\x00-\x08\x0b\x0c\x0e-\x1f]",
    re.IGNORECASE,
)
LOST: Final = "\uf8ff"
_CONTENTS: Final = re.compile(r"<Contents>(.*?)</Contents>", re.DOTALL)
_FIELD: Final = r"<(?!Key>|Owner>)[A-Za-z]+>[^<]*</[A-Za-z]+>"
_FIELDS: Final = rf"(?:{_FIELD}|<Owner>(?:{_FIELD})*</Owner>|\s)*"
#: An entry of one key, and fields without attributes in any order.
_USUAL: Final = re.compile(rf"({_FIELDS})<Key>([^<]*)</Key>({_FIELDS})")
_SIZE: Final = re.compile(r"<Size>(\d{1,18})</Size>")
_QUOTES: Final = {"&quot;": '"', "&apos;": "'"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a list says of one key, but the key."""

    #: Elements, ready to be sent.
    xml: str
    owner: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What was sent, in the sender's order."""

    keys: dict[str, Entry] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ()
    truncated: bool = False


def read_page(document: bytes, *, plus_is_space: bool | None = None, owners: bool = True) -> Page:
    """A page of ListObjects; `plus_is_space` is how its keys are encoded, None: they are not.

    Raises:
        ValueError: it is no such page.
    """
    if plus_is_space is None:
        document = _NOT_XML.sub(LOST.encode(), document)
    rows: list[tuple[str, Entry]] = []
    usual = _usual(document, owners=owners)
    if usual is not None:
        document, rows = usual
    try:
        root = etree.fromstring(document, _PARSER)
    except etree.XMLSyntaxError as error:
        message = f"no XML: {error}"
        raise ValueError(message) from error
    if etree.QName(root).localname != "ListBucketResult":
        message = f"{etree.QName(root).localname} instead of ListBucketResult"
        raise ValueError(message)
    decode: Callable[[str], str] = str
    truncated = None
    prefixes: list[str] = []
    for element in root:
        name = _local(element)
        if name == "Contents":
            rows.append(_entry(element, owners=owners))
        elif name == "CommonPrefixes":
            prefixes += [child.text or "" for child in element if _local(child) == "Prefix"]
        elif name == "IsTruncated":
            truncated = (element.text or "").strip().lower() == "true"
        elif name == "EncodingType" and element.text == "url" and plus_is_space is not None:
            decode = unquote_plus if plus_is_space else unquote
    if truncated is None:
        message = "it does not say whether there is more (IsTruncated)"
        raise ValueError(message)
    return Page(
        keys={decode(key): entry for key, entry in rows},
        prefixes=tuple(map(decode, prefixes)),
        truncated=truncated,
    )


def _usual(document: bytes, *, owners: bool) -> tuple[bytes, list[tuple[str, Entry]]] | None:
    """The document without its entries, and these; None where one of them has an unusual form.

    Taken as they are written they cost a fifth of building their trees.
    """
    try:
        text = document.decode()
    except UnicodeDecodeError:
        return None
    parts = _CONTENTS.split(text)
    envelope = "".join(parts[::2])
    if "Contents" in envelope or "<!" in envelope:
        return None
    rows: list[tuple[str, Entry]] = []
    for inner in parts[1::2]:
        found = _USUAL.fullmatch(inner)
        if found is None:
            return None
        before, key, after = found.groups()
        if "&" in key:
            if "&#" in key:
                return None
            key = unescape(key, _QUOTES)
        xml, owner = before + after, ""
        if "<Owner>" in xml:
            first, _, rest = xml.partition("<Owner>")
            inside, _, last = rest.partition("</Owner>")
            xml, owner = first + last, f"<Owner>{inside}</Owner>" if owners else ""
        size = _SIZE.search(xml)
        rows.append((key, Entry(xml=xml, owner=owner, size=int(size[1]) if size else 0)))
    return envelope.encode(), rows


def _entry(element: etree._Element, *, owners: bool) -> tuple[str, Entry]:
    key = owner = ""
    size = 0
    out: list[str] = []
    for child in element:
        name, text = _local(child), child.text or ""
        if name == "Key":
            key = text
        elif name == "Owner":
            if not owners:
                continue
            inner = "".join(f"<{_local(one)}>{escape(one.text or '')}</{_local(one)}>" for one in child)
            owner = f"<Owner>{inner}</Owner>"
        elif len(child):
            inner = "".join(f"<{_local(one)}>{escape(one.text or '')}</{_local(one)}>" for one in child)
            out.append(f"<{name}>{inner}</{name}>")
        elif name:
            if name == "Size" and text.isdecimal():
                size = int(text)
            out.append(f"<{name}>{escape(text)}</{name}>")
    return key, Entry(xml="".join(out), owner=owner, size=size)


def _local(element: etree._Element) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""
