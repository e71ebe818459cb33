"""Inventory from a manifest: a list of keys or URLs in a file or behind a URL, plain or gzip.

Owns the manifest formats: plain (a key or URL a line), CSV, JSON Lines, the TSV of Storage Transfer
(`TsvHttpData-1.0`) and the two-column httplist of OssImport. A line that cannot be read fails the scan with
file and line: a list with a hole proves nothing.

Options beside the path: `format` (else found out from the first line), `strip_prefix` (cut from the front of
URL paths and keys).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import csv
import datetime as dt
import gzip
import tempfile
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import httpx
import orjson

from scheduler.rules.keys import KeyRefused, client_path
from scheduler.scan.inventory.entry import Entry
from workers.errors import ConfigError, FerrymanError

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from scheduler.runtime import Services

FORMATS = ("plain", "csv", "jsonl", "tsv", "httplist")
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
#: Entries read at a time.
_BLOCK = 5_000
_DIGEST_BYTES = {"md5": 16, "sha256": 32, "sha1": 20, "crc32c": 4}


class ManifestBroken(FerrymanError):
    """A manifest cannot be read; the message names file and line."""


async def blocks(argument: Any, options: dict[str, Any], services: Services) -> AsyncIterator[list[Entry]]:
    """Every entry of the manifest at `argument` (path or http(s) URL), in its own order, in blocks.

    Raises:
        ConfigError: no such file, or an unknown option or format.
        ManifestBroken: a line cannot be read, or the download failed.
    """
    unknown = sorted(set(options) - {"format", "strip_prefix"})
    if unknown:
        msg = f"manifest: unknown option {unknown[0]!r}; known: format, strip_prefix"
        raise ConfigError(msg)
    form = options.get("format")
    if form is not None and form not in FORMATS:
        msg = f"manifest: format {form!r} is none of {', '.join(FORMATS)}"
        raise ConfigError(msg)
    place = str(argument)
    if place.startswith(("http://", "https://")):
        services.settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=services.settings.data_dir, prefix="manifest-") as file:
            await _download(place, cast("io.BufferedWriter", file))
            found = read(Path(file.name), shown=place, form=form, strip=options.get("strip_prefix", ""))
            while block := await asyncio.to_thread(_some, found):
                yield block
    else:
        found = read(Path(place), shown=place, form=form, strip=options.get("strip_prefix", ""))
        while block := await asyncio.to_thread(_some, found):
            yield block


def _some(found: Iterator[Entry]) -> list[Entry]:
    return list(islice(found, _BLOCK))


async def _download(url: str, file: io.BufferedWriter) -> None:
    try:
        async with (
            httpx.AsyncClient(follow_redirects=True, timeout=60) as client,
            client.stream("GET", url, headers={"accept-encoding": "identity"}) as response,
        ):
            response.raise_for_status()
            promised = response.headers.get("content-length")
            got = 0
            async for chunk in response.aiter_raw():
                got += len(chunk)
                file.write(chunk)
    except httpx.HTTPError as error:
        msg = f"{url}: {error}"
        raise ManifestBroken(msg) from error
    if promised is not None and int(promised) != got:
        msg = f"{url}: {got} of {promised} bytes came"
        raise ManifestBroken(msg)
    file.flush()


def read(path: Path, *, shown: str, form: str | None = None, strip: str = "") -> Iterator[Entry]:
    """The entries of a local manifest; `shown` names it in messages. Constant memory."""
    try:
        raw = path.open("rb")
    except OSError as error:
        msg = f"manifest {shown}: {error.strerror}"
        raise ConfigError(msg) from error
    with raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        lines = _Lines(cast("Iterable[bytes]", gzip.GzipFile(fileobj=raw) if packed else raw))
        try:
            head = lines.head()
            form = form or detect(head, shown)
            yield from _READERS[form](lines, strip)
        except (ValueError, KeyError, KeyRefused, EOFError, OSError, csv.Error) as error:
            what = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            msg = f"{shown}:{lines.number}: {what} (read as {form or 'text'})"
            raise ManifestBroken(msg) from error


class _Lines:
    """Decoded lines, and the number of the last one that was taken."""

    def __init__(self, raw: Iterable[bytes]) -> None:
        self.number = 0
        self._raw = iter(raw)

    def head(self) -> str:
        """The first line; it is given again by iteration."""
        first = next(self._raw, None)
        if first is None:
            return ""
        self.number = 1
        self._raw = chain((first,), self._raw)
        return first.decode()

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(self._raw, 1):
            self.number = number
            yield line.decode()


def detect(head: str, name: str) -> str:
    """The format that the first line, or else the file name, speaks for."""
    line = head.strip()
    if line.startswith("TsvHttpData-1.0"):
        return "tsv"
    if line.startswith("{"):
        return "jsonl"
    columns = {_column(cell) for cell in line.split(",")}
    if name.removesuffix(".gz").endswith(".csv") or ("," in line and columns & set(_KEY_COLUMNS)):
        return "csv"
    if line.startswith(("http://", "https://")) and len(line.split(None, 1)) == 2:
        return "httplist"
    return "plain"


def _key(text: str, strip: str) -> str:
    """A key as it stands, or that of a URL: its path, decoded once (SEMANTICS.md 3.1); the query is no
    part.
    """
    if text.startswith(("http://", "https://")):
        path = urlsplit(text).path
        key = client_path(path.encode("utf-8", "surrogateescape")).key
    else:
        key = text.lstrip("/")
    return key.removeprefix(strip.lstrip("/")) if strip else key


def _plain(lines: _Lines, strip: str) -> Iterator[Entry]:
    for line in lines:
        text = line.rstrip("\r\n")
        if text:
            yield Entry(_key(text, strip) if strip or text.startswith(_NOT_AS_IT_STANDS) else text)


def _httplist(lines: _Lines, strip: str) -> Iterator[Entry]:
    # OssImport: `http://host/prefix/ <white space> name`; the name alone is the key.
    for line in lines:
        if line.strip():
            _, name = line.split(None, 1)
            yield Entry(_key(name.strip(), strip))


def _tsv(lines: _Lines, strip: str) -> Iterator[Entry]:
    for line in islice(lines, 1, None):
        cells = line.rstrip("\r\n").split("\t")
        if cells == [""]:
            continue
        size = int(cells[1]) if len(cells) > 1 and cells[1] else None
        digest = _digest("md5", cells[2]) if len(cells) > 2 and cells[2] else None
        yield Entry(_key(cells[0], strip), size, digest)


def _jsonl(lines: _Lines, strip: str) -> Iterator[Entry]:
    for line in lines:
        if line.strip():
            row = orjson.loads(line)
            yield _row({_column(str(name)): value for name, value in row.items()}, strip)


def _csv(lines: _Lines, strip: str) -> Iterator[Entry]:
    reader = csv.reader(lines, strict=True)
    first = next(reader, [])
    names = [_column(cell) for cell in first]
    if not set(names) & set(_KEY_COLUMNS):
        names = ["key", "size", "md5"]  # no header: key, size and MD5 in this order
        yield _row(dict(zip(names, first, strict=False)), strip)
    plain = _key_and_size(names)
    for row in reader:
        if plain is not None and len(row) == len(names):
            # Most manifests are these two columns, millions of times.
            key, size = row[plain[0]], row[plain[1]]
            if size and key and not strip and not key.startswith(_NOT_AS_IT_STANDS):
                yield Entry(key, int(size))
                continue
        if row:
            yield _row(dict(zip(names, row, strict=False)), strip)


def _key_and_size(names: list[str]) -> tuple[int, int] | None:
    """Where key and size stand, when nothing else that is read here does."""
    known = [name for name in names if name in _KNOWN_COLUMNS]
    if len(known) != 2 or known[0] == known[1]:
        return None
    keys = [at for at, name in enumerate(names) if name in _KEY_COLUMNS]
    sizes = [at for at, name in enumerate(names) if name in _SIZE_COLUMNS]
    return (keys[0], sizes[0]) if keys and sizes else None


def _row(row: dict[str, Any], strip: str) -> Entry:
    text = next((row[name] for name in _KEY_COLUMNS if row.get(name)), None)
    if text is None:
        found_names = ", ".join(row) or "nothing"
        msg = f"no key; one of {', '.join(_KEY_COLUMNS)} is expected, found {found_names}"
        raise ValueError(msg)
    size = next((row[name] for name in _SIZE_COLUMNS if row.get(name) not in {None, ""}), None)
    changed = next((row[name] for name in _MTIME_COLUMNS if row.get(name) not in {None, ""}), None)
    found = next(((kind, row[name]) for name, kind in _DIGEST_COLUMNS.items() if row.get(name)), None)
    return Entry(
        _key(str(text), strip),
        None if size is None else int(size),
        None if found is None else _digest(found[0], str(found[1])),
        None if changed is None else unix_time(changed),
    )


def unix_time(value: Any) -> float:
    """Unix seconds of a number or an ISO 8601 time; a time without a zone is UTC.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, (int, float)):
        return float(value)
    try:
        return float(value)
    except ValueError:
        moment = dt.datetime.fromisoformat(str(value))
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _digest(kind: str, text: str) -> str:
    """`kind:hex` of a digest in hex or base64; an ETag that looks like an MD5 is one, others stay opaque."""
    text = text.strip().strip('"')
    if kind == "etag":
        plain = len(text) == 32 and all(char in "0123456789abcdefABCDEF" for char in text)
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


_READERS: dict[str, Callable[[_Lines, str], Iterator[Entry]]] = {
    "plain": _plain,
    "csv": _csv,
    "jsonl": _jsonl,
    "tsv": _tsv,
    "httplist": _httplist,
}
