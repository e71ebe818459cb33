"""Inventory from S3 Inventory: a `manifest.json` and its data files, CSV, or Parquet with the extra
`parquet`.

Owns the layout of such reports. The argument is the path of a local copy of `manifest.json`, or
`s3://bucket/path/manifest.json` in the configured store; data files are looked up beside it by their last
path component, then by their full key. Only the latest version of a key counts; delete markers do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import datetime as dt
import gzip
import hashlib
import io
import re
import zlib
from collections import deque
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import unquote_plus

import orjson

from scheduler.scan.inventory.entry import Entry
from scheduler.scan.inventory.lines import rows
from scheduler.scan.inventory.manifest import ManifestBroken, line_of
from workers.background import end
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
    from typing import BinaryIO

    from scheduler.runtime import Services
    from scheduler.scan.inventory.walk import Walk


#: Data files that are fetched at once, and bytes of them that wait in memory for the one being read.
_AT_ONCE: Final = 4
_AHEAD_BYTES: Final = 64 << 20
#: What an ETag looks like that is the digest of the object.
_MD5: Final = re.compile(r"[0-9a-f]{32}")
#: Entries that are handed on at a time.
_BLOCK: Final = 5_000


class _File(NamedTuple):
    """A data file, as the manifest names it."""

    key: str
    md5: str
    #: 0 when it does not say.
    n_bytes: int


async def blocks(
    argument: Any, options: dict[str, Any], services: Services, walk: Walk
) -> AsyncIterator[list[Entry]]:
    """Every latest object version of the report; the next files are fetched while one is read.

    Raises:
        ConfigError: no such manifest, or an unknown option or format.
        ManifestBroken: a data file is missing, damaged (its MD5 is checked) or cannot be read.
    """
    del walk
    if options:
        msg = f"s3_inventory: unknown option {min(options)!r}; it takes none"
        raise ConfigError(msg)
    place = str(argument)
    try:
        manifest = orjson.loads(await _load(place, services))
        form, columns = str(manifest["fileFormat"]), manifest["fileSchema"]
        files = [
            _File(str(file["key"]), str(file.get("MD5checksum") or ""), int(file.get("size") or 0))
            for file in manifest["files"]
        ]
        names = [name.strip() for name in columns.split(",")] if form == "CSV" else []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        expected = "a JSON object with fileFormat, fileSchema and files is expected"
        msg = f"{place}: no manifest of S3 Inventory: {expected}"
        raise ConfigError(msg) from error
    reader = {"CSV": _csv, "Parquet": _parquet}.get(form)
    if reader is None:
        msg = f"{place}: fileFormat {form!r}; CSV and Parquet are read"
        raise ConfigError(msg)
    if form == "CSV" and "Key" not in names:
        msg = f"{place}: fileSchema {columns!r} has no Key"
        raise ConfigError(msg)
    async with contextlib.aclosing(_bodies(place, files, services)) as bodies:
        async for file, body in bodies:
            found = _latest(reader(body, names))
            try:
                while block := await asyncio.to_thread(_some, found):
                    yield block
            except (ValueError, KeyError, OSError, EOFError, zlib.error, csv.Error) as error:
                msg = f"{file.key}: {error}"
                raise ManifestBroken(msg) from error


def _some(found: Iterator[Entry]) -> list[Entry]:
    return list(islice(found, _BLOCK))


async def _bodies(
    place: str, files: list[_File], services: Services
) -> AsyncGenerator[tuple[_File, bytes], None]:
    """The data files in the manifest's order; a few are fetched ahead, as far as memory is meant for it."""
    waiting = deque(files)
    ahead: deque[tuple[_File, asyncio.Task[bytes]]] = deque()

    def fetch_ahead() -> None:
        while waiting and len(ahead) < _AT_ONCE:
            held = sum(file.n_bytes or _AHEAD_BYTES for file, _ in ahead)
            if ahead and held + (waiting[0].n_bytes or _AHEAD_BYTES) > _AHEAD_BYTES:
                return
            file = waiting.popleft()
            ahead.append((file, asyncio.create_task(_data(place, file, services))))

    try:
        fetch_ahead()
        while ahead:
            file, fetching = ahead[0]
            body = await fetching
            ahead.popleft()
            fetch_ahead()
            yield file, body
    finally:
        await end(*(fetching for _, fetching in ahead))


