"""Inventory sources, one a file; each yields what the origin is said to hold, in any order.

Owns the table of sources by name. A source is an async generator `entries(argument, options, services)`; the
scan sorts what it yields, so no source has to.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scheduler.runtime import Services
    from scheduler.scan.inventory.entry import Entry

#: Name in `scans.<name>.inventory` -> module of this package.
SOURCES: dict[str, str] = {
    "manifest": "manifest",
    "bucket": "bucket",
    "s3_inventory": "s3_inventory",
    "http_index": "http_index",
    "sitemap": "sitemap",
    "directory": "directory",
    "rclone_lsf": "rclone_lsf",
}


def open_source(inventory: dict[str, Any], *, services: Services) -> AsyncIterator[Entry]:
    """The entries of a source given as `{name: argument}`, for example `{"manifest": "urls.csv"}`.

    Other keys of the mapping are options of that source.

    Raises:
        ConfigError: no source, an unknown one, or more than one is named.
    """
    named = [name for name in inventory if name in SOURCES]
    if len(named) != 1:
        what = f"found {', '.join(map(repr, inventory)) or 'nothing'}"
        msg = f"inventory: exactly one source of {', '.join(sorted(SOURCES))} is expected, {what}"
        raise ConfigError(msg)
    module = importlib.import_module(f"{__name__}.{SOURCES[named[0]]}")
    options = {name: value for name, value in inventory.items() if name != named[0]}
    stream: AsyncIterator[Entry] = module.entries(inventory[named[0]], options, services)
    return stream
