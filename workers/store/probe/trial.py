"""The requests of one probe: everything happens under `.ferryman/probe/<token>/`, and is removed afterwards.

Owns what was written and its removal. What the answers prove is judged beside it, in `writes`, `keys` and
`parts`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import structlog
from lxml import etree

from workers.errors import StoreDenied, StoreError, StoreUnavailable
from workers.store.wire.answers import failure
from workers.store.wire.signing import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.store.access import StoreAccess
    from workers.store.model import StoreAnswer

log = structlog.get_logger(__name__)

#: Pages of versions that are removed; a probe leaves a few dozen.
_MOST_PAGES: Final = 20
#: Two bodies that can be told apart.
FIRST: Final = b"first"
SECOND: Final = b"second"

#: Statuses that are findings; the others are tried again.
_ANY_REFUSAL: Final = frozenset(range(300, 500)) - {429}


class Trial:
    """One probe of one bucket; remembers what to remove."""

    def __init__(self, store: StoreAccess, bucket: str, prefix: str) -> None:
        self.store = store
        self.bucket = bucket
        self.prefix = prefix
        #: Keys that may be there now.
        self.written: set[str] = set()

    async def put(
        self,
        name: str,
        body: bytes,
        headers: Iterable[tuple[str, str]] = (),
        *,
        payload_sha256: str | None = None,
    ) -> int:
        """Status of one PUT, whatever it is; 5xx and lost connections are tried again."""
        key = self.prefix + name
        self.written.add(key)
        answer = await self.ask(
            "PUT",
            key,
            headers={**self.store.create_headers, **dict(headers)},
            body=body,
            payload_sha256=payload_sha256 or sha256_hex(body),
        )
        return answer.status

    async def put_odd(self, name: str, body: bytes) -> int:
        """As `put`, for a key that not every store can hold: a 5xx that lasts is its way to refuse it.

        Raises:
            StoreUnavailable: it takes plain keys no more, either.
        """
        try:
            return await self.put(name, body)
        except StoreUnavailable as error:
            if error.status is None:
                raise
            await self.writable()
            return error.status

    async def ask(self, method: str, key: str, **request: Any) -> StoreAnswer:
        """The answer to one request, any refusal included; `request` as `Transport.exchange` takes it."""
        transport = self.store.transport
        return await transport.exchange(method, self.bucket, key, accept=_ANY_REFUSAL, **request)

    async def body(self, name: str) -> bytes | None:
        """What is under a name; None when nothing is, or nobody can tell."""
        try:
            async with await self.store.get(self.bucket, self.prefix + name) as response:
                return await response.read() if response.status == 200 else None
        except StoreError:
            return None

    async def writable(self) -> None:
        """A plain PUT works; all other findings rest on it."""
        key = self.prefix + "writable"
        self.written.add(key)
        answer = await self.ask(
            "PUT",
            key,
            headers=dict(self.store.create_headers),
            body=FIRST,
            payload_sha256=sha256_hex(FIRST),
        )
        if answer.status >= 300:
            raise failure(answer, what=f"PUT {self.bucket}/{key}")

    async def clean_up(self) -> None:
        """Remove everything that was written; what cannot be removed is harmless and logged."""
        failed = 0
        for key in sorted(self.written, key=len, reverse=True):
            try:
                with contextlib.suppress(StoreDenied):
                    answer = await self.ask("DELETE", key, headers=self.store.common_headers)
                    failed += answer.status >= 500
            except StoreError:
                failed += 1
        try:
            failed += await self._remove_versions()
        except StoreError:
            failed += 1
        if failed:
            log.warning("probe_objects_left", bucket=self.bucket, prefix=self.prefix, count=failed)

    async def _remove_versions(self) -> int:
        """Where the bucket keeps versions: remove them and the markers of our deletions; how many stay."""
        left = 0
        for _ in range(_MOST_PAGES):
            query = [("versions", ""), ("prefix", self.prefix), ("encoding-type", "url")]
            answer = await self.ask("GET", "", query=query, headers=self.store.common_headers)
            kept = versions_of(answer.body) if answer.status == 200 else []
            if len(kept) <= left:  # nothing, or only what may not be removed
                return left
            left = 0
            for key, version in kept:
                with contextlib.suppress(StoreDenied):
                    removed = await self.ask(
                        "DELETE", key, query=[("versionId", version)], headers=self.store.common_headers
                    )
                    if removed.status < 300:
                        continue
                left += 1
        return left


def versions_of(body: bytes) -> list[tuple[str, str]]:
    """Key and version of all that a ListObjectVersions answer names, delete markers too; keys URL-encoded.

    An answer that is none names nothing.
    """
    try:
        root = etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError:
        return []
    found = []
    for entry in root.iter("{*}Version", "{*}DeleteMarker"):
        key, version = entry.findtext("{*}Key"), entry.findtext("{*}VersionId")
        if key and version:
            found.append((unquote(key), version))
    return found
