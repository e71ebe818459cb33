"""Inventory from a manifest: a list of keys or URLs in a file or behind a URL, plain or gzip.

Owns getting at its lines: plain (a key or URL a line), CSV, JSON Lines, the TSV of Storage Transfer
(`TsvHttpData-1.0`), the two-column httplist of OssImport, or NUL-ended records of find(1). Which it is tells
`detection`; what a line of each says is `rows`'. A line that cannot be read fails the scan with file and
line: a list with a hole proves nothing.

Options beside the path: `format` (else found out from the first lines), `strip_prefix` (cut from the front of
URL paths and keys).
"""

from __future__ import annotations

import asyncio
import codecs
import csv
import gzip
import io
import tempfile
import zlib
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx

from scheduler.rules.keys import KeyRefused
from scheduler.scan.inventory.lines import columns, rows
from scheduler.scan.inventory.lines.detection import FIND_RECORD, detect
from scheduler.scan.inventory.lines.find_records import Records, read_records
from workers.errors import ConfigError, FerrymanError
from workers.origin.wire.redirects import without_query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO, Self

    from scheduler.runtime import Services
    from scheduler.scan.inventory.entry import Columns, Entry
    from scheduler.scan.inventory.walk import Walk

FIND = "find0"
FORMATS = ("plain", "csv", "jsonl", "tsv", "httplist", FIND)
#: Bytes that the format is told from.
_HEAD = 1 << 16
#: Entries read at a time, and bytes that hold about as many.
_BLOCK = 5_000
_READ_BYTES = 1 << 18
#: Longest line: a packed list could else be one line of any length.
_MAX_LINE_BYTES = 1 << 20


class ManifestBroken(FerrymanError):
    """A manifest cannot be read; the message names file and line."""


async def blocks(
    argument: Any, options: dict[str, Any], services: Services, walk: Walk
) -> AsyncIterator[Sequence[Entry]]:
    """Every entry of the manifest at `argument` (path or http(s) URL), in its own order, in blocks.

    Raises:
        ConfigError: no such file, or an unknown option or format.
        ManifestBroken: a line cannot be read, or the download failed.
    """
    del walk
    unknown = sorted(set(options) - {"format", "strip_prefix"})
    if unknown:
        msg = f"manifest: unknown option {unknown[0]!r}; known: format, strip_prefix"
        raise ConfigError(msg)
    form = options.get("format")
    if form is not None and form not in FORMATS:
        msg = f"manifest: format {form!r} is none of {', '.join(FORMATS)}"
        raise ConfigError(msg)
    strip = options.get("strip_prefix", "")
    if not isinstance(strip, str):
        msg = f"manifest: strip_prefix {strip!r}: a text is expected"
        raise ConfigError(msg)
    place = str(argument)
    if place.startswith(("http://", "https://")):
        services.settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=services.settings.data_dir, prefix="manifest-") as file:
            await _download(place, cast("io.BufferedWriter", file))
            found = read_blocks(Path(file.name), shown=_public(place), form=form, strip=strip)
            while block := await asyncio.to_thread(next, found, ()):
                yield block
    else:
        found = read_blocks(Path(place), shown=place, form=form, strip=strip)
        while block := await asyncio.to_thread(next, found, ()):
            yield block


def _public(url: str) -> str:
    """A URL for messages: who asks, and a query that may hold a signature, are left out."""
    scheme, separator, rest = without_query(url).partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


async def _download(url: str, file: io.BufferedWriter) -> None:
    shown = _public(url)
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
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        msg = f"{shown}: {str(error).replace(url, shown) or type(error).__name__}"
        raise ManifestBroken(msg) from error
    if promised is not None and int(promised) != got:
        msg = f"{shown}: {got} of {promised} bytes came"
        raise ManifestBroken(msg)
    file.flush()


async def fetch(client: httpx.AsyncClient, url: str, *, most_bytes: int) -> tuple[httpx.Response, bytes]:
    """The answer to a GET with its unpacked body, which is read no further than its bound.

    Raises:
        ValueError: it is longer.
        httpx.HTTPError, httpx.InvalidURL: there is none.
    """
    body = bytearray()
    async with client.stream("GET", url) as answer:
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > most_bytes:
                msg = f"more than {most_bytes} bytes"
                raise ValueError(msg)
    return answer, bytes(body)


def line_of(stream: BinaryIO) -> bytes:
    """The next line of a stream; empty at its end.

    Raises:
        ValueError: it is too long to be one.
    """
    line = stream.readline(_MAX_LINE_BYTES + 1)
    if len(line) > _MAX_LINE_BYTES:
        msg = f"a line of more than {_MAX_LINE_BYTES} bytes"
        raise ValueError(msg)
    return line


