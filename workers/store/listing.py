"""Listings: ListObjectsV2 page by page, and the multipart uploads that were left open.

Owns the reading of listing XML at a few microseconds a key. A page that cannot be read raises; it never looks
like the end (P31).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, unquote_plus

from lxml import etree

from workers.errors import StoreRejected, StoreUnavailable
from workers.store.model import ListedColumns, ListPage, OpenUpload, iso_time
from workers.store.wire.answers import parse, unquote_etag

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from workers.store.model import StoreAnswer
    from workers.store.wire.transport import Transport

_PAGE_KEYS: Final = 1000
#: Times that a page is asked for again when its XML was cut or mangled on the way.
_UNREADABLE_RETRIES: Final = 2


class _Paths:
    """Precompiled paths for one namespace: one call a field and page instead of one a key."""

    __slots__ = ("contents", "etag", "key", "modified", "size")

    def __init__(self, namespace: str | None) -> None:
        spaces = {"n": namespace} if namespace else None
        mark = "n:" if namespace else ""

        def column(name: str) -> Any:
            return etree.XPath(f"{mark}Contents/{mark}{name}/text()", namespaces=spaces, smart_strings=False)

        self.key = column("Key")
        self.size = column("Size")
        self.etag = column("ETag")
        self.modified = column("LastModified")
        self.contents: Any = etree.XPath(f"{mark}Contents", namespaces=spaces)


_PATHS: Final[dict[str | None, _Paths]] = {
    space: _Paths(space) for space in (None, "http://s3.amazonaws.com/doc/2006-03-01/")
}


def _entry(*elements: str) -> re.Pattern[str]:
    """An entry with these elements in this order, others that we do not read between them."""
    other = (
        r"(?:<(?:StorageClass|ChecksumAlgorithm|ChecksumType)>[^<&]*</(?:StorageClass|ChecksumAlgorithm|ChecksumType)>"
        r"|<Owner>(?:<(?:ID|DisplayName)>[^<&]*</(?:ID|DisplayName)>)*</Owner>)*"
    )
    quote = r"(?:&quot;|&#34;|\")?"
    forms = {
        "Key": r"<Key>([^<&]*)</Key>",
        "LastModified": r"<LastModified>([^<&]*)</LastModified>",
        "ETag": rf"<ETag>{quote}([^<&\"]*){quote}</ETag>",
        "Size": r"<Size>(\d+)</Size>",
    }
    return re.compile("<Contents>" + other.join(forms[name] for name in elements) + other + "</Contents>")


#: An entry as S3 and most others write it, and as SeaweedFS does; and where key, size, ETag and time stand.
_ENTRIES: Final = (
    (_entry("Key", "LastModified", "ETag", "Size"), (0, 3, 2, 1)),
    (_entry("Key", "ETag", "Size", "LastModified"), (0, 2, 1, 3)),
)


def _split(body: bytes) -> tuple[bytes, list[list[str]]] | None:
    """The page without its entries, and the entries' columns: key, size, ETag, time; None when it is unusual.

    One regular expression that must match every entry whole costs a third of building their trees.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    for pattern, order in _ENTRIES:
        parts = pattern.split(text)
        if len(parts) > 1 and not any(parts[5:-1:5]):
            envelope = parts[0] + parts[-1]
            if "Contents" in envelope or "<!" in envelope:
                return None
            return envelope.encode(), [parts[1 + at :: 5] for at in order]
    return None


def _columns(root: etree._Element, answer: StoreAnswer, what: str) -> list[list[str]]:
    """Keys, sizes, ETags and times of the entries in a tree."""
    space = etree.QName(root).namespace
    paths = _PATHS.get(space)
    if paths is None:
        paths = _PATHS[space] = _Paths(space)
    keys: list[str] = paths.key(root)
    sizes: list[str] = paths.size(root)
    etags: list[str] = paths.etag(root)
    times: list[str] = paths.modified(root)
    count = len(paths.contents(root))
    if len(keys) != count or len(sizes) != count:
        raise StoreUnavailable(
            f"{what}: {count} entries with {len(keys)} keys and {len(sizes)} sizes",
            status=answer.status,
        )
    if len(etags) != count:
        etags = [entry.findtext("{*}ETag") or "" for entry in paths.contents(root)]
    if len(times) != count:
        times = [entry.findtext("{*}LastModified") or "" for entry in paths.contents(root)]
    return [keys, sizes, list(map(unquote_etag, etags)), times]


