"""Verifying a scan's work: every key by what the listing says, and a sample (or all) byte by byte.

Owns the comparison of origin and store after the move. Nothing is changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from scheduler.scan.compare.compare import Groups
from scheduler.scan.compare.merge import OutOfOrder
from scheduler.scan.compare.reading import inventory_of
from scheduler.scan.compare.sorted_file import NotThisFile, read_header
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.limits import ENOUGH_SETTLED, empty_is_meant, max_absent_of, nearly_all_absent
from scheduler.scan.names import Names
from scheduler.scan.state import Account, account
from scheduler.scan.verify.at_origin import origin_digest, origin_has
from scheduler.scan.verify.bound import upper_bound
from scheduler.scan.verify.in_ranges import InRanges
from scheduler.scan.verify.report import VerifyReport, keep_report
from workers.errors import ConfigError, TransferError
from workers.ledger.names import of_line
from workers.store.metadata import is_mirrored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import Unpack

    from scheduler.runtime import Services
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.state import ScanState
    from scheduler.scan.verify.in_ranges import How

#: Objects compared byte by byte at the same time.
CONCURRENCY = 8

log = structlog.get_logger(__name__)


class Verifier(InRanges):
    """One verification of one scan."""

    def __init__(self, services: Services, state: ScanState, **how: Unpack[How]) -> None:
        """`how` as `InRanges` takes it."""
        super().__init__(services, state, **how)
        self._max_absent = max_absent_of(services.settings, state)
        #: Why nothing more is asked of the origin.
        self._stopped = ""
        #: Missing in the store, and at every origin.
        self._gone: list[Entry] = []
        #: In the store, and at no origin any more.
        self._left_behind = 0

    async def run(self) -> VerifyReport:
        """Compare, and keep the report in the ledger.

        Raises:
            ConfigError: the scan has no inventory here that can be read (it did not get that far, ran on
                another machine, on another store, or with another version).
            StoreError: the listing failed: no verdict.
        """
        path = await asyncio.to_thread(self._inventory)
        # Every finding has its line here, whatever their number; unlinked, so that nothing is left behind.
        with tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent) as self._findings:
            return await self._run(path)

    async def _run(self, path: Path) -> VerifyReport:
        services, state = self._services, self._state
        waivers = await services.ledger.failures.waivers(state.options.bucket)
        self._excused = frozenset(waiver.key for waiver in waivers)
        judged = Collation((await services.store.guarantees(state.options.bucket)).collation)
        try:
            try:
                chosen = await self._listed(path, judged)
            except OutOfOrder as error:
                if error.side != "listing":
                    raise
                log.warning("listing_sorted_here", scan=state.name, reason=str(error))
                chosen = await self._listed(path, Collation.NONE)
        except NotThisFile as error:
            raise self._not_this_file(error) from error
        await self._absent(chosen.missing)
        if self._full or self._sample:
            await self._by_bytes([lot.entry for lot in chosen.kept])
        unreadable = self._counts.get("unreadable", 0)
        bad = self._counts.get("bytes", 0) + unreadable
        looked_at = self.report.compared + unreadable
        self.report = replace(
            self.report,
            finished_at=time.time(),
            counts=self._counts,
            problems=tuple(sorted(self._problems, key=lambda one: (one.key, one.finding))),
            bad_per_million=upper_bound(looked_at, bad) * 1e6 if looked_at and not self._full else None,
            unproved=tuple(self._unproved()),
        )
        self._findings.seek(0)
        await Names(services, state).put_findings(map(of_line, self._findings))
        await keep_report(services, self.report)
        return self.report

    def _inventory(self) -> Path:
        """The sorted inventory. Blocking.

        Raises:
            ConfigError: as `run`.
        """
        state = self._state
        path = self._directory / f"{state.run}.sorted" if state.source_listed else Path(state.inventory_file)
        again = f"scan again from here: ferryman scan start {state.name} … --wait"
        if not state.inventory_complete:
            msg = f"scan {state.name} is {state.phase}, and its inventory was not read to its end; scan first"
            raise ConfigError(msg)
        if not (state.source_listed or path.is_file()):
            msg = (
                f"scan {state.name}: its inventory {state.inventory_file} is not on this machine: "
                f"verify where the scan was run, or {again}"
            )
            raise ConfigError(msg)
        if state.store and state.store != self.report.store:
            msg = (
                f"scan {state.name} was run on the store {state.store}, and the store is {self.report.store} "
                f"now: {again}"
            )
            raise ConfigError(msg)
        if state.source_listed:
            return path  # there is none: the source is listed once more
        try:
            header = read_header(path)
        except NotThisFile as error:
            raise self._not_this_file(error) from error
        if header.of != inventory_of(state):
            msg = f"scan {state.name}: {path} holds the inventory of another run: {again}"
            raise ConfigError(msg)
        return path

    def _not_this_file(self, error: NotThisFile) -> ConfigError:
        name = self._state.name
        return ConfigError(f"scan {name}: {error}: scan again from here: ferryman scan start {name} … --wait")

    def _unproved(self) -> Iterator[str]:
        report, share = self.report, self._max_absent
        gone = len(self._gone)
        if report.checked == 0 and not empty_is_meant(self._services.settings, self._state):
            yield (
                "no key was checked: the inventory has none. If that is meant: ferryman scan start "
                f"{self._state.name} --allow-empty …, or scans.{self._state.name}.allow_empty: true"
            )
        if report.mode != "listing" and report.checked and not report.compared:
            yield "no object was compared byte by byte"
        how = f"more than {share:.0%} (scans.{self._state.name}.max_absent; 1 allows it)"
        if self._stopped:
            yield self._stopped
        elif nearly_all_absent(gone, report.checked, share):
            yield f"{gone} of {report.checked} keys are neither in the store nor at the origin, {how}"
        looked_at = report.compared + self._left_behind
        if nearly_all_absent(self._left_behind, looked_at, share):
            yield f"{self._left_behind} of {looked_at} objects are not at the origin to be compared, {how}"

    async def _absent(self, missing: list[Entry]) -> None:
        """Missing keys: those that no origin has and that the scan had not moved are no fault of it."""
        name, share = self._state.name, self._max_absent
        most = nearly_all_absent(len(missing), self.report.checked, share)
        asked = 0

        async def ask(entry: Entry) -> None:
            nonlocal asked
            asked += 1
            try:
                there = await origin_has(self._services, self._state.options.bucket, entry.key)
            except TransferError as error:
                self._found(entry.key, "missing", f"and the origin: {error}")
                return
            if there:
                self._found(entry.key, "missing", "")
                return
            self._gone.append(entry)
            if most and asked >= ENOUGH_SETTLED and nearly_all_absent(len(self._gone), asked, share):
                self._stopped = (
                    f"stopped: {len(missing)} of {self.report.checked} keys are not in the store, and of the "
                    f"first {asked} the origin has all but {asked - len(self._gone)} not either, more than "
                    f"{share:.0%} (scans.{name}.max_absent; 1 allows it)"
                )

        await self._each(missing, ask)
        await self._judge_gone()

    async def _judge_gone(self) -> None:
        """Tell what the origin never had from what was moved and is lost.

        The account knows how many keys of each group were absent, not which. Where more are gone than it has
        absent ones, some of them it calls stored: then none of the group's passes for harmless.
        """
        state, failures = self._state, self._services.ledger.failures
        rows = await account(state, self._services.ledger.outcomes)
        named = await failures.versions(state.options.bucket, [entry.key for entry in self._gone])
        groups = Groups(state.groups)
        by_group: dict[str, list[str]] = {}
        for entry in self._gone:
            if entry.key in named:
                self._found(entry.key, "absent_at_origin", "")
            else:
                by_group.setdefault(groups.of(entry.key), []).append(entry.key)
        for group, keys in by_group.items():
            row = rows.get(group, Account())
            known = row.absent + row.skipped + row.pending
            harmless = len(keys) <= known or state.options.limit is not None
            for key in keys:
                if harmless:
                    self._found(key, "absent_at_origin", "")
                    continue
                detail = (
                    f"nor at the origin any more; of {group} {len(keys)} are gone, {known} were never moved"
                )
                self._found(key, "missing", detail)

    async def _by_bytes(self, entries: list[Entry]) -> None:
        await self._each(entries, lambda entry: self._compare(entry.key))

    async def _each(self, entries: list[Entry], step: Callable[[Entry], Awaitable[None]]) -> None:
        """Take the step for every entry, a few at a time."""
        waiting = iter(entries)

        async def work() -> None:
            for entry in waiting:
                if self._stopped:
                    return
                await step(entry)
                self._progress(self.report)

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

    async def _compare(self, key: str) -> None:
        bucket = self._state.options.bucket
        try:
            async with await self._services.store.get(bucket, key) as answer:
                if answer.status != 200 or answer.info is None:
                    self._found(key, "unreadable", f"the store answers {answer.status}")
                    return
                mine = hashlib.sha256()
                size = 0
                async for chunk in answer.chunks():
                    mine.update(chunk)
                    size += len(chunk)
                stored = answer.info
            theirs = await origin_digest(self._services, bucket, key)
        except TransferError as error:
            self._found(key, "unreadable", str(error))
            return
        if theirs is None:
            self._left_behind += 1
            self._found(key, "absent_at_origin", "in the store, and not to be compared with anything")
            return
        self.report = replace(
            self.report, compared=self.report.compared + 1, compared_bytes=self.report.compared_bytes + size
        )
        digest, headers = theirs
        if digest == mine.hexdigest():
            return
        # Other bytes: the origin changed since, if its validators are not those that were stored.
        meta = stored.user_meta
        was = (meta.get("ferryman-source-etag", ""), meta.get("ferryman-source-last-modified", ""))
        now = (headers.get("etag", ""), headers.get("last-modified", ""))
        changed = any(old and new and old != new for old, new in zip(was, now, strict=True))
        by = "written by Ferryman" if is_mirrored(stored) else "written by somebody else"
        detail = f"SHA-256 {mine.hexdigest()} in the store, {by}; {digest} at the origin"
        self._found(key, "drift" if changed else "bytes", detail)
