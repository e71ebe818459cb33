"""What a line of a manifest says: a key, and perhaps size, digest and time. PURE.

Owns the columns by their usual names, and the check of every value: what is not what it should be is an error
that says so, never a guess. Knows no file; the reader of the file adds its name and the line.
"""

from __future__ import annotations

import base64
import binascii
import csv
import datetime as dt
import math
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from scheduler.rules.keys import client_path
from scheduler.scan.inventory.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_KEY_COLUMNS = ("key", "url", "path", "name", "object", "object_key")
_SIZE_COLUMNS = ("size", "size_bytes", "bytes", "length", "content_length")
_MTIME_COLUMNS = ("mtime", "last_modified", "modified", "last_modified_date")
_DIGEST_COLUMNS = {
    "md5": "md5", "content_md5": "md5", "hash": "md5", "sha256": "sha256", "sha1": "sha1", "crc32c": "crc32c",
    "etag": "etag", "e_tag": "etag",
}  # fmt: skip
_KNOWN_COLUMNS = frozenset((*_KEY_COLUMNS, *_SIZE_COLUMNS, *_MTIME_COLUMNS, *_DIGEST_COLUMNS))
#: What a text begins with that is not a key as it stands.
_NOT_AS_IT_STANDS = ("http://", "https://", "/")
_DIGEST_BYTES = {"md5": 16, "sha256": 32, "sha1": 20, "crc32c": 4}
#: What separates the cells of a line; the first that makes sense of the header is taken.
SEPARATORS = (",", ";", "\t")


def _key(text: str, strip: str) -> str:
    """A key as it stands, or that of a URL: its path, decoded once (SEMANTICS.md 3.1); the query is no
    part.
    """
    if text.startswith(("http://", "https://")):
        try:
            path = urlsplit(text).path
        except ValueError as error:
            msg = f"{text[:200]!r} is no URL: {error}"
            raise ValueError(msg) from error
        key = client_path(path.encode("utf-8", "surrogateescape")).key
    else:
        key = text.lstrip("/")
    return stripped(key, strip)


def stripped(key: str, strip: str) -> str:
    """A key without what is to be cut from its front, with or without the slash at its end.

    `img` and `img/` cut the same from `img/a`; a cut leaves no slash in front, as `consume --strip-prefix`.
    """
    strip = strip.lstrip("/")
    return key.removeprefix(strip).lstrip("/") if strip and key.startswith(strip) else key


def plain(lines: Iterable[str], strip: str) -> Iterator[Entry]:
    """A key or a URL a line; empty lines are passed over."""
    for line in lines:
        text = line.rstrip("\r\n")
        if text:
            yield Entry(_key(text, strip) if strip or text.startswith(_NOT_AS_IT_STANDS) else text)


def httplist(lines: Iterable[str], strip: str) -> Iterator[Entry]:
    """Lines of OssImport, `http://host/prefix/ <white space> name`: the name alone is the key."""
    for line in lines:
        if line.strip():
            cells = line.split(None, 1)
            if len(cells) != 2:
                msg = f"{line.strip()[:100]!r}: a URL, white space and a name are expected"
                raise ValueError(msg)
            yield Entry(_key(cells[1].strip(), strip))


def tsv(lines: Iterable[str], strip: str) -> Iterator[Entry]:
    """Lines of Storage Transfer behind their header: URL, size, MD5 in base64."""
    filled = (line for line in lines if line.strip())
    for line in islice(filled, 1, None):
        cells = line.rstrip("\r\n").split("\t")
        n_bytes = size(cells[1]) if len(cells) > 1 and cells[1] else None
        md5 = digest("md5", cells[2]) if len(cells) > 2 and cells[2] else None
        yield Entry(_key(cells[0], strip), n_bytes, md5)


