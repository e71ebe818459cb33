"""Batches of keys that were asked to be brought back, until each key has its outcome.

Owns when a batch is noted, opened and settled, and its text in a checkpoint: whoever goes on behind one notes
what it held once more, which is harmless: a key is brought as the store has it then. A key without a record
passes for brought, also where Redis forgot its last second: so a batch is opened behind its notes, and one
that the account does not know is noted once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scheduler.runtime import Services

#: Keys of one batch.
_BATCH: Final = 200

log = structlog.get_logger(__name__)


class Batch(NamedTuple):
    """Keys of one group, to be brought in one way."""

    number: int
    group: str
    how: str
    keys: list[str]


class Bringing:
    """The batches of one run that are under way."""

    def __init__(self, services: Services, bucket: str, run: str) -> None:
        self._ledger = services.ledger
        self._bucket = bucket
        self._run = run
        #: In the order of their numbers.
        self.under_way: list[Batch] = []
        #: Those of them that the account does not know.
        self._forgotten: list[Batch] = []

    async def note(self, batches: Sequence[Batch]) -> None:
        """Ask for these; what has its outcome already is passed over."""
        outcomes = self._ledger.outcomes
        for one in batches:
            size = len(one.keys)
            if len(await outcomes.settled(self._run, one.number, range(size))) < size:
                await self._noted(one)
                self.under_way.append(one)

    async def _noted(self, one: Batch) -> None:
        await self._ledger.back.note(self._bucket, one.keys, one.how)
        await self._ledger.outcomes.open_batch(self._run, one.number, size=len(one.keys), group=one.group)

    async def settle(self) -> None:
        """See what became of them; who is at its end is under way no more."""
        self._forgotten = []
        self.under_way = [one for one in self.under_way if not await self._is_settled(one)]

    async def _is_settled(self, batch: Batch) -> bool:
        states = await self._ledger.back.progress(self._bucket, batch.keys)
        words = {"done": "stored", "failed": "failed"}
        places = [(at, words[state], 0) for at, state in enumerate(states) if state in words]
        if not await self._ledger.outcomes.set_places(self._run, batch.number, places):
            self._forgotten.append(batch)
            return False
        return "pending" not in states

    async def note_again(self) -> None:
        """Note what Redis has forgotten. Only under the lease: the account of an earlier run is gone, too."""
        for one in self._forgotten:
            log.warning("batch_forgotten", run=self._run, batch=one.number, keys=len(one.keys))
            await self._noted(one)
        self._forgotten = []


def batches_of(wanted: Mapping[tuple[str, str], list[str]], first: int) -> Iterator[Batch]:
    """(group, how) -> keys in batches, numbered from `first`. Pure."""
    number = first
    for (group, how), keys in wanted.items():
        for at in range(0, len(keys), _BATCH):
            yield Batch(number, group, how, keys[at : at + _BATCH])
            number += 1


def encoded(batches: Sequence[Batch]) -> bytes:
    """As they stand in a checkpoint. Pure."""
    return orjson.dumps([list(one) for one in batches])


def decoded(text: bytes | str | None) -> list[Batch]:
    """Read it; none where nothing stands. Pure."""
    return [Batch(*one) for one in orjson.loads(text)] if text else []
