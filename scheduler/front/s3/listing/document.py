"""Listings without what is Ferryman's own, and without buckets that a key may not see. Pure.

Owns the change of a listing's XML: all else of it stays as the store wrote it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from lxml import etree

from scheduler.rules.keys import RESERVED, is_reserved

if TYPE_CHECKING:
    from collections.abc import Callable

#: Elements of a listing that stand for one key, or for all keys with a prefix.
_KEYED: Final = {
    "Contents": "Key",
    "Version": "Key",
    "DeleteMarker": "Key",
    "Upload": "Key",
    "CommonPrefixes": "Prefix",
}
_PARSER: Final = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)


def may_name_own(prefix: str) -> bool:
    """Whether a listing of this prefix can hold keys of Ferryman's own."""
    return RESERVED.startswith(prefix[: len(RESERVED)]) or is_reserved(prefix)


def without_own(document: bytes) -> bytes:
    """A listing's XML without keys and prefixes under `.ferryman/`."""
    if RESERVED.encode() not in document:
        return document
    root = etree.fromstring(document, _PARSER)
    url = _text(root, "EncodingType") == "url"
    removed = 0
    last = ""
    for element in list(root):
        inner = _KEYED.get(_local(element))
        if inner is None:
            continue
        written = _text(element, inner)
        last = written if inner == "Key" and _local(element) == "Contents" else last
        if is_reserved(unquote_plus(written) if url else written):
            root.remove(element)
            removed += 1
    if not removed:
        return document
    count = _child(root, "KeyCount")
    if count is not None and (count.text or "").isdecimal():
        count.text = str(max(0, int(count.text or 0) - removed))
    elif (
        count is None
        and last
        and _text(root, "IsTruncated") == "true"
        and _child(root, "NextMarker") is None
        and _local(root) == "ListBucketResult"
    ):
        # Clients of version 1 go on behind the last key that they see, which may be none now.
        marker = etree.SubElement(root, etree.QName(etree.QName(root).namespace, "NextMarker"))
        marker.text = last
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def only_buckets(document: bytes, sees: Callable[[str], bool]) -> bytes:
    """ListBuckets' XML with the buckets that `sees` says yes to."""
    root = etree.fromstring(document, _PARSER)
    for element in list(root.iter()):
        if _local(element) == "Bucket" and not sees(_text(element, "Name")):
            parent = element.getparent()
            if parent is not None:
                parent.remove(element)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _local(element: etree._Element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _child(root: etree._Element, name: str) -> etree._Element | None:
    return next((element for element in root if _local(element) == name), None)


def _text(root: etree._Element, name: str) -> str:
    found = _child(root, name)
    return "" if found is None else found.text or ""
