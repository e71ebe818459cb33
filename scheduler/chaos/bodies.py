"""Behaviours of the body: cut, stalled, mislabelled, endless, and right ones in unusual framing.

Owns nothing but these coroutines; they are found through the catalogue.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import zlib
from typing import TYPE_CHECKING

from scheduler.chaos.behaviour import behaviour, requested_range, serve

if TYPE_CHECKING:
    from scheduler.chaos.exchange import Exchange

#: Longest silence in seconds, so that a forgotten client does not hold a connection for ever.
MAX_STALL_S = 3600.0


def _promise(ex: Exchange, length: int) -> list[tuple[str, str]]:
    return [*ex.item.headers, ("Accept-Ranges", "bytes"), ("Content-Length", str(length))]


def _chunked(ex: Exchange) -> list[tuple[str, str]]:
    return [*ex.item.headers, ("Transfer-Encoding", "chunked")]


async def _labelled(ex: Exchange, body: bytes, *extra: tuple[str, str]) -> None:
    """All of a body, with its length."""
    await ex.head(200, [*_promise(ex, len(body)), *extra])
    await ex.raw(body)


async def _begin(ex: Exchange) -> None:
    """The promise of the whole body, and its first `at` bytes."""
    body = ex.item.body
    await ex.head(200, _promise(ex, len(body)))
    await ex.raw(body[: ex.number("at", len(body) // 2)])


async def _in_chunks(ex: Exchange) -> None:
    """The whole body in chunks of `chunk` bytes, without the last one."""
    await ex.head(200, _chunked(ex))
    body, step = ex.item.body, max(1, ex.number("chunk", 4096))
    for start in range(0, len(body), step):
        await ex.chunk(body[start : start + step])


async def _until_closed(ex: Exchange, body: bytes) -> None:
    """A body that nothing but the end of the connection ends."""
    await ex.head(200, [*ex.item.headers, ("Connection", "close")], version=ex.text("version", "1.1"))
    await ex.raw(body)
    ex.hang_up()


async def _resumed(ex: Exchange) -> bool:
    """Serve a continuing range as `resume` says; False leaves the request to the behaviour."""
    wanted, mode = requested_range(ex), ex.text("resume", "yes")
    if wanted is None or wanted[0] == 0 or mode == "no":
        return False
    body, size = ex.item.body, len(ex.item.body)
    if mode == "changed":
        await ex.head(200, [("ETag", '"another"'), ("Content-Length", str(size))])
        await ex.raw(bytes(size))
    elif mode == "total":
        first, last = wanted
        await ex.head(
            206,
            [
                *ex.item.headers,
                ("Content-Range", f"bytes {first}-{last}/{size + 1}"),
                ("Content-Length", str(last + 1 - first)),
            ],
        )
        await ex.raw(body[first : last + 1])
    elif mode == "shifted":
        first, last = wanted
        await ex.head(
            206,
            [
                *ex.item.headers,
                ("Content-Range", f"bytes {first - 1}-{last - 1}/{size}"),
                ("Content-Length", str(last + 1 - first)),
            ],
        )
        await ex.raw(body[first - 1 : last])
    else:
        await serve(ex)
    return True


@behaviour(
    "truncate",
    "Promises the whole length, sends `at` bytes, closes; a continuing range is served as `resume` says.",
    at="bytes sent before the end (half)",
    size="bytes of the object (16384)",
    resume="yes | no (cut again) | changed (200, other object) | total (other total) | shifted (wrong range)",
)
async def truncate(ex: Exchange) -> None:
    """See the summary."""
    if await _resumed(ex):
        return
    await _begin(ex)
    ex.hang_up()


@behaviour(
    "trickle_cuts",
    "Every answer, ranges included, is cut after `step` bytes: only a client that resumes gets all of it.",
    step="bytes a connection gives (4096)",
    size="bytes of the object (16384)",
)
async def trickle_cuts(ex: Exchange) -> None:
    """See the summary."""
    body, size = ex.item.body, len(ex.item.body)
    first, last = requested_range(ex) or (0, size - 1)
    headers = _promise(ex, last + 1 - first)
    if ex.request.header("range"):
        headers.append(("Content-Range", f"bytes {first}-{last}/{size}"))
    await ex.head(206 if ex.request.header("range") else 200, headers)
    await ex.raw(body[first : min(last + 1, first + ex.number("step", 4096))])
    ex.hang_up()


@behaviour(
    "reset",
    "Sends `at` bytes of the body, then resets the connection; `at=-1` resets before the head.",
    at="bytes sent before the reset (half)",
    size="bytes of the object (16384)",
    resume="as truncate",
)
async def reset(ex: Exchange) -> None:
    """See the summary."""
    if await _resumed(ex):
        return
    if ex.number("at", 0) >= 0:
        await _begin(ex)
        await asyncio.sleep(ex.seconds("after", 0.02))  # lets the bytes leave before the reset discards them
    ex.reset()


@behaviour(
    "stall",
    "Sends `at` bytes of the body, then says nothing more and keeps the connection open.",
    at="bytes sent before the silence (half)",
    seconds="length of the silence (3600)",
    size="bytes of the object (16384)",
    resume="as truncate",
)
async def stall(ex: Exchange) -> None:
    """See the summary."""
    if await _resumed(ex):
        return
    await _begin(ex)
    await asyncio.sleep(ex.seconds("seconds", MAX_STALL_S))
    ex.hang_up()


@behaviour(
    "slow_body",
    "Sends the whole body in steps of `step` bytes with `interval` seconds between them.",
    step="bytes a step (1)",
    interval="seconds between steps (1)",
    size="bytes of the object (16384)",
)
async def slow_body(ex: Exchange) -> None:
    """See the summary."""
    body, step = ex.item.body, max(1, ex.number("step", 1))
    await ex.head(200, _promise(ex, len(body)))
    for start in range(0, len(body), step):
        await ex.raw(body[start : start + step])
        await asyncio.sleep(ex.seconds("interval", 1.0))


@behaviour(
    "wrong_length",
    "Content-Length differs from the body by `by` bytes; the connection is closed after the body.",
    by="bytes that the promise is larger (10) or smaller (-10) than the truth",
    size="bytes of the object (16384)",
)
async def wrong_length(ex: Exchange) -> None:
    """See the summary."""
    body = ex.item.body
    await ex.head(200, _promise(ex, max(0, len(body) + ex.number("by", 10))))
    await ex.raw(body)
    ex.hang_up()


@behaviour("chunked", "Whole body, properly chunked, no length.", chunk="bytes a chunk (4096)", size="bytes")
async def chunked(ex: Exchange) -> None:
    """See the summary."""
    await _in_chunks(ex)
    if ex.request.method != "HEAD":
        await ex.raw(b"0\r\n\r\n", counted=False)


@behaviour(
    "no_last_chunk", "Whole body in chunks, then closes without the last chunk.", chunk="bytes a chunk (4096)"
)
async def no_last_chunk(ex: Exchange) -> None:
    """See the summary."""
    await _in_chunks(ex)
    ex.hang_up()


@behaviour(
    "half_chunk",
    "Announces a chunk, sends half of it and closes.",
    size="bytes of the object (16384)",
)
async def half_chunk(ex: Exchange) -> None:
    """See the summary."""
    body = ex.item.body
    await ex.head(200, _chunked(ex))
    await ex.raw(b"%x\r\n" % len(body), counted=False)
    await ex.raw(body[: len(body) // 2])
    ex.hang_up()


@behaviour(
    "bad_chunk", "One good chunk, then a chunk size that is no number.", size="bytes of a generated object"
)
async def bad_chunk(ex: Exchange) -> None:
    """See the summary."""
    await ex.head(200, _chunked(ex))
    await ex.chunk(ex.item.body[: max(1, len(ex.item.body) // 2)])
    await ex.raw(b"zz\r\nnot a chunk\r\n", counted=False)
    ex.hang_up()


@behaviour(
    "close", "Whole body without length or chunks, ended by closing.", size="bytes of a generated object"
)
async def close(ex: Exchange) -> None:
    """See the summary."""
    await _until_closed(ex, ex.item.body)


@behaviour(
    "close_cut",
    "As close, but half of the body: nobody can tell.",
    size="bytes of the object (16384)",
)
async def close_cut(ex: Exchange) -> None:
    """See the summary."""
    await _until_closed(ex, ex.item.body[: len(ex.item.body) // 2])


@behaviour(
    "endless",
    "A chunked body that never ends; after `limit` bytes it is closed without a last chunk.",
    limit="bytes (1 GiB)",
    chunk="bytes a chunk (65536)",
    interval="seconds between chunks (0)",
)
async def endless(ex: Exchange) -> None:
    """See the summary."""
    await ex.head(200, _chunked(ex))
    piece = bytes(max(1, ex.number("chunk", 65536)))
    while ex.sent_bytes < ex.number("limit", 1024**3):
        await ex.chunk(piece)
        if ex.seconds("interval", 0.0):
            await asyncio.sleep(ex.seconds("interval", 0.0))
    ex.hang_up()


@behaviour(
    "gzip_unasked", "Body gzipped and labelled so, though nobody asked.", size="bytes before compression"
)
async def gzip_unasked(ex: Exchange) -> None:
    """See the summary."""
    body = gzip.compress(ex.item.body, mtime=0)
    await _labelled(ex, body, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))


@behaviour(
    "gzip_mislabelled",
    "Body is not compressed but labelled as `encoding`.",
    encoding="value of Content-Encoding (gzip)",
)
async def gzip_mislabelled(ex: Exchange) -> None:
    """See the summary."""
    await _labelled(ex, ex.item.body, ("Content-Encoding", ex.text("encoding", "gzip")))


@behaviour("gzip_unlabelled", "Body is gzipped but nothing says so.", size="bytes before compression")
async def gzip_unlabelled(ex: Exchange) -> None:
    """See the summary."""
    await _labelled(ex, gzip.compress(ex.item.body, mtime=0))


@behaviour(
    "wrong_digest",
    "Offers a digest of other bytes.",
    kind="content-md5 (default), digest, repr-digest, x-goog-hash, x-amz-checksum-sha256, etag",
)
async def wrong_digest(ex: Exchange) -> None:
    """See the summary."""
    await _with_digest(ex, ex.item.body + b"?")


@behaviour("right_digest", "Offers a digest of the body.", kind="as wrong_digest")
async def right_digest(ex: Exchange) -> None:
    """See the summary."""
    await _with_digest(ex, ex.item.body)


async def _with_digest(ex: Exchange, body: bytes) -> None:
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    sha256 = base64.b64encode(hashlib.sha256(body).digest()).decode()
    name, value = {
        "digest": ("Digest", f"SHA-256={sha256},MD5={md5}"),
        "repr-digest": ("Repr-Digest", f"sha-256=:{sha256}:"),
        "x-goog-hash": ("x-goog-hash", f"md5={md5}"),
        "x-amz-checksum-sha256": ("x-amz-checksum-sha256", sha256),
        "x-amz-checksum-crc32": (
            "x-amz-checksum-crc32",
            base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
        ),
        "etag": ("ETag", f'"{hashlib.md5(body).hexdigest()}"'),
    }.get(ex.text("kind"), ("Content-MD5", md5))
    headers = [(key, old) for key, old in ex.item.headers if key.lower() != name.lower()]
    await ex.head(200, [*headers, (name, value), ("Content-Length", str(len(ex.item.body)))])
    if ex.request.method != "HEAD":
        await ex.raw(ex.item.body)
