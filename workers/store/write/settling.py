"""Whose object holds the key when an upload commits: this very attempt's, somebody else's, or nobody's.

Owns SEMANTICS.md S11, S12 and S17 as far as they look at the store: the check before a commit that the store
does not guard by itself, what a 412 means, and undoing a write that went wrong. Knows neither parts nor how
bytes travel.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog

from workers.errors import KeyNotRepresentable, StoreError
from workers.store.guarantees import CreateOnly
from workers.store.metadata import ATTEMPT, KEY_SHA256, is_mirrored
from workers.store.model import Commit
from workers.telemetry import metrics

if TYPE_CHECKING:
    from workers.store.model import ObjectInfo
    from workers.store.write.intent import Intent

log = structlog.get_logger(__name__)

#: Seconds between the two looks for an object that a 412 spoke of.
_SECOND_LOOK_S: Final = 0.2


#: From this status on the store says that it failed, and not that it will not do it.
_ITS_OWN_FAILURE: Final = 500


@dataclass(slots=True, kw_only=True)
class Settling:
    """The end of one upload; its methods give the `Commit` that the upload returns."""

    intent: Intent
    #: Lower-case hex of the bytes that were written.
    sha256: str
    #: Tries that the store was sent and has not answered for good: each may yet come about.
    unanswered: int = 0

    def asking(self) -> None:
        """The store is about to be sent a try."""
        self.unanswered += 1

    def answered(self, status: int) -> None:
        """It answered that try."""
        self.unanswered -= status < _ITS_OWN_FAILURE

    def over(self) -> None:
        """No try can come about any more: the parts that they would put together are used up."""
        self.unanswered = 0

    def created(self, *, etag: str, size: int) -> Commit:
        """The object is ours; `size` in bytes."""
        return Commit(created=True, etag=etag, size=size, sha256=self.sha256)

    def gone(self) -> Commit:
        """What was to be replaced is not there any more; nothing was written."""
        return self._not_created(etag="", size=0)

    def found(self, info: ObjectInfo) -> Commit:
        """What holds the key: this very attempt, or another object.

        Raises:
            KeyNotRepresentable: it is the object of another key, which the store collapses with this one.
        """
        if self._is_ours(info):
            return self.created(etag=info.etag, size=info.size)
        return self._present(info)

    async def before(self, mode: CreateOnly, *, proven: bool = True) -> Commit | None:
        """The look directly before a commit that the store does not guard by itself; None: go on.

        A replacement always looks, because only an object of ours may be replaced (S12); else only a store
        without create-only writes needs it (S11, weaker), or one of which only the configuration says that it
        has them (not `proven`).
        """
        intent = self.intent
        if intent.replace_etag is None and mode is not CreateOnly.CHECK_THEN_WRITE and proven:
            return None
        info = await intent.store.head(intent.bucket, intent.key)
        if info is None:
            return None if intent.replace_etag is None else self.gone()
        if info.etag == intent.replace_etag and is_mirrored(info):
            return None
        return self.found(info)

    async def after_refusal(self) -> Commit:
        """After a 412: our own lost answer, somebody's object, or a key that cannot be held (S11).

        Raises:
            KeyNotRepresentable: there is no such object, seen twice.
        """
        intent = self.intent
        info = await intent.store.head(intent.bucket, intent.key)
        if info is None:
            await intent.store.sleep(_SECOND_LOOK_S)
            info = await intent.store.head(intent.bucket, intent.key)
        if info is not None:
            return self.found(info)
        if intent.replace_etag is not None:
            return self.gone()
        raise KeyNotRepresentable(
            f"{intent.what}: the store refuses to create it and has no such object", status=412
        )

    async def ours(self) -> ObjectInfo | None:
        """The object of this very attempt, if it is there and the store can say so."""
        try:
            info = await self.intent.store.head(self.intent.bucket, self.intent.key)
        except StoreError:
            return None
        return info if info is not None and self._is_ours(info) else None

    async def undo(self, version: str) -> None:
        """Remove what this attempt wrote, and nothing else."""
        intent = self.intent
        if await self.ours() is not None:
            log.error("store_corrupted", bucket=intent.bucket, key=intent.key)
            await intent.store.delete(intent.bucket, intent.key, version=version)

    def _is_ours(self, info: ObjectInfo) -> bool:
        return info.user_meta.get(ATTEMPT) == self.intent.attempt

    def _present(self, info: ObjectInfo) -> Commit:
        """Another object holds the key; or the store collapsed two keys, as its provenance tells."""
        theirs = info.user_meta.get(KEY_SHA256)
        if theirs is not None and theirs != sha256(self.intent.key.encode()).hexdigest():
            raise KeyNotRepresentable(f"{self.intent.what}: the store gives the object of another key")
        return self._not_created(etag=info.etag, size=info.size)

    def _not_created(self, *, etag: str, size: int) -> Commit:
        metrics.create_only_refused()
        return Commit(created=False, etag=etag, size=size, sha256=self.sha256)
