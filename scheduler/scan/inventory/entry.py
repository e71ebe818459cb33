"""What an inventory says of one object, and the orders in which stores list keys. PURE.

Owns the record that every source yields, the same for many objects in columns, and the collations that
`scheduler.scan.compare.merge` compares under.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, overload

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


class Columns(Sequence[Entry]):
    """Many entries as columns: an entry is made only for who asks. A column without any value is None.

    Numbers are kept as the text they were read from, `""` for unknown, until somebody needs them.
    """

    __slots__ = ("digests", "keys", "mtimes", "sizes")

    def __init__(
        self, keys: list[str], sizes: list[str] | None, digests: list[str] | None, mtimes: list[str] | None
    ) -> None:
        self.keys = keys
        self.sizes = sizes
        self.digests = digests
        self.mtimes = mtimes

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, at: int) -> Entry: ...

    @overload
    def __getitem__(self, at: slice) -> Columns: ...

    def __getitem__(self, at: int | slice) -> Entry | Columns:
        columns = (self.sizes, self.digests, self.mtimes)
        if isinstance(at, slice):
            sizes, digests, mtimes = (None if column is None else column[at] for column in columns)
            return Columns(self.keys[at], sizes, digests, mtimes)
        size, digest, mtime = ("" if column is None else column[at] for column in columns)
        return Entry(
            self.keys[at], int(size) if size else None, digest or None, float(mtime) if mtime else None
        )


class Collation(StrEnum):
    """The order of a listing.

    `BYTES`: by UTF-8 bytes, as S3 does (the order of code points is the same). `PATH`: component by
    component, as SeaweedFS does: `k/a/1` before `k/a-1`. `NONE`: no order that the probe could find; such a
    listing is sorted here before it is compared.
    """

    BYTES = "bytes"
    PATH = "path"
    NONE = "none"


def _as_is(key: str) -> str:
    return key


def _by_component(key: str) -> str:
    # No key has a control character, so U+0001 sorts a component before all that begin with it.
    return key.replace("/", "\x01")


def order_of(collation: Collation) -> Callable[[str], str]:
    """The function that gives a key its place: compare its results."""
    return _by_component if collation is Collation.PATH else _as_is
