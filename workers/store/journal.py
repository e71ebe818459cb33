"""What a note of an open multipart upload says, and who keeps such notes.

Owns the records. They are kept in the bucket itself by `write.journal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadNote:
    """One upload that some process of ours began."""

    #: Name of the note: the attempt's id, and what tells two uploads of it apart.
    attempt: str
    key: str
    #: Unix time in seconds at which the note was written, by the store's clock: the one by which it says
    #: when uploads were begun. Nobody else's may be compared with that.
    at: float


class UploadJournal(Protocol):
    """Where notes of open uploads are kept."""

    async def opened(self, bucket: str, key: str, attempt: str) -> None:
        """Note an upload that is about to be created; an error forbids to create it."""

    async def closed(self, bucket: str, attempt: str) -> None:
        """Forget one that was completed or aborted."""

    def notes(self, bucket: str, *, attempt: str = "") -> AsyncIterator[UploadNote]:
        """All notes of a bucket, or those of one attempt."""
