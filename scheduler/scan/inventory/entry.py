"""What an inventory says of one object, and the orders in which stores list keys. PURE.

Owns the record that every source yields and the collations that `scheduler.scan.merge` compares under.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Entry(NamedTuple):
    """One object of an inventory. A tuple, because ten million of them pass through a merge."""

    key: str
    #: Bytes, or None when the source does not say.
    size: int | None = None
    #: `algorithm:hex` in lower case (`md5:…`, `sha256:…`, `crc32c:…`, `etag:…` for an opaque one), or None.
    digest: str | None = None
    #: Unix seconds, or None.
    mtime: float | None = None


class Collation(StrEnum):
    """The order of a listing.

    `BYTES`: by UTF-8 bytes, as S3 does (the order of code points is the same). `PATH`: component by
    component, as SeaweedFS does: `k/a/1` before `k/a-1`.
    """

    BYTES = "bytes"
    PATH = "path"


def _as_is(key: str) -> str:
    return key


def _by_component(key: str) -> str:
    # No key has a control character, so U+0001 sorts a component before all that begin with it.
    return key.replace("/", "\x01")


def order_of(collation: Collation) -> Callable[[str], str]:
    """The function that gives a key its place: compare its results."""
    return _as_is if collation is Collation.BYTES else _by_component
