"""Inventory from what `rclone lsf` printed.

Owns its line format: `path`, or with `--format` fields joined by a separator. Options: `format` (letters as
given to rclone: `p` path, `s` size, `t` modification time, `h` MD5; default `p`), `separator` (default `;`).
Lines of directories (a trailing slash) are passed over: they are no objects.
"""

from __future__ import annotations

import codecs
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scheduler.scan.inventory.entry import Entry
from scheduler.scan.inventory.lines import rows
from scheduler.scan.inventory.manifest import ManifestBroken
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from scheduler.runtime import Services
    from scheduler.scan.inventory.walk import Walk


async def entries(
    argument: Any, options: dict[str, Any], services: Services, walk: Walk
) -> AsyncIterator[Entry]:
    """Every object line of the file at `argument`.

    Raises:
        ConfigError: the file or an option is wrong.
        ManifestBroken: a line cannot be read.
    """
    del services, walk
    letters = str(options.get("format", "p"))
    separator = str(options.get("separator", ";"))
    unknown = sorted(set(options) - {"format", "separator"})
    if unknown or "p" not in letters or set(letters) - set("psth") or len(set(letters)) < len(letters):
        what = f"unknown option {unknown[0]!r}" if unknown else f"format {letters!r}"
        msg = f"rclone_lsf: {what}; known: format (of p, s, t, h; with p), separator"
        raise ConfigError(msg)
    if not separator:
        msg = "rclone_lsf: separator: it cannot be empty"
        raise ConfigError(msg)
    for entry in _read(Path(str(argument)), letters, separator):
        yield entry


def _read(path: Path, letters: str, separator: str) -> Iterator[Entry]:
    try:
        file = path.open("rb")
    except OSError as error:
        msg = f"rclone_lsf {path}: {error.strerror}"
        raise ConfigError(msg) from error
    # The path may hold the separator: it takes what the other fields leave.
    before = letters.index("p")
    after = len(letters) - before - 1
    with file:
        for number, line in enumerate(file, 1):
            try:
                text = line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                msg = f"{path}:{number}: not UTF-8"
                raise ManifestBroken(msg) from error
            if not text:
                continue
            head = text.split(separator, before)
            tail = head[-1].rsplit(separator, after)
            if len(head) + len(tail) - 1 != len(letters):
                msg = (
                    f"{path}:{number}: {len(letters)} fields by {separator!r} are expected (format {letters})"
                )
                raise ManifestBroken(msg)
            cells = dict(zip(letters, [*head[:-1], *tail], strict=True))
            if cells["p"].endswith("/"):
                continue
            try:
                yield Entry(
                    cells["p"].lstrip("/"),  # --absolute puts one there
                    rows.size(cells["s"]) if cells.get("s", "-1") not in {"", "-1"} else None,
                    rows.digest("md5", cells["h"]) if cells.get("h") else None,
                    _time(cells["t"]) if cells.get("t") else None,
                )
            except (ValueError, OverflowError) as error:
                msg = f"{path}:{number}: {error}"
                raise ManifestBroken(msg) from error


def _time(text: str) -> float:
    """Rclone prints local time: `2006-01-02 15:04:05`."""
    return dt.datetime.fromisoformat(text).astimezone().timestamp()