def jsonl(lines: Iterable[str], strip: str) -> Iterator[Entry]:
    """One JSON object a line."""
    for line in lines:
        if line.strip():
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                msg = f"one JSON object a line is expected: {error}"
                raise ValueError(msg) from error
            if not isinstance(row, dict):
                msg = f"one JSON object a line is expected, found {line.strip()[:100]}"
                raise ValueError(msg)  # the line's fault, not the caller's
            yield _row({_column(str(name)): value for name, value in row.items()}, strip)


def separator(head: str) -> str | None:
    """What separates the names in a header line with a column of keys; None when it is no such line."""
    for one in SEPARATORS:
        cells = head.split(one)
        if len(cells) > 1 and {_column(cell) for cell in cells} & set(_KEY_COLUMNS):
            return one
    return None


def is_header(line: str) -> bool:
    """Whether a line can hardly be anything but a header: a column of keys, and another that is known."""
    return any(
        len(names & set(_KEY_COLUMNS)) > 0 and len(names & _KNOWN_COLUMNS) > 1
        for names in ({_column(cell) for cell in line.split(one)} for one in SEPARATORS)
    )


def is_key_column(line: str) -> bool:
    """Whether a line is the name of a column of keys, and no more."""
    return _column(line) in _KEY_COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Separated:
    """What the first row of a CSV says of those behind it."""

    separator: str
    names: list[str]
    #: Lines up to its end, and what it is when it is no header.
    lines: int
    first: list[str] | None

    @property
    def key_and_size(self) -> tuple[int, int] | None:
        """Where key and size stand, when nothing else that is read here does."""
        return _key_and_size(self.names)


def separated(lines: Iterable[str], strip: str) -> Iterator[Entry]:
    """CSV by comma, semicolon or tab: with a header, or key, size and MD5 in this order."""
    rest = iter(lines)
    form = begun(rest)
    yield from first_row(form, strip)
    yield from further(rest, form, strip, behind=form.lines)


def begun(rest: Iterator[str]) -> Separated:
    """The form of a CSV; takes its first row."""
    blank: list[str] = []
    head = ""
    for head in rest:  # the first line that is not blank
        if head.strip():
            break
        blank.append("\n")
    by = separator(head) or ","
    reader = csv.reader(chain(blank, (head,), rest), strict=True, delimiter=by)
    first = next((row for row in reader if row), [])
    names = [_column(cell) for cell in first]
    is_header_row = bool(set(names) & set(_KEY_COLUMNS))
    return Separated(
        separator=by,
        names=names if is_header_row else ["key", "size", "md5"],
        lines=reader.line_num,
        first=None if is_header_row or not first else first,
    )


def first_row(form: Separated, strip: str) -> Iterator[Entry]:
    """The entry in the first row, when it is no header."""
    if form.first is not None:
        yield _headless(form.first, strip)


def further(lines: Iterable[str], form: Separated, strip: str, *, behind: int) -> Iterator[Entry]:
    """The rows behind the first; `behind`: lines that are read already."""
    reader = csv.reader(lines, strict=True, delimiter=form.separator)
    names = form.names
    found = form.key_and_size
    width = len(names)
    begins = behind + 1
    try:
        for row in reader:
            if found is not None and len(row) == width:
                # Most manifests are these two columns, millions of times.
                key, number = row[found[0]], row[found[1]]
                if key and number.isdecimal() and not strip and not key.startswith(_NOT_AS_IT_STANDS):
                    yield Entry(key, int(number))
                    begins = behind + reader.line_num + 1
                    continue
            if row:
                yield _cells(names, row, strip)
            begins = behind + reader.line_num + 1
    except csv.Error as error:
        msg = f"{error}: is a quote left open? This row begins in line {begins}"
        raise ValueError(msg) from error


def _headless(cells: list[str], strip: str) -> Entry:
    try:
        return _cells(["key", "size", "md5"], cells, strip)
    except ValueError as error:
        expected = f"a header with one of {', '.join(_KEY_COLUMNS)}, or key, size and MD5 without a header"
        msg = f"{error}; {expected} is expected"
        raise ValueError(msg) from error


