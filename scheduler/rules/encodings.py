"""How the bytes of a document that is not UTF-8 are encoded, as far as they tell. PURE.

Owns the words for it; every reader of rule documents says them, and not what a parser makes of such bytes.
"""

from __future__ import annotations

import codecs
import re

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_DECLARED = re.compile(rb"""\A\s*<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]{0,40})["']""")
#: Bytes that are looked at.
_HEAD_BYTES = 256


def foreign_encoding(raw: bytes) -> str:
    """Why a document is not read, such as `UTF-16; rule documents are in UTF-8`; empty for UTF-8."""
    head = raw[:_HEAD_BYTES]
    found = next((name for mark, name in _MARKS if head.startswith(mark)), "")
    if not found and b"\0" in head[:4]:
        found = "UTF-32" if head[:4].count(0) == 3 else "UTF-16"
    if not found:
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            declared = _DECLARED.match(head)
            found = declared[1].decode("ascii") if declared is not None else "not UTF-8"
    if not found:
        return ""
    return found if found == "not UTF-8" else f"{found}; rule documents are in UTF-8"