def read(path: Path, *, shown: str, form: str | None = None, strip: str = "") -> Iterator[Entry]:
    """The entries of a local manifest; `shown` names it in messages. Constant memory."""
    return chain.from_iterable(read_blocks(path, shown=shown, form=form, strip=strip))


def read_blocks(
    path: Path, *, shown: str, form: str | None = None, strip: str = ""
) -> Iterator[Sequence[Entry]]:
    """The same some thousands at a time, none of them empty."""
    try:
        raw = path.open("rb")
    except OSError as error:
        msg = f"manifest {shown}: {error.strerror}"
        raise ConfigError(msg) from error
    with raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = cast("BinaryIO", gzip.GzipFile(fileobj=raw) if packed else raw)
        lines, records = Lines(stream), Records(stream)
        try:
            if form is None:
                head = stream.read(_HEAD)
                stream.seek(0)
                lines.number = 1
                form = _detected(head, shown)
                lines.number = 0
            if form == FIND:
                yield from _some(read_records(records, strip))
            elif form == "csv":
                yield from _csv(lines, strip)
            else:
                if form == "plain" and not strip:
                    yield from _in_columns(lines, columns.plain)
                yield from _some(_READERS[form](lines, strip))
        except (ValueError, KeyRefused, EOFError, OSError, zlib.error, csv.Error) as error:
            place = f"{shown}: record {records.number}" if form == FIND else f"{shown}:{lines.number}"
            msg = f"{place}: {rows.explained(error)} (read as {form or 'text'})"
            raise ManifestBroken(msg) from error


def _some(found: Iterator[Entry]) -> Iterator[Sequence[Entry]]:
    while block := list(islice(found, _BLOCK)):
        yield block


def _csv(lines: Lines, strip: str) -> Iterator[Sequence[Entry]]:
    form = rows.begun(lines)
    yield from _some(rows.first_row(form, strip))
    if form.key_and_size is not None and not strip:
        key_at, size_at = form.key_and_size
        width = len(form.names)
        read_columns = partial(
            columns.separated, separator=form.separator, width=width, key_at=key_at, size_at=size_at
        )
        yield from _in_columns(lines, read_columns)
    yield from _some(rows.further(lines, form, strip, behind=lines.number))


def _in_columns(lines: Lines, read_columns: Callable[[str], Columns | None]) -> Iterator[Sequence[Entry]]:
    """Lines many at a time, up to the first that need a closer look."""
    while data := lines.take(_READ_BYTES):
        try:
            found = read_columns(data.decode())
        except UnicodeDecodeError:
            found = None
        if found is None:
            lines.give_back(data)
            return
        if found:
            yield found


def _detected(head: bytes, shown: str) -> str:
    """The format of a manifest that begins so.

    Raises:
        ValueError: nobody can say.
    """
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        msg = "UTF-16; UTF-8 is expected: iconv -f UTF-16 -t UTF-8"
        raise ValueError(msg)
    if b"\0" in head:
        if FIND_RECORD.fullmatch(head.partition(b"\0")[0]):
            return FIND
        msg = "NUL bytes, but not as find -printf '%s %T@ %P\\0' prints them; is it text in UTF-8?"
        raise ValueError(msg)
    lines = head.removeprefix(codecs.BOM_UTF8).splitlines(keepends=True)
    if len(head) == _HEAD and len(lines) > 1:
        del lines[-1]  # cut
    return detect([line.decode("utf-8", "replace") for line in lines], shown)


class Lines:
    """Decoded lines without a byte-order mark, and the number of the last one that was taken."""

    def __init__(self, raw: BinaryIO) -> None:
        self.number = 0
        self._raw = raw
        self._back = io.BytesIO()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        self.number += 1
        line = self._back.readline() or line_of(self._raw)
        if not line:
            self.number -= 1
            raise StopIteration
        if self.number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        return line.decode()

    def take(self, n_bytes: int) -> bytes:
        """Whole lines of about so many bytes, the last one with its end; nothing at the end."""
        data = self._raw.read(n_bytes)
        if data and not data.endswith(b"\n"):
            behind = data.count(b"\n") + 1
            self.number += behind  # of the line that is being read
            data += line_of(self._raw)
            self.number -= behind
        if self.number == 0:
            data = data.removeprefix(codecs.BOM_UTF8)
        if data and not data.endswith(b"\n"):
            data += b"\n"
        self.number += data.count(b"\n")
        return data

    def give_back(self, data: bytes) -> None:
        """What was taken last is to be read line by line."""
        self.number -= data.count(b"\n")
        self._back = io.BytesIO(data)


_READERS: dict[str, Callable[[Iterable[str], str], Iterator[Entry]]] = {
    "plain": rows.plain,
    "jsonl": rows.jsonl,
    "tsv": rows.tsv,
    "httplist": rows.httplist,
}