async def _load(place: str, services: Services) -> bytes:
    if not place.startswith("s3://"):
        try:
            return Path(place).read_bytes()  # one small file
        except (OSError, ValueError) as error:  # a NUL in the name of a data file
            msg = f"s3_inventory {place!r}: {getattr(error, 'strerror', error)}"
            raise ConfigError(msg) from error
    bucket, _, key = place.removeprefix("s3://").partition("/")
    async with await services.store.get(bucket, key) as answer:
        if answer.status != 200:
            msg = f"s3_inventory {place}: the store answers {answer.status}"
            raise ConfigError(msg)
        return b"".join([chunk async for chunk in answer.chunks()])


async def _data(manifest: str, file: _File, services: Services) -> bytes:
    key, md5 = file.key, file.md5
    name = key.rpartition("/")[2]
    near = manifest.rpartition("/")[0]
    bucket = manifest.removeprefix("s3://").partition("/")[0]
    remote = manifest.startswith("s3://")
    places = [f"{near}/{name}" if near else name, f"s3://{bucket}/{key}" if remote else f"{near}/data/{name}"]
    for place in places:
        try:
            body = await _load(place, services)
        except ConfigError:
            continue
        if md5 and await asyncio.to_thread(_md5, body) != md5.lower():
            msg = f"{key}: its MD5 is not the one in {manifest}"
            raise ManifestBroken(msg)
        return body
    msg = f"{key}: not found as {' or '.join(places)}"
    raise ManifestBroken(msg)


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _csv(body: bytes, names: list[str]) -> Iterator[dict[str, Any]]:
    packed = cast("BinaryIO", gzip.GzipFile(fileobj=io.BytesIO(body)))
    reader = csv.reader((line.decode() for line in iter(lambda: line_of(packed), b"")), strict=True)
    for row in reader:
        if len(row) != len(names):
            expected = f"{len(names)} are expected ({', '.join(names)})"
            msg = f"a row of {len(row)} cells where {expected}, in line {reader.line_num}"
            raise ValueError(msg)
        cells = dict(zip(names, row, strict=True))
        # S3 writes keys of CSV reports URL-encoded; one that is not UTF-8 is refused by name.
        cells["Key"] = unquote_plus(cells["Key"], errors="surrogateescape")
        yield cells


def _parquet(body: bytes, names: list[str]) -> Iterator[dict[str, Any]]:
    del names
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        msg = "Parquet inventories need the extra: pip install 'ferryman[parquet]'"
        raise ConfigError(msg) from error
    wanted = {"key": "Key", "size": "Size", "e_tag": "ETag", "last_modified_date": "LastModifiedDate",
              "is_latest": "IsLatest", "is_delete_marker": "IsDeleteMarker"}  # fmt: skip
    try:
        file = parquet.ParquetFile(io.BytesIO(body))
        columns = [name for name in wanted if name in file.schema_arrow.names]
        if "key" not in columns:
            msg = f"no column key; there are {', '.join(file.schema_arrow.names)[:200] or 'none'}"
            raise ValueError(msg)
        for part in file.iter_batches(_BLOCK, columns=columns):
            for row in part.to_pylist():
                if type(row["key"]) is not str:
                    msg = f"key {str(row['key'])[:50]!r} is no text"
                    raise ValueError(msg)
                yield {wanted[name]: value for name, value in row.items()}
    except (ArrowException, OverflowError) as error:
        # It has kinds of errors that are none of ours: what it does not know, a time that no calendar has.
        msg = f"no Parquet that can be read: {str(error)[:200]}"
        raise ValueError(msg) from error


def _latest(found: Iterable[dict[str, Any]]) -> Iterator[Entry]:
    for row in found:
        if _is(row.get("IsLatest"), default=True) and not _is(row.get("IsDeleteMarker"), default=False):
            size = row.get("Size")
            etag = str(row.get("ETag") or "").strip('"').lower()
            changed = row.get("LastModifiedDate")
            yield Entry(
                row["Key"],
                rows.size(size) if size not in {None, ""} else None,
                f"md5:{etag}" if _MD5.fullmatch(etag) else None,
                _moment(changed) if changed else None,
            )


def _is(value: Any, *, default: bool) -> bool:
    if value in {None, ""}:
        return default
    return value is True or str(value).lower() == "true"


def _moment(value: Any) -> float:
    """Unix seconds; a time without a zone is UTC, as in text."""
    if isinstance(value, dt.datetime):
        return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).timestamp()
    return rows.unix_time(value)
