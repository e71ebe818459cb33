"""Taking records in: ids, repeats, tombstones and the dispatcher, in the order in which nothing is lost.

Owns one request's account. An event counts as accepted only after the queue has it; ids are remembered after
that, so that a crash in between costs a second look and no event. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from scheduler.dispatch.sink import TOMBSTONE_TTL_S
from scheduler.misses.event import MissEvent
from scheduler.misses.refusals import Deletion, Ignored, Refused, Taken, Written
from workers.errors import BrokerUnavailable, QueueFull
from workers.ledger.back import DELETED, TOLD
from workers.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from scheduler.dispatch.dispatcher import Dispatcher
    from workers.ledger.ledger import Ledger

#: Records listed in an answer; the counts go on.
LISTED = 1000
#: Seconds that a state is believed without asking again (the negative cache holds 10 s, L14).
_RECENT_S = 4.0
_RECENT_SIZE = 200_000
#: What a repeat of an event within that time is.
_REPEATED = {"accepted": "duplicate"}


@dataclass(slots=True, kw_only=True)
class Account:
    """What became of the records of one request."""

    received: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    #: Records that were not accepted: (line, state, reason, detail).
    listed: list[tuple[int, str, str, str]] = field(default_factory=list)
    last_line: int = 0

    def note(self, line: int, state: str, reason: str = "", detail: str = "") -> None:
        """Count one record, and list it unless it was accepted."""
        self.counts[state] += 1
        if state not in {"accepted", "tombstones", "written_back"} and len(self.listed) < LISTED:
            self.listed.append((line, state, reason, detail))


class RecentStates:
    """States of events dispatched within the last seconds, in bounded memory; two generations."""

    def __init__(self) -> None:
        self._young: dict[Hashable, str] = {}
        self._old: dict[Hashable, str] = {}
        self._turned = 0.0

    def turn(self, now: float) -> None:
        """Let entries age."""
        if now - self._turned >= _RECENT_S / 2 or len(self._young) >= _RECENT_SIZE:
            self._old = self._young if now - self._turned < _RECENT_S else {}
            self._young = {}
            self._turned = now

    def get(self, identity: Hashable) -> str | None:
        """The state of a repeat, or None for one that is not known."""
        return self._young.get(identity) or self._old.get(identity)

    def put(self, identity: Hashable, state: str) -> None:
        """The state that a repeat will have."""
        self._young[identity] = _REPEATED.get(state, state)


class Intake:
    """Takes the records of every request of a process."""

    def __init__(self, *, dispatcher: Dispatcher, ledger: Ledger) -> None:
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._recent = RecentStates()

    async def take(
        self, rows: Sequence[tuple[int, Sequence[Taken]]], account: Account, *, patience_s: float
    ) -> None:
        """Take the records of some lines; waits up to `patience_s` for a deep queue.

        Raises:
            QueueFull, BrokerUnavailable: none of these lines counts as taken; send them again.
        """
        deadline = time.monotonic() + patience_s
        while True:
            try:
                await self._take(rows, account)
            except QueueFull as error:
                if time.monotonic() + error.retry_after_s > deadline:
                    raise
                await asyncio.sleep(min(0.25, error.retry_after_s))
            else:
                return

    async def _take(self, rows: Sequence[tuple[int, Sequence[Taken]]], account: Account) -> None:
        recent = self._recent
        recent.turn(time.monotonic())
        events: list[MissEvent] = []
        places: list[int] = []
        deletions: list[Deletion] = []
        written: list[tuple[int, Written]] = []
        told: list[tuple[int, str, str, str]] = []
        for line, found in rows:
            for one in found:
                if type(one) is MissEvent:
                    state = recent.get((one.bucket, one.key, one.method, one.status))
                    if state is None:
                        events.append(one)
                        places.append(line)
                    else:
                        told.append((line, state, "repeat", ""))
                elif isinstance(one, Deletion):
                    deletions.append(one)
                    told.append((line, "tombstones", "", ""))
                elif isinstance(one, Written):
                    written.append((line, one))
                elif isinstance(one, Refused):
                    told.append((line, "refused", one.reason, one.detail))
                elif isinstance(one, Ignored):
                    told.append((line, "ignored", one.reason, ""))
        if deletions:
            await self._bury(deletions)
        if written:
            told += await self._note(written)
        if events:
            told += await self._dispatch(events, places)
        account.received += sum(len(found) for _, found in rows)
        if rows:
            account.last_line = rows[-1][0]
        for line, state, reason, detail in told:
            account.note(line, state, reason, detail)
        for state, number in Counter(state for _, state, _, _ in told).items():
            metrics.events_taken("http", state, number)

    async def _dispatch(
        self, events: Sequence[MissEvent], places: Sequence[int]
    ) -> list[tuple[int, str, str, str]]:
        told: list[tuple[int, str, str, str]] = []
        fresh, at = await self._unseen(events, places, told)
        if not fresh:
            return told
        report = await self._dispatcher.dispatch(fresh)
        reasons = dict(report.refused)
        new_ids: list[str] = []
        for index, (event, line, state) in enumerate(zip(fresh, at, report.states, strict=True)):
            told.append((line, state, reasons.get(index, ""), ""))
            if state in {"accepted", "duplicate"}:
                self._recent.put((event.bucket, event.key, event.method, event.status), state)
                if event.id and state == "accepted":
                    new_ids.append(event.id)
        if new_ids:
            try:
                await self._ledger.remember_events(new_ids)
            except (RedisError, OSError):
                # They are in the queue; should they come again, claims and the store tell.
                return told
        return told

    async def _unseen(
        self, events: Sequence[MissEvent], places: Sequence[int], told: list[tuple[int, str, str, str]]
    ) -> tuple[list[MissEvent], list[int]]:
        """Events whose id was not accepted before; the others are told as duplicates."""
        ids = [event.id for event in events if event.id]
        if not ids:
            return list(events), list(places)
        try:
            seen = {
                name for name, known in zip(ids, await self._ledger.seen_events(ids), strict=True) if known
            }
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"ledger: {error}") from error
        fresh: list[MissEvent] = []
        at: list[int] = []
        for event, line in zip(events, places, strict=True):
            if event.id and event.id in seen:
                told.append((line, "duplicate", "id_seen", ""))
                continue
            if event.id:
                seen.add(event.id)
            fresh.append(event)
            at.append(line)
        return fresh, at

    async def _note(self, written: Sequence[tuple[int, Written]]) -> list[tuple[int, str, str, str]]:
        """Keys that a rule writes back go to their origin; the others mean nothing here."""
        buckets: dict[str, list[str]] = defaultdict(list)
        for _, one in written:
            buckets[one.bucket].append(one.key)
        noted = {
            (bucket, key)
            for bucket, keys in buckets.items()
            for key in await self._dispatcher.note_back(bucket, keys, TOLD)
        }
        return [
            (line, "written_back", "", "")
            if (one.bucket, one.key) in noted
            else (line, "ignored", one.otherwise, "")
            for line, one in written
        ]

    async def _bury(self, deletions: Sequence[Deletion]) -> None:
        buckets: dict[str, list[str]] = defaultdict(list)
        for deletion in deletions:
            buckets[deletion.bucket].append(deletion.key)
        try:
            for bucket, keys in buckets.items():
                await self._ledger.claims.add_tombstones(
                    bucket, keys, ttl_s=TOMBSTONE_TTL_S, reason="deleted"
                )
                gone = [one.key for one in deletions if one.bucket == bucket and not one.expired]
                await self._dispatcher.note_back(bucket, gone, DELETED)
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"ledger: {error}") from error
