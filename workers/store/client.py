"""ObjectStore: everything the program asks of the destination.

Owns the sum: plain requests (`access`), uploads (`write`), and what this store was proved to honour
(`probe`). Must not know rules, queues or origins.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from workers.background import end
from workers.errors import StoreDenied
from workers.store.access import StoreAccess
from workers.store.guarantees import CreateOnly, StoreGuarantees
from workers.store.probe.probe import probe
from workers.store.write.journal import StoreJournal
from workers.store.write.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from workers.settings import LimitSettings, StoreSettings
    from workers.store.journal import UploadJournal
    from workers.store.memory import Reservation
    from workers.store.model import ObjectMeta


class ObjectStore(StoreAccess):
    """The destination, for one process; use as an async context.

    Args:
        settings: the store section of the configuration, `endpoint` resolved.
        limits: memory and disk of the process.
        spool_dir: where parts that are too large for memory go; the system's place for temporary files if
        None. journal: where open multipart uploads are noted; under `.ferryman/` in the bucket itself if
        None. sleep: how retries wait.
    """

    def __init__(
        self,
        settings: StoreSettings,
        limits: LimitSettings,
        *,
        spool_dir: Path | None = None,
        journal: UploadJournal | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(settings, limits, spool_dir=spool_dir, sleep=sleep)
        self.journal = journal or StoreJournal(self)
        #: The self-tests that run now, by bucket.
        self._learning: dict[str, asyncio.Task[StoreGuarantees]] = {}

    async def __aexit__(self, *_: object) -> None:
        await end(*self._learning.values())
        await super().__aexit__()

    # ------------------------------------------------------------------ uploading

    async def reserve(self, size: int | None = None) -> Reservation:
        """Hold the memory of a first part before the origin is opened; hand it to `upload` as `lease`.

        `size` is the length in bytes when it is known.
        """
        part = self.settings.part_size_bytes
        wanted = part if size is None else min(size, part)
        return await self.memory.reserve(min(wanted, self.limits.memory_bytes // 8), ahead=True)

    def upload(
        self,
        bucket: str,
        key: str,
        meta: ObjectMeta,
        *,
        attempt: str,
        size: int | None,
        replace_etag: str | None = None,
        lease: Reservation | None = None,
    ) -> Upload:
        """One object on its way in; see `Upload`.

        Args:
            bucket: destination.
            key: object name.
            meta: what is written beside the body; carries the same attempt id.
            attempt: id of this very attempt, by which a lost answer is recognised (S11).
            size: length in bytes when it is known.
            replace_etag: replace the object that has this ETag and is ours (S12), instead of create-only.
            lease: memory from `reserve`; taken over.
        """
        return Upload(
            self,
            bucket,
            key,
            meta,
            attempt=attempt,
            size=size,
            replace_etag=replace_etag,
            lease=lease,
            guarantees=self.guarantees,
        )

    # ------------------------------------------------------------------ what the store honours

    async def guarantees(self, bucket: str) -> StoreGuarantees:
        """What the store honours in this bucket: proven once a process, or as the configuration says.

        Raises:
            StoreError: the self-test failed; who asked meanwhile shares that, instead of trying in turn.
        """
        found = self._guarantees.get(bucket)
        if found is not None:
            return found
        running = self._learning.get(bucket)
        if running is None:
            running = self._learning[bucket] = asyncio.create_task(self._learn(bucket))
            running.add_done_callback(lambda task: self._learnt(bucket, task))
        return await asyncio.shield(running)

    async def _learn(self, bucket: str) -> StoreGuarantees:
        configured = self.settings.create_only
        if configured == "auto":
            found = await probe(self, bucket)
        else:
            mode = CreateOnly(configured)
            found = await self._learn_the_rest(bucket, mode)
        self.assume(bucket, found)
        return found

    async def _learn_the_rest(self, bucket: str, mode: CreateOnly) -> StoreGuarantees:
        """Which keys the store confuses and how it lists, whatever the configuration says of create-only."""
        try:
            found = await probe(self, bucket)
        except StoreDenied:
            found = StoreGuarantees(object_tags=self.settings.object_tags)
        return replace(found, create_only=mode, multipart_create_only=mode, inverted=False, proven=False)

    def _learnt(self, bucket: str, task: asyncio.Task[StoreGuarantees]) -> None:
        del self._learning[bucket]
        if not task.cancelled():
            task.exception()  # looked at, also when nobody waits for it any more
