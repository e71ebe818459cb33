"""A bucket's list in memory, in the order of bytes or of path components; and keys for it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from scheduler.front.s3.listing.page import Entry, Page
from scheduler.front.s3.listing.positions import common_prefix


class Server:
    """A bucket's list in memory: by bytes, or by component as SeaweedFS has it."""

    def __init__(self, keys: Any, *, by_component: bool) -> None:
        self.by_component = by_component
        self.place = (lambda key: key.replace("/", "\0")) if by_component else (lambda key: key)
        self.keys = sorted(keys, key=self.place)
        self.requests = 0

    async def __call__(self, *, prefix: str, after: str | None, delimiter: str, limit: int) -> Page:
        self.requests += 1
        keys: dict[str, Entry] = {}
        prefixes: list[str] = []
        rolled: set[str] = set()
        truncated = False
        for key in self.keys:
            if not key.startswith(prefix):
                continue
            if after is not None:
                if self.place(key) <= self.place(after):
                    continue
                # SeaweedFS passes over the directory that has just the name behind which it goes on.
                if self.by_component and key.startswith(f"{after}/"):
                    continue
            above = common_prefix(key, prefix, delimiter)
            if above is not None and (above in rolled or (after or "").startswith(above)):
                continue
            if len(keys) + len(prefixes) >= limit:
                truncated = True
                break
            if above is None:
                keys[key] = Entry(xml="", size=1)
            else:
                rolled.add(above)
                prefixes.append(above)
        return Page(keys=keys, prefixes=tuple(prefixes), truncated=truncated)


def without_clashes(keys: set[str]) -> set[str]:
    """As a tree of files has it: nothing is a file and a directory."""
    return {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}


part = st.text(alphabet="a-.0/é", min_size=1, max_size=6).filter(
    lambda key: "//" not in key and not key.startswith("/") and not key.endswith("/")
)
