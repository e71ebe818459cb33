"""Checksums that a store compares with the bytes it gets.

Owns their wire form. Pure, apart from moving long computations off the event loop.
"""

from __future__ import annotations

import asyncio
import base64
import mmap
from dataclasses import dataclass
from hashlib import md5, sha256
from typing import TYPE_CHECKING, BinaryIO, Final

from fastcrc import crc32

from workers.store.wire.signing import UNSIGNED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Above this many bytes a digest is computed in a thread (hashlib lets go of the interpreter's lock).
_THREAD_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Checked:
    """What goes with a body so that the store can check it."""

    #: Base64 of the big-endian value; empty when not sent.
    crc32c: str = ""
    #: Base64 and hex of the MD5; empty when not sent.
    content_md5: str = ""
    md5_hex: str = ""
    #: What the signature says about the body.
    payload_sha256: str = UNSIGNED


def crc32c_base64(chunks: Iterable[bytes | memoryview]) -> str:
    """CRC32C of chunks in order, as `x-amz-checksum-crc32c` carries it."""
    value = 0
    for chunk in chunks:
        value = crc32.iscsi(chunk, value)
    return base64.b64encode(value.to_bytes(4, "big")).decode()


async def checked_file(
    file: BinaryIO, n_bytes: int, honoured: tuple[str, ...], *, known_sha256: str = ""
) -> Checked:
    """`checked` for the first `n_bytes` of a file, over a memory map of it."""
    if n_bytes == 0:
        return await checked([], 0, honoured, known_sha256=known_sha256)
    # Closed by its last user: a thread may still read it after the wait for that thread was cancelled.
    mapped = mmap.mmap(file.fileno(), n_bytes, access=mmap.ACCESS_READ)
    return await checked([memoryview(mapped)], n_bytes, honoured, known_sha256=known_sha256)


def _digest(name: str, chunks: Sequence[bytes | memoryview]) -> bytes:
    digest = md5() if name == "md5" else sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


async def _in_thread(name: str, chunks: Sequence[bytes | memoryview], n_bytes: int) -> bytes:
    if n_bytes <= _THREAD_BYTES:
        return _digest(name, chunks)
    return await asyncio.to_thread(_digest, name, chunks)


async def checked(
    chunks: Sequence[bytes | memoryview],
    n_bytes: int,
    honoured: tuple[str, ...],
    *,
    known_sha256: str = "",
) -> Checked:
    """The cheapest checksum that this store honours, for these chunks.

    Args:
        chunks: the body.
        n_bytes: its length.
        honoured: kinds that the store compares, from its guarantees.
        known_sha256: hex of the body's SHA-256 when it was computed anyway; it is then signed as well.
    """
    payload = known_sha256 or UNSIGNED
    if "crc32c" in honoured:
        return Checked(crc32c=crc32c_base64(chunks), payload_sha256=payload)
    if "sha256" in honoured:
        if not known_sha256:
            payload = (await _in_thread("sha256", chunks, n_bytes)).hex()
        return Checked(payload_sha256=payload)
    digest = await _in_thread("md5", chunks, n_bytes)
    return Checked(
        content_md5=base64.b64encode(digest).decode(),
        md5_hex=digest.hex(),
        payload_sha256=payload,
    )
