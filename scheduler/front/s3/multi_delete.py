"""Deletes: which keys are to go, and which did not. Pure.

Owns the reading of the documents of DeleteObjects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lxml import etree

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

#: Codes of a store that has failed, and may have deleted before (5xx where they are an answer's own).
_ITS_OWN_FAULTS: Final = frozenset({"InternalError", "ServiceUnavailable", "SlowDown"})
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


def not_deleted(
    status: int, keys: Sequence[str], document: bytes | None
) -> tuple[Collection[str], Collection[str]]:
    """Of a delete's answer, the keys that the store refused; and those of which nobody knows.

    `document` is the answer of DeleteObjects, None for a delete of one key.
    """
    if status >= 500:
        return (), keys
    if status >= 300:
        return () if document is None and status == 404 else keys, ()
    refused: set[str] = set()
    unknown: set[str] = set()
    try:
        root = etree.fromstring(document or b"<None/>", _PARSER)
    except etree.XMLSyntaxError:
        return refused, unknown
    for element in root:
        if _local(element) == "Error":
            own = _text(element, "Code") in _ITS_OWN_FAULTS
            (unknown if own else refused).add(_text(element, "Key"))
    return refused, unknown


def _local(element: etree._Element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _text(root: etree._Element, name: str) -> str:
    return next((element.text or "" for element in root if _local(element) == name), "")