def read_page(answer: StoreAnswer, *, what: str, plus_is_space: bool = True) -> ListPage:
    """A page of a listing.

    Args:
        answer: what the store sent.
        what: what was asked, for the error.
        plus_is_space: how keys are decoded when the store says that they are URL-encoded.

    Raises:
        StoreUnavailable: it is not a well-formed listing, or its columns do not match.
        StoreRejected: it says that there is more but not how to go on.
    """
    entries = _split(answer.body)
    root = parse(answer if entries is None else replace(answer, body=entries[0]), what=what)
    name = etree.QName(root)
    if name.localname != "ListBucketResult":
        raise StoreUnavailable(f"{what}: a {name.localname} instead of a listing", status=answer.status)
    keys, sizes, etags, times = _columns(root, answer, what) if entries is None else entries[1]
    if root.findtext("{*}EncodingType") == "url":
        decode: Callable[[str], str] = unquote_plus if plus_is_space else unquote
        keys = [decode(key) if "%" in key or "+" in key else key for key in keys]
    continuation: str | None = None
    if (root.findtext("{*}IsTruncated") or "").strip().lower() == "true":
        continuation = root.findtext("{*}NextContinuationToken")
        if not continuation:
            raise StoreRejected(f"{what}: the listing is truncated and gives no continuation token")
    return ListPage(
        objects=ListedColumns(keys, list(map(int, sizes)), etags, times),
        continuation=continuation,
    )


async def list_objects(
    transport: Transport,
    bucket: str,
    prefix: str,
    *,
    continuation: str | None,
    start_after: str | None,
    headers: Mapping[str, str],
    plus_is_space: bool,
) -> AsyncIterator[ListPage]:
    """Every page from a token on, in the store's own order.

    Raises:
        StoreError: a page could not be had, or the store goes round in circles.
    """
    what = f"LIST {bucket}/{prefix}"
    while True:
        query = [("list-type", "2"), ("encoding-type", "url"), ("max-keys", str(_PAGE_KEYS))]
        if prefix:
            query.append(("prefix", prefix))
        if continuation is not None:
            query.append(("continuation-token", continuation))
        elif start_after is not None:
            query.append(("start-after", start_after))
        attempt = 0
        while True:
            answer = await transport.exchange("GET", bucket, headers=dict(headers), query=query)
            try:
                page = read_page(answer, what=what, plus_is_space=plus_is_space)
                break
            except StoreUnavailable as error:
                if attempt >= _UNREADABLE_RETRIES:
                    raise
                await transport.pause(error, attempt)
                attempt += 1
        if page.continuation is not None and page.continuation == continuation:
            raise StoreRejected(f"{what}: the same continuation token twice; the listing would never end")
        yield page
        if page.continuation is None:
            return
        continuation = page.continuation


async def list_uploads(
    transport: Transport,
    bucket: str,
    prefix: str,
    *,
    headers: Mapping[str, str],
) -> AsyncIterator[OpenUpload]:
    """Multipart uploads under a prefix that were begun and neither completed nor aborted.

    Raises:
        StoreError: a page could not be had.
    """
    markers: list[tuple[str, str]] = []
    while True:
        query = [("uploads", ""), ("encoding-type", "url"), *markers]
        if prefix:
            query.append(("prefix", prefix))
        answer = await transport.exchange("GET", bucket, headers=dict(headers), query=query)
        root = parse(answer, what=f"LIST UPLOADS {bucket}/{prefix}")
        encoded = root.findtext("{*}EncodingType") == "url"
        for entry in root.iterfind("{*}Upload"):
            key = entry.findtext("{*}Key") or ""
            yield OpenUpload(
                key=unquote_plus(key) if encoded else key,
                upload_id=entry.findtext("{*}UploadId") or "",
                initiated=iso_time(entry.findtext("{*}Initiated") or ""),
            )
        if (root.findtext("{*}IsTruncated") or "").strip().lower() != "true":
            return
        key = root.findtext("{*}NextKeyMarker") or ""
        following = [
            ("key-marker", unquote_plus(key) if encoded else key),
            ("upload-id-marker", root.findtext("{*}NextUploadIdMarker") or ""),
        ]
        if following == markers:
            raise StoreRejected(f"LIST UPLOADS {bucket}: the same marker twice")
        markers = following
