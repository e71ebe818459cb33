"""The documents of DeleteObjects: which keys are to go, and which did not. Pure.

Owns the reading of both.
"""

from __future__ import annotations

from typing import Final

from lxml import etree

_PARSER: Final = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)


def deleted_keys(document: bytes) -> list[str] | None:
    """The keys that a multi-delete names; None when it is no such document."""
    try:
        root = etree.fromstring(document, _PARSER)
    except etree.XMLSyntaxError:
        return None
    if _local(root) != "Delete":
        return None
    return [_text(element, "Key") for element in root if _local(element) == "Object"]


def refused_keys(document: bytes) -> set[str]:
    """The keys that a multi-delete's answer says were not deleted."""
    try:
        root = etree.fromstring(document, _PARSER)
    except etree.XMLSyntaxError:
        return set()
    return {_text(element, "Key") for element in root if _local(element) == "Error"}


def _local(element: etree._Element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _text(root: etree._Element, name: str) -> str:
    return next((element.text or "" for element in root if _local(element) == name), "")
