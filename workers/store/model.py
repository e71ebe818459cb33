"""The records that the store's modules exchange with the rest of the program.

Owns the shape of what is read from and written to a store. Knows no client library and no rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, overload


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What the store says about one object."""

    key: str
    #: Bytes of the whole object, also when the answer was a range of it.
    size: int
    #: Without quotes; not necessarily an MD5.
    etag: str
    #: Unix time in seconds; 0 when the store gave none.
    last_modified: float
    #: System headers as the store sent them (`Content-Type`, `Expires`, …), order kept.
    headers: tuple[tuple[str, str], ...] = ()
    #: User metadata: names lower-case without `x-amz-meta-`, values as sent.
    user_meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMeta:
    """Everything that is written beside the body; built by `metadata.object_meta` (S3 to S10)."""

    #: Native S3 system headers.
    headers: tuple[tuple[str, str], ...] = ()
    #: User metadata, names without `x-amz-meta-`, values printable ASCII.
    user_meta: tuple[tuple[str, str], ...] = ()
    #: S3 object tags.
    tags: tuple[tuple[str, str], ...] = ()
    #: Names that had to be dropped or shortened to stay within the store's limit (S10).
    cut: tuple[str, ...] = ()
    #: Room is left for the digest of the body, which the upload knows only at its end (S9).
    digest_fits: bool = False


class ListedObject(NamedTuple):
    """One line of a listing. A tuple, because ten million of them pass through a scan."""

    key: str
    size: int
    #: Without quotes.
    etag: str
    #: Unix time in seconds.
    last_modified: float


class ListedColumns(Sequence[ListedObject]):
    """The lines of a page as columns: a line is made only for who asks for it."""

    __slots__ = ("etags", "keys", "sizes", "times")

    def __init__(self, keys: list[str], sizes: list[str], etags: list[str], times: list[str]) -> None:
        """`sizes` as decimal numbers, `times` as ISO 8601 stamps; one that is none reads as 0."""
        self.keys = keys
        self.sizes = sizes
        self.etags = etags
        self.times = times

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, at: int) -> ListedObject: ...

    @overload
    def __getitem__(self, at: slice) -> ListedColumns: ...

    def __getitem__(self, at: int | slice) -> ListedObject | ListedColumns:
        if isinstance(at, slice):
            return ListedColumns(self.keys[at], self.sizes[at], self.etags[at], self.times[at])
        return ListedObject(self.keys[at], int(self.sizes[at]), self.etags[at], iso_time(self.times[at]))


def iso_time(value: str) -> float:
    """Unix time of an ISO 8601 stamp as listings carry it; 0 when it is none."""
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """One page of a listing, in the store's own order."""

    objects: Sequence[ListedObject]
    #: Token of the next page; None means that this one was the last.
    continuation: str | None
    #: Keys that are not UTF-8, as the store encoded them (`X%FF`); they are not among the objects.
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """How an upload ended: the object is whole in the store, and whether we put it there."""

    #: False: another object holds the key and was not touched (AlreadyPresent).
    created: bool
    #: ETag of the object that is there now, without quotes.
    etag: str
    #: Its size in bytes.
    size: int
    #: Lower-case hex of the bytes that were written through this upload; of ours, even when not created.
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAnswer:
    """A finished exchange with the store: status, headers (looked up without case) and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenUpload:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    #: Unix time in seconds.
    initiated: float