def _cells(names: list[str], row: list[str], strip: str) -> Entry:
    if any(row[len(names) :]):
        # Most often a key with a separator in it: its first half would be another key.
        msg = f"{len(row)} cells where {len(names)} are expected; is a separator in a cell without quotes?"
        raise ValueError(msg)
    return _row(dict(zip(names, row, strict=False)), strip)


def _key_and_size(names: list[str]) -> tuple[int, int] | None:
    """Where key and size stand, when nothing else that is read here does."""
    known = [name for name in names if name in _KNOWN_COLUMNS]
    if len(known) != 2 or known[0] == known[1]:
        return None
    keys = [at for at, name in enumerate(names) if name in _KEY_COLUMNS]
    sizes = [at for at, name in enumerate(names) if name in _SIZE_COLUMNS]
    return (keys[0], sizes[0]) if keys and sizes else None


def _row(row: dict[str, Any], strip: str) -> Entry:
    text = _first(row, _KEY_COLUMNS)
    if text is None:
        found_names = ", ".join(row) or "nothing"
        msg = f"no key; one of {', '.join(_KEY_COLUMNS)} is expected, found {found_names}"
        raise ValueError(msg)
    if not isinstance(text, str):
        msg = f"key {text!r} is no text"
        raise ValueError(msg)  # noqa: TRY004  # the line's fault, not the caller's
    n_bytes = _first(row, _SIZE_COLUMNS)
    changed = _first(row, _MTIME_COLUMNS)
    found = next(((kind, row[name]) for name, kind in _DIGEST_COLUMNS.items() if row.get(name)), None)
    return Entry(
        _key(text, strip),
        None if n_bytes is None else size(n_bytes),
        None if found is None else digest(found[0], str(found[1])),
        None if changed is None else unix_time(changed),
    )


def _first(row: dict[str, Any], names: Iterable[str]) -> Any:
    """The first value that is neither missing, null nor empty."""
    values = (row.get(name) for name in names)
    return next((value for value in values if value is not None and value != ""), None)


def size(value: Any) -> int:
    """Bytes, of a whole number or its text.

    Raises:
        ValueError: it is something else, or negative.
    """
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        text = str(value).strip()
        if text.isdecimal() and len(text) < 20:
            return int(text)
    msg = f"size {str(value)[:50]!r} is no whole number of bytes"
    raise ValueError(msg)


def explained(error: Exception) -> str:
    """What to say of an error that reading a line met."""
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return str(error) or type(error).__name__


def unix_time(value: Any) -> float:
    """Unix seconds of a number or an ISO 8601 time; a time without a zone is UTC.

    Raises:
        ValueError: it is neither.
    """
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            moment = dt.datetime.fromisoformat(str(value))
        except ValueError as error:
            msg = f"time {str(value)[:50]!r} is neither Unix seconds nor ISO 8601"
            raise ValueError(msg) from error
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
    if not math.isfinite(seconds):
        msg = f"time {value!r} is no time"
        raise ValueError(msg)
    return seconds


def digest(kind: str, text: str) -> str:
    """`kind:hex` of a digest in hex or base64; an ETag that looks like an MD5 is one, others stay opaque."""
    text = text.strip().strip('"')
    if kind == "etag":
        plain = len(text) == 32 and all(char in "0123456789abcdefABCDEF" for char in text)
        if not text.isprintable():
            msg = f"etag {text!r} has characters that no ETag has"
            raise ValueError(msg)
        return f"md5:{text.lower()}" if plain else f"etag:{text}"
    length = _DIGEST_BYTES[kind]
    try:
        raw = bytes.fromhex(text) if len(text) == 2 * length else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        msg = f"{kind} {text!r} is neither hex nor base64"
        raise ValueError(msg) from error
    if len(raw) != length:
        msg = f"{kind} {text!r} has {len(raw)} bytes, {length} are expected"
        raise ValueError(msg)
    return f"{kind}:{raw.hex()}"


def _column(cell: str) -> str:
    return cell.strip().strip('"').lower().replace(" ", "_").replace("-", "_")
