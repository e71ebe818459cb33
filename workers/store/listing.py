"""Listings: ListObjectsV2 page by page, and the multipart uploads that were left open.

Owns the reading of listing XML at a few microseconds a key, and going on by marker where a store knows only
ListObjects V1. A page that cannot be read raises; it never looks like the end (P31).
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, unquote_plus

from lxml import etree

from workers.errors import StoreRejected, StoreUnavailable
from workers.store.entries import split
from workers.store.model import ListedColumns, ListPage, OpenUpload, iso_time
from workers.store.wire.answers import parse, unquote_etag

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from workers.store.model import StoreAnswer
    from workers.store.wire.transport import Transport

_PAGE_KEYS: Final = 1000
#: Begins a continuation that is a marker of ListObjects V1 and no token of a store.
_MARKER: Final = "ferryman-marker:"
#: Statuses by which a store says that it does not know ListObjectsV2.
_NO_V2: Final = frozenset({400, 405, 501})
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


#: References to what XML cannot hold: controls but tab, line feed and carriage return.
_CONTROL_REFERENCE: Final = re.compile(
    rb"&#(?:x0*(?:[0-8bcef]|1[0-9a-f])|0*(?:[0-8]|1[124-9]|2[0-9]|3[01]));", re.IGNORECASE
)
_RAW_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
#: What stands for them here, from the area of private use; and how stores say that they lost a sign.
_LOST: Final = "\uf8ff"
_REPLACED: Final = "\ufffd"


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
    try:
        sizes = [str(int(size)) for size in sizes]
        if "-" in "".join(sizes):
            raise ValueError("one is negative")
    except ValueError as error:
        raise StoreUnavailable(f"{what}: a size is no number: {error}", status=answer.status) from error
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
    entries = split(answer.body)
    rest = answer.body if entries is None else entries[0]
    if b"&#" in rest:
        # XML cannot hold control characters: a store that writes them as references sends what none parses.
        rest = _CONTROL_REFERENCE.sub(_LOST.encode(), rest)
        if entries is None and (entries := split(rest)) is not None:
            rest = entries[0]
    if entries is None:
        rest = _RAW_CONTROL.sub(_LOST.encode(), rest)
    root = parse(replace(answer, body=rest), what=what)
    name = etree.QName(root)
    if name.localname != "ListBucketResult":
        raise StoreUnavailable(f"{what}: a {name.localname} instead of a listing", status=answer.status)
    keys, sizes, etags, times = _columns(root, answer, what) if entries is None else entries[1]
    last = keys[-1] if keys else ""
    unreadable: list[str] = []
    columns = [sizes, etags, times]
    decode: Callable[[str], str] = str
    every = "".join(keys)
    if root.findtext("{*}EncodingType") == "url":
        decode = partial(unquote_plus if plus_is_space else unquote, errors="strict")
        try:
            if "%" in every or "+" in every:
                keys = [decode(key) if "%" in key or "+" in key else key for key in keys]
        except UnicodeDecodeError:
            keys, columns, unreadable = _readable(keys, columns, decode)
    elif _LOST in every or _REPLACED in every:
        keys, columns, unreadable = _readable(keys, columns, _not_lost)
    sizes, etags, times = columns
    return ListPage(
        objects=ListedColumns(keys, sizes, etags, times),
        continuation=_continuation(root, last, decode, what),
        unreadable=tuple(unreadable),
    )


def _not_lost(key: str) -> str:
    """A key as it is, where the store did not encode it.

    Raises:
        UnicodeDecodeError: a sign of it was replaced on the way, so that several keys would be one.
    """
    if _LOST in key or _REPLACED in key:
        raise UnicodeDecodeError("xml", key.encode(), 0, 1, "a sign that XML cannot hold")
    return key


def _readable(
    keys: list[str], columns: list[list[str]], decode: Callable[[str], str]
) -> tuple[list[str], list[list[str]], list[str]]:
    """Keys that are UTF-8, their columns; and the others as they are encoded: decoded they would be one."""
    kept: dict[int, str] = {}
    unreadable: list[str] = []
    for at, key in enumerate(keys):
        try:
            kept[at] = decode(key)
        except UnicodeDecodeError:
            unreadable.append(key)
    return list(kept.values()), [[column[at] for at in kept] for column in columns], unreadable


def _continuation(root: etree._Element, last: str, decode: Callable[[str], str], what: str) -> str | None:
    """How to go on behind a page whose last key is `last`, as it is encoded; None: it was the end.

    Raises:
        StoreRejected: there is more, but no way to it.
    """
    truncated = (root.findtext("{*}IsTruncated") or "").strip().lower()
    token = root.findtext("{*}NextContinuationToken")
    if truncated not in {"true", ""}:
        return None
    if token:
        return token  # also where the store forgets to say that there is more
    marker = root.findtext("{*}NextMarker") or (last if truncated else "")
    if marker:
        try:
            return _MARKER + decode(marker)
        except UnicodeDecodeError as error:
            msg = f"{what}: the listing goes on behind {marker!r}, which is not UTF-8, and gives no token"
            raise StoreRejected(msg) from error
    if truncated:
        raise StoreRejected(f"{what}: the listing is truncated and gives no continuation token")
    return None


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
    only_v1 = False
    seen = {hash(continuation)}
    while True:
        query = _query(prefix, continuation, start_after, only_v1=only_v1)
        attempt = 0
        while True:
            try:
                answer = await transport.exchange("GET", bucket, headers=dict(headers), query=query)
            except StoreRejected as error:
                if only_v1 or continuation is not None or error.status not in _NO_V2:
                    raise
                only_v1 = True
                query = _query(prefix, continuation, start_after, only_v1=only_v1)
                continue
            try:
                page = read_page(answer, what=what, plus_is_space=plus_is_space)
                break
            except StoreUnavailable as error:
                if attempt >= _UNREADABLE_RETRIES:
                    raise
                await transport.pause(error, attempt)
                attempt += 1
        continuation = page.continuation
        if continuation is not None:
            if hash(continuation) in seen:
                raise StoreRejected(_circle(what, continuation))
            seen.add(hash(continuation))
        yield page
        if continuation is None:
            return


def _query(
    prefix: str, continuation: str | None, start_after: str | None, *, only_v1: bool
) -> list[tuple[str, str]]:
    """What to ask for a page; a continuation that is a marker asks as ListObjects V1 does."""
    query = [("encoding-type", "url"), ("max-keys", str(_PAGE_KEYS))]
    by_marker = continuation is not None and continuation.startswith(_MARKER)
    if not (only_v1 or by_marker):
        query.insert(0, ("list-type", "2"))
    if prefix:
        query.append(("prefix", prefix))
    if by_marker and continuation is not None:
        query.append(("marker", continuation.removeprefix(_MARKER)))
    elif continuation is not None:
        query.append(("continuation-token", continuation))
    elif start_after is not None:
        query.append(("marker" if only_v1 else "start-after", start_after))
    return query


def _circle(what: str, continuation: str) -> str:
    """What to say of a listing that comes back to where it was."""
    if continuation.startswith(_MARKER):
        marker = continuation.removeprefix(_MARKER)[:200]
        why = "the store gives no continuation token and does not obey the marker of ListObjects V1"
        return f"{what}: the listing comes back to the marker {marker!r}: {why}; it would never end"
    return f"{what}: the same continuation token twice ({continuation[:200]!r}); the listing would never end"


async def list_uploads(
    transport: Transport,
    bucket: str,
    prefix: str,
    *,
    headers: Mapping[str, str],
) -> AsyncIterator[OpenUpload]:
    """Multipart uploads under a prefix that were begun and neither completed nor aborted.

    There are none where a store refuses because none was ever begun in the bucket (rclone serve s3).

    Raises:
        StoreError: a page could not be had.
    """
    markers: list[tuple[str, str]] = []
    seen: set[tuple[tuple[str, str], ...]] = set()
    while True:
        query = [("uploads", ""), ("encoding-type", "url"), *markers]
        if prefix:
            query.append(("prefix", prefix))
        try:
            answer = await transport.exchange("GET", bucket, headers=dict(headers), query=query)
        except StoreRejected as error:
            if error.code != "NoSuchUpload":
                raise
            return
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
        if tuple(following) in seen:
            raise StoreRejected(f"LIST UPLOADS {bucket}: the same marker twice ({following[0][1][:200]!r})")
        seen.add(tuple(following))
        markers = following
