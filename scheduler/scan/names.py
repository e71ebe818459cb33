"""The keys behind a scan's counts: where they stand, and reading them again (`ferryman scan keys`).

Owns the objects below `.ferryman/scans/` in the bucket of reports (else the scan's own), one for each block
and term::

    .ferryman/scans/<run>/<term>/<block>.jsonl     lines {"term": …, "key": …, "reason": …}
    .ferryman/scans/<run>/excluded/inventory.jsonl those that were sorted out while the inventory was read
    .ferryman/scans/<run>/<finding>/found-<n>.jsonl what the last verification found

Lines that are not there yet are in Redis (`workers.ledger.names`). Keys that failed, and places that could
not be read, are on the list of failures and nowhere else.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from itertools import count, islice
from typing import TYPE_CHECKING, Final

import structlog

from workers.errors import StoreError
from workers.ledger.failures import UNREAD_PLACE
from workers.ledger.names import Named, ScanNames, named, of_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from scheduler.runtime import Services
    from scheduler.scan.record.state import ScanState
    from workers.ledger.failures import Failure

#: Terms whose keys are named here; the next ones are those of failures.
NAMED: Final = ("absent", "differs", "excluded", "skipped")
TERMS: Final = (*NAMED, "failed", "unread")
#: Those of a verification.
FINDINGS: Final = ("missing", "size", "digest", "bytes", "drift", "unreadable", "absent_at_origin")
#: Lines that a block is closed at, and that an object has at most.
BLOCK_LINES: Final = 5_000
#: Blocks that may wait for a store that takes none; then the scan waits, too.
MOST_WAITING: Final = 20
_PREFIX: Final = ".ferryman/scans/"
_KIND: Final = "application/jsonl"

log = structlog.get_logger(__name__)


class Names:
    """The named keys of one run."""

    def __init__(self, services: Services, state: ScanState) -> None:
        self._services = services
        self._state = state
        self._bucket = services.settings.report_bucket or state.options.bucket
        self._ledger = ScanNames(services.redis, namespace=services.settings.broker.namespace)

    def _place(self, term: str, block: str = "") -> str:
        return f"{_PREFIX}{self._state.run}/{term}/{block}"

    # ------------------------------------------------------------------ writing, by the coordinator

    async def put_away(self, *, least: int = BLOCK_LINES) -> int:
        """Put blocks of at least so many lines into the store; how many still wait for it.

        A store that does not take them is said, and asked again the next time.
        """
        run = self._state.run
        await self._ledger.close(run, least=least)
        blocks = await self._ledger.blocks(run)
        for number in range(blocks.gone + 1, blocks.closed + 1):
            if number > blocks.void:
                lines = await self._ledger.block(run, number)
                try:
                    await self._write(f"{number:08d}", map(of_line, lines))
                except StoreError as error:
                    log.warning("scan_names_wait", scan=self._state.name, lines=len(lines), error=str(error))
                    return blocks.closed - number + 1
            await self._ledger.put_away(run, number)
        return 0

    async def put_inventory(self, keys: Sequence[str]) -> None:
        """Name keys that were left out while the inventory was read; doing it again replaces them.

        Raises:
            StoreError: the store does not take them.
        """
        if keys:
            await self._write("inventory", [Named("excluded", key) for key in keys])

    async def put_findings(self, findings: Iterator[Named]) -> None:
        """Name what a verification found, in place of what the one before had found.

        Raises:
            StoreError: the store does not take them.
        """
        for finding in FINDINGS:
            async for page in self._services.store.list(self._bucket, self._place(finding)):
                for one in page.objects:
                    await self._services.store.delete(self._bucket, one.key)
        for number in count(1):
            some = await asyncio.to_thread(list, islice(findings, BLOCK_LINES))
            if not some:
                return
            await self._write(f"found-{number:08d}", some)

    async def _write(self, block: str, names: Iterable[Named]) -> None:
        by_term: defaultdict[str, list[str]] = defaultdict(list)
        for one in names:
            by_term[one.term].append(named(one))
        for term, lines in by_term.items():
            body = "".join(f"{line}\n" for line in lines).encode()
            await self._services.store.put_small(
                self._bucket, self._place(term, f"{block}.jsonl"), body, content_type=_KIND
            )

    async def forget_others(self) -> None:
        """Remove what earlier runs of this scan have named; a store that refuses it is said."""
        name = self._state.name
        # Those of a verification that was broken off are below the run that it looked at.
        ours = re.compile(re.escape(f"{_PREFIX}{name}-") + r"[0-9a-f]{12}(?:\.v[0-9a-f]{12})?/.*")
        mine = self._place("")[:-1]
        store = self._services.store
        try:
            async for page in store.list(self._bucket, f"{_PREFIX}{name}-"):
                for one in page.objects:
                    if ours.fullmatch(one.key) and not one.key.startswith(mine):
                        await store.delete(self._bucket, one.key)
        except StoreError as error:
            log.warning("scan_names_not_forgotten", scan=name, error=str(error))

    async def forget(self) -> None:
        """Remove all that this run has named; a store that refuses it is said."""
        await self._ledger.forget(self._state.run)
        store, place = self._services.store, f"{_PREFIX}{self._state.run}/"
        try:
            async for page in store.list(self._bucket, place):
                for one in page.objects:
                    await store.delete(self._bucket, one.key)
        except StoreError as error:
            log.warning("scan_names_not_forgotten", scan=self._state.name, error=str(error))

    # ------------------------------------------------------------------ reading

    async def read(self, terms: Iterable[str] = TERMS) -> AsyncIterator[Named]:
        """Every key of these terms, each as often as it is counted.

        Raises:
            StoreError: a block cannot be read.
        """
        wanted = list(dict.fromkeys(terms))
        blocks, lines = await self._ledger.left(self._state.run)
        for term in wanted:
            if term in {"failed", "unread"}:
                continue
            async for one in self._put_away(term, void=blocks.void, gone=blocks.gone):
                yield one
        for line in lines:
            one = of_line(line)
            if one.term in wanted:
                yield one
        if "failed" in wanted or "unread" in wanted:
            async for one in self._failures():
                if one.term in wanted:
                    yield one

    async def _put_away(self, term: str, *, void: int, gone: int) -> AsyncIterator[Named]:
        store, place = self._services.store, self._place(term)
        async for page in store.list(self._bucket, place):
            for found in page.objects:
                block = found.key.removeprefix(place).removesuffix(".jsonl")
                if block.isdecimal() and not void < int(block) <= gone:
                    continue  # taken back, or put there after the rest was read in Redis
                async with await store.get(self._bucket, found.key) as answer:
                    if answer.status != 200:
                        raise StoreError(f"{self._bucket}/{found.key}: {answer.status}, and it is listed")
                    body = await answer.read()
                for line in body.splitlines():
                    yield of_line(line)

    async def _failures(self) -> AsyncIterator[Named]:
        failures, bucket = self._services.ledger.failures, self._state.options.bucket
        async for failure in failures.iterate(bucket, scan=self._state.run):
            yield _of_failure(failure)
        for waiver in await failures.waivers(bucket):
            if waiver.failure.scan == self._state.run:
                yield _of_failure(waiver.failure)


async def first(names: AsyncIterator[Named], most: int) -> AsyncIterator[Named]:
    """The first so many of them; what is behind is not read."""
    left = most
    async for one in names:
        yield one
        left -= 1
        if not left:
            return


def _of_failure(failure: Failure) -> Named:
    term = "unread" if failure.reason == UNREAD_PLACE else "failed"
    return Named(term, failure.key, failure.message if term == "unread" else failure.reason)
