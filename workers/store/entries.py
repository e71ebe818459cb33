"""The entries of a listing's page by regular expressions, where the page is of a form that is known. PURE.

Owns what is taken for such a form, and nothing of what it means: the unusual is left to the XML parser. All
entries of a page nearly always look alike, so the first one's shape, tag for tag, makes an expression of its
own, which costs a third of the general one; whether every entry had it is looked at afterwards.
"""

from __future__ import annotations

import re
from typing import Final

_COLUMNS: Final = ("Key", "Size", "ETag", "LastModified")
#: Of a size: no object has more bytes, and Python takes no number of thousands of them.
_MOST_DIGITS: Final = 19
_QUOTE: Final = r"(?:&quot;|&#34;|\")?"
#: Shapes that are remembered; a store has one or two.
_MOST_SHAPES: Final = 64
_LONGEST_SHAPE: Final = 2_000


def _entry(*elements: str) -> re.Pattern[str]:
    """An entry with these elements in this order, others that we do not read between them."""
    other = (
        r"(?:<(?:StorageClass|ChecksumAlgorithm|ChecksumType)>[^<&]*</(?:StorageClass|ChecksumAlgorithm|ChecksumType)>"
        r"|<Owner>(?:<(?:ID|DisplayName)>[^<&]*</(?:ID|DisplayName)>)*</Owner>)*"
    )
    forms = {
        "Key": r"<Key>([^<&]*)</Key>",
        "LastModified": r"<LastModified>([^<&]*)</LastModified>",
        "ETag": rf"<ETag>{_QUOTE}([^<&\"]*){_QUOTE}</ETag>",
        "Size": rf"<Size>(\d{{1,{_MOST_DIGITS}}})</Size>",
    }
    return re.compile("<Contents>" + other.join(forms[name] for name in elements) + other + "</Contents>")


#: An entry as S3 and most others write it, and as SeaweedFS does; and where key, size, ETag and time stand.
_ENTRIES: Final = (
    (_entry("Key", "LastModified", "ETag", "Size"), (0, 3, 2, 1)),
    (_entry("Key", "ETag", "Size", "LastModified"), (0, 2, 1, 3)),
)
_TEXT: Final = re.compile(r"<(/?)(\w+)>([^<]*)")
#: Text of the first entry's tags -> the expression of that shape.
_shapes: dict[str, re.Pattern[str]] = {}


def split(body: bytes) -> tuple[bytes, list[list[str]]] | None:
    """The page without its entries, and their columns: key, size, ETag, time; None when it is unusual."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    begin = text.find("<Contents>")
    if begin < 0:
        return None
    for general, order in _ENTRIES:
        first = general.match(text, begin)
        if first is None:
            continue
        shape = _shape(first)
        columns = (_alike(text, shape) if shape is not None else None) or _each(text, general)
        if columns is None:
            continue
        envelope, *found = columns
        if "Contents" in envelope[0] or "<!" in envelope[0]:
            return None
        return envelope[0].encode(), [found[at] for at in order]
    return None


def _each(text: str, general: re.Pattern[str]) -> list[list[str]] | None:
    """Envelope and columns, each entry in a form of its own; None when one is in none."""
    parts = general.split(text)
    if any(parts[5:-1:5]):
        return None
    return [[parts[0] + parts[-1]], *(parts[at:-1:5] for at in range(1, 5))]


def _alike(text: str, shape: re.Pattern[str]) -> list[list[str]] | None:
    """The same where every entry has one shape; None when one has another.

    The expression takes any text but tags, which a machine finds fast. What the general one would not take is
    looked for in all of it at once: references but those that quote ETags, quotes, sizes that are no number.
    """
    parts = shape.split(text)
    if any(parts[5:-1:5]):
        return None
    envelope = parts[0] + parts[-1]
    columns = [parts[at:-1:5] for at in range(1, 5)]
    etags, sizes = (columns[at] for at in _places(shape))
    references = shape.pattern.count("&") * len(etags)
    if (
        "Contents" in envelope
        or text.count("&") != references + envelope.count("&")
        or '"' in "".join(etags)
        or not all(sizes)
        or not "".join(sizes).isdecimal()
        or max(map(len, sizes)) > _MOST_DIGITS
    ):
        return None
    return [[envelope], *columns]


def _places(shape: re.Pattern[str]) -> tuple[int, int]:
    """Where ETag and size stand among the columns."""
    return (2, 3) if shape.pattern.index("<ETag>") > shape.pattern.index("<LastModified>") else (1, 2)


def _shape(first: re.Match[str]) -> re.Pattern[str] | None:
    """What matches entries with the very tags of this one, in this order, its ETag quoted alike."""
    form = "".join([
        f"<{end}{name}>{'' if end else _text_of(name, text)}" for end, name, text in _TEXT.findall(first[0])
    ])  # fmt: skip
    known = _shapes.get(form)
    if known is None:
        if len(form) > _LONGEST_SHAPE:
            return None
        if len(_shapes) >= _MOST_SHAPES:
            _shapes.clear()
        known = _shapes[form] = re.compile(form)
    return known


def _text_of(name: str, text: str) -> str:
    """What matches the text of an element."""
    if name == "ETag":
        return _etag(text)
    if name in _COLUMNS:
        return "([^<]*)"
    return "[^<]*" if text else ""


def _etag(text: str) -> str:
    before, after = re.fullmatch(rf"({_QUOTE})[^<&\"]*?({_QUOTE})", text).groups()  # type: ignore[union-attr]
    return f"{before}([^<]*){after}"
