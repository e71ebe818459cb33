"""One key: what the store has of it now, brought to its origin.

Owns the decision what is to be done, and the order: the store is read after the key was taken, and never
written. An object that the store lacks is deleted at the origin only if a delete is known to have come about:
a key that the store never had must not lose its only copy. Directly before the origin is changed whoever has
the key is asked whether he still may: he may have stood still since the store was read. Knows no queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal

from workers.errors import KeyNotRepresentable, StoreUnavailable
from workers.store.metadata import KEY_SHA256, SOURCE_ETAG, content_encoding, decode_value
from workers.store.model import StoreAnswer
from workers.store.wire.answers import META_PREFIX, parse, unquote_etag

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from workers.back.writer import OriginWriter, Tags
    from workers.back_routes import BackRoute
    from workers.ledger.back import Taken
    from workers.store.client import ObjectStore
    from workers.store.model import ObjectInfo
    from workers.store.wire.response import StoreResponse

#: What begins the names of metadata that Ferryman keeps for itself; it stays here.
_OWN: Final = "ferryman-"
_MAX_PARTS: Final = 10_000
_MIN_PART_BYTES: Final = 5 * 1024 * 1024
#: Segments that are no part of a key but of a path.
_DOTS: Final = frozenset({".", ".."})


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What was done at the origin."""

    kind: Literal["copied", "tagged", "deleted", "unchanged"]
    bytes: int = 0


async def bring(
    taken: Taken,
    route: BackRoute,
    *,
    store: ObjectStore,
    writer: OriginWriter,
    deleted: Callable[[], Awaitable[bool]],
    may_change: Callable[[], None],
) -> Brought:
    """Make the origin equal to the store for one key.

    `deleted` is asked where the store has nothing: whether a delete is known to have come about. `may_change`
    is called before each change of the origin, and raises where somebody else may have the key by now.

    Raises:
        TransferError: it is not known to be equal.
    """
    key = taken.key
    if not _DOTS.isdisjoint(route.path(key).split("/")):
        raise KeyNotRepresentable(f"{taken.bucket}/{key!r}: a path with a dot segment cannot be asked for")
    async with await store.get(taken.bucket, key) as found:
        if found.status == 404:
            if not (taken.was_deleted or await deleted()):
                return Brought(kind="unchanged")
            may_change()
            await writer.delete(route, key)
            return Brought(kind="deleted")
        info = found.info
        if info is None:
            raise StoreUnavailable(f"GET {taken.bucket}/{key}: {found.status}", status=found.status)
        pulled = info.user_meta.get(KEY_SHA256) == sha256(key.encode()).hexdigest()
        if pulled and not taken.was_written:
            return Brought(kind="unchanged")
        tags = await _tags(store, taken.bucket, key, found)
        if not taken.was_written and await _is_there(route, key, info, tags, writer):
            return Brought(kind="unchanged")
        if pulled and await _is_the_source(route, key, info, writer):
            may_change()
            await writer.tag(route, key, tags)
            return Brought(kind="tagged")
        headers = carried(info)
        part = _part_bytes(info.size, store)
        if info.size <= part:
            async with await store.memory.reserve(max(1, info.size), ahead=True):
                body = await found.read()
                _check(len(body), info, taken)
                may_change()
                await writer.put(route, key, body, headers, tags)
        else:
            async with await store.memory.reserve(part, ahead=True):
                parts = _parts(found, part, info, taken, may_change)
                await writer.put_parts(route, key, parts, headers, tags)
        return Brought(kind="copied", bytes=info.size)


def carried(info: ObjectInfo) -> dict[str, str]:
    """The headers that an object is written with at its origin: the system's, and the user's metadata."""
    headers = {name.lower(): value for name, value in info.headers}
    if "content-encoding" in headers:
        headers["content-encoding"] = content_encoding(headers["content-encoding"])
        if not headers["content-encoding"]:
            del headers["content-encoding"]
    for name, value in info.user_meta.items():
        if not name.startswith(_OWN):
            headers[f"{META_PREFIX}{name}"] = value
    return headers


async def _is_the_source(route: BackRoute, key: str, info: ObjectInfo, writer: OriginWriter) -> bool:
    """Whether the origin still has the object that was pulled from it: then only tags can differ."""
    source = info.user_meta.get(SOURCE_ETAG)
    if source is None:
        return False
    theirs = await writer.head(route, key)
    return theirs is not None and theirs.etag == unquote_etag(decode_value(source))


async def _is_there(route: BackRoute, key: str, info: ObjectInfo, tags: Tags, writer: OriginWriter) -> bool:
    """Whether the origin has this very object: an event tells of writes through the gateway, too."""
    theirs = await writer.head(route, key)
    return (
        theirs is not None
        and not tags
        and (theirs.size, theirs.etag) == (info.size, info.etag)
        and carried(theirs) == carried(info)
    )


async def _tags(store: ObjectStore, bucket: str, key: str, found: StoreResponse) -> Tags:
    count = next((value for name, value in found.headers if name.lower() == "x-amz-tagging-count"), "0")
    if not count.isdecimal() or int(count) == 0:
        return ()
    return await read_tags(store, bucket, key)


async def read_tags(store: ObjectStore, bucket: str, key: str) -> Tags:
    """The tags of an object of the store, by name; none where it is gone."""
    answer = await store.transport.exchange(
        "GET",
        bucket,
        key,
        headers=store.common_headers,
        query=[("tagging", "")],
        accept=frozenset({404}),
    )
    return () if answer.status == 404 else tags_of(answer.body, what=f"TAGS {bucket}/{key}")


def tags_of(document: bytes, *, what: str) -> Tags:
    """The pairs of a `Tagging` document, by name.

    Raises:
        StoreUnavailable: it cannot be read.
    """
    root = parse(StoreAnswer(status=200, headers={}, body=document), what=what)
    pairs = [(tag.findtext("{*}Key") or "", tag.findtext("{*}Value") or "") for tag in root.iter("{*}Tag")]
    return tuple(sorted(pairs))


def _part_bytes(size: int, store: ObjectStore) -> int:
    """Bytes of a part: what the process's memory allows, more where there would be too many parts."""
    part = min(store.settings.part_size_bytes, max(_MIN_PART_BYTES, store.limits.memory_bytes // 8))
    return max(part, -(-size // _MAX_PARTS))


async def _parts(
    found: StoreResponse, part: int, info: ObjectInfo, taken: Taken, may_change: Callable[[], None]
) -> AsyncIterator[bytes]:
    held = bytearray()
    got = 0
    async for chunk in found.chunks():
        got += len(chunk)
        held += chunk
        while len(held) >= part:
            yield bytes(held[:part])
            del held[:part]
    _check(got, info, taken)
    if held:
        yield bytes(held)
    may_change()  # after the last part the upload is completed


def _check(got: int, info: ObjectInfo, taken: Taken) -> None:
    if got != info.size:
        raise StoreUnavailable(f"GET {taken.bucket}/{taken.key}: {got} bytes instead of {info.size}")
