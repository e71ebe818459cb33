"""The records that the store's modules exchange with the rest of the program.

Owns the shape of what is read from and written to a store. Knows no client library and no rule.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 -- a dataclass field, resolved by pydantic users
from dataclasses import dataclass, field
from typing import NamedTuple


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """One page of a listing, in the store's own order."""

    objects: tuple[ListedObject, ...]
    #: Token of the next page; None means that this one was the last.
    continuation: str | None


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
