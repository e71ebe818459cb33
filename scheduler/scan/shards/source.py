"""A bucket as inventory, read in ranges: nobody reads it whole, each shard lists its own part.

Owns when that is right (the source lists by bytes and obeys `start-after`: proved for the configured store,
and for others known by the vendor's address or said in `listing: bytes`), and that a key which cannot be
asked for is counted with the window that it stands in, once, whoever begins again.
"""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from scheduler.dispatch.dispatcher import key_problem
from scheduler.rules.keys import RESERVED
from scheduler.scan.compare.bounded import bounded
from scheduler.scan.compare.listing import BlockingListing
from scheduler.scan.compare.merge import Block
from scheduler.scan.compare.wanted import refusal
from scheduler.scan.inventory.bucket import columns_of, opened
from scheduler.scan.inventory.walk import Walk
from scheduler.scan.ranges import before
from scheduler.scan.shards.probing import Probed, halved
from scheduler.scan.unread import list_unread
from workers.store.model import ListedColumns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from scheduler.runtime import Services
    from scheduler.scan.compare.compare import Groups, Selection, Window
    from scheduler.scan.inventory.entry import Collation, Entry
    from scheduler.scan.record.shard import KeyRange
    from scheduler.scan.record.state import ScanState
    from workers.store.client import ObjectStore
    from workers.store.guarantees import StoreGuarantees
    from workers.store.model import ListPage

#: Vendors whose listings come by bytes and obey `start-after`, as their documentation says.
_BY_BYTES: Final = re.compile(
    r"(?:.+\.)?(?:amazonaws\.com(?:\.cn)?|storage\.googleapis\.com|r2\.cloudflarestorage\.com"
    r"|aliyuncs\.com|myqcloud\.com)"
)
_SURELY_SHORT: Final = 256


def lists_in_ranges(inventory: dict[str, Any], ours: StoreGuarantees) -> bool:
    """Whether a source can be listed in ranges: a bucket, by bytes, from any key on. Pure."""
    if "bucket" not in inventory:
        return False
    said, endpoint = inventory.get("listing"), inventory.get("endpoint")
    if said is not None:
        return bool(said == "bytes")
    if not set(inventory) - {"bucket", "prefix"}:
        return ours.collation == "bytes" and ours.start_after
    host = urlsplit(str(endpoint)).hostname if endpoint else "s3.amazonaws.com"
    return known_by_bytes(host or "")


def known_by_bytes(host: str) -> bool:
    """Whether a vendor is known to list by bytes, from any key on. Pure."""
    return _BY_BYTES.fullmatch(host) is not None


class RangedBucket:
    """A bucket that is the inventory; made on an event loop, which runs on while ranges are read."""

    def __init__(self, store: ObjectStore, bucket: str, prefix: str, *, wanted: bool) -> None:
        """`wanted`: a key below the prefix may be one that the scan is about."""
        self._store = store
        self._wanted = wanted
        self._bucket = bucket
        self._prefix = prefix
        self._walk = Walk()
        #: Keys that cannot be asked for, with what is wrong, in the order of the listing; not counted yet.
        self._refused: list[tuple[str, str, Entry]] = []
        self.pages = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls, inventory: dict[str, Any], services: Services, prefix: str
    ) -> AsyncIterator[RangedBucket]:
        """The bucket that a scan's inventory names.

        Raises:
            ConfigError: an option is unknown or wrong.
        """
        options = {name: value for name, value in inventory.items() if name != "bucket"}
        async with opened(inventory["bucket"], options, services, prefix) as (store, bucket, below):
            yield cls(store, bucket, below, wanted=below.startswith(prefix))

    def blocks(
        self, range_: KeyRange, collation: Collation, *, after: str | None = None
    ) -> Iterator[Block[Entry]]:
        """The objects of the range, those behind `after` only. Call it from a thread that is not the loop's.

        Raises:
            StoreError: a page could not be read.
        """
        self._refused.clear()
        if not self._wanted:
            return iter(())
        begin = after if after is not None else before(range_.begin)
        feed = BlockingListing(self._store, self._bucket, self._prefix, start_after=begin)
        return bounded(self._read(feed, after, range_.end), range_, collation)

    def _read(self, feed: BlockingListing, after: str | None, end: str | None) -> Iterator[Block[Entry]]:
        for page in feed.pages():
            self.pages += 1
            for key in page.unreadable:
                self._walk.miss(f"{self._bucket}/{key}", "its key is not UTF-8")
            objects = page.objects
            keys = objects.keys if isinstance(objects, ListedColumns) else [one.key for one in objects]
            low = bisect_right(keys, after) if after is not None and keys and keys[0] <= after else 0
            if low:
                keys, objects = keys[low:], objects[low:]
            # One look at the page for what nearly never is.
            if isinstance(objects, ListedColumns) and (
                all(map(str.isprintable, keys))
                and max(map(len, keys), default=0) <= _SURELY_SHORT
                and RESERVED not in "\n".join(keys)
            ):
                yield Block(keys, columns_of(objects))
                continue
            kept: list[Entry] = []
            for entry in columns_of(objects):
                problem = key_problem(entry.key)
                if problem is None:
                    kept.append(entry)
                elif end is None or entry.key < end:
                    self._refused.append((entry.key, problem, entry))
            yield Block([entry.key for entry in kept], kept)

    async def count(
        self,
        window: Window,
        last: str | None,
        state: ScanState,
        selection: Selection,
        groups: Groups,
        services: Services,
    ) -> None:
        """Count with a window what it cannot be asked for up to its last key; None: all that there is."""
        await list_unread(services.ledger, state, self._walk)
        begin = state.shard.range.begin if state.shard is not None else ""
        taken = [one for one in self._refused if last is None or one[0] <= last]
        self._refused = self._refused[len(taken) :]
        failures = []
        for key, problem, entry in taken:
            if key < begin:
                continue  # listed because the store was asked for a little more
            group = groups.of(key)
            window.counts[group, "found"] += 1
            if selection.wants(entry):
                window.counts[group, "refused"] += 1
                failures.append(refusal(state, key, problem, "the key cannot be asked for"))
            else:
                window.counts[group, "excluded"] += 1
                window.excluded.append(key)
        await services.ledger.failures.add(failures)

    async def probe(self, after: str | None) -> Probed:
        """The next page of keys behind one, and whether it is the last page."""
        pages = self._store.list(self._bucket, self._prefix, start_after=after)
        page: ListPage | None = await anext(pages, None)
        if page is None:
            return Probed([], ended=True)
        objects = page.objects
        keys = objects.keys if isinstance(objects, ListedColumns) else [one.key for one in objects]
        return Probed(keys, ended=page.continuation is None)

    async def middle(self, after: str, end: str | None) -> tuple[str | None, int]:
        """A key that halves what lies between two, and about how many keys come behind it; None: too few."""
        return await halved(self.probe, after, end)
