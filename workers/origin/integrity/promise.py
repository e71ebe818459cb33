"""What was promised of a body, by the origin's headers and by a listing, and whether it was kept.

Pure. Owns sizes and digests of whole bodies; a part of one (206) promises nothing of the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.errors import ListingMismatch
from workers.origin.integrity.digest import Verifier, from_listing, offered

if TYPE_CHECKING:
    from workers.answers import Headers
    from workers.plan import FetchItem


class Promise:
    """Of one body; `verifier` is fed with its bytes by whoever reads them."""

    __slots__ = ("_host", "_size", "digests_offered", "verifier")

    def __init__(self, headers: Headers, item: FetchItem, *, host: str, trust_etag: bool) -> None:
        expected = offered(headers, trust_etag=trust_etag)
        #: The origin itself offers a digest; a listing's does not count.
        self.digests_offered = bool(expected)
        if item.digest is not None:
            expected += from_listing(item.digest)
        self.verifier = Verifier(expected, origin=host) if expected else None
        self._size = item.size
        self._host = host

    def check_size(self, n_bytes: int) -> None:
        """Compare a length with the listing's.

        Raises:
            ListingMismatch: they differ.
        """
        if self._size is not None and n_bytes != self._size:
            raise ListingMismatch(
                f"{self._host}: the listing promised {self._size} bytes, there are {n_bytes}",
                origin=self._host,
                algorithm="size",
                expected=str(self._size),
                actual=str(n_bytes),
            )

    def finish(self, n_bytes: int) -> None:
        """Judge a body that came to its end after `n_bytes`.

        Raises:
            DigestMismatch: the bytes are not what the origin offered.
            ListingMismatch: they are not what the listing promised.
        """
        self.check_size(n_bytes)
        if self.verifier is not None:
            self.verifier.finish()
