"""Digests that an origin offers for a body, and checking a stream of bytes against all of them.

Pure. Owns reading Content-MD5, Digest, Content-Digest, Repr-Digest, x-goog-hash, x-amz-checksum-*,
x-oss-hash-crc64ecma, x-cos-hash-crc64ecma and, where the rule trusts it (F54), an MD5-shaped ETag. A header
that makes no sense, or that speaks of other bytes than those on the wire (composite checksums, decompressed
answers, encrypted objects), offers nothing. A digest of a part (206) is never used.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from workers.errors import DigestMismatch, ListingMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workers.answers import Headers

#: Algorithm to digest size in bytes.
SIZES = {
    "md5": 16,
    "sha1": 20,
    "sha256": 32,
    "sha384": 48,
    "sha512": 64,
    "crc32": 4,
    "crc32c": 4,
    "crc64nvme": 8,
    "crc64ecma": 8,
}

_NAMES = {
    "md5": "md5",
    "sha": "sha1",
    "sha-1": "sha1",
    "sha1": "sha1",
    "sha-256": "sha256",
    "sha256": "sha256",
    "sha-384": "sha384",
    "sha-512": "sha512",
    "sha512": "sha512",
    "crc32": "crc32",
    "crc32c": "crc32c",
    "crc64nvme": "crc64nvme",
    "crc64ecma": "crc64ecma",
}

_MD5_ETAG = re.compile(r'"?([0-9a-fA-F]{32})"?\Z')
_HEADERS = frozenset(
    {
        "content-md5",
        "digest",
        "content-digest",
        "repr-digest",
        "x-goog-hash",
        "x-oss-hash-crc64ecma",
        "x-cos-hash-crc64ecma",
        *(f"x-amz-checksum-{name}" for name in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256", "sha512")),
    }
)
#: Names as origins spell them, met before, that offer nothing; so many at most.
_DULL: set[str] = set()
_MOST_DULL = 1000


@dataclass(frozen=True, slots=True)
class Offered:
    """One digest: who offers it, the algorithm, and the value as lower-case hex."""

    source: str
    algorithm: str
    hex: str


class _Running(Protocol):
    def update(self, data: bytes, /) -> object: ...
    def hexdigest(self) -> str: ...


class _Crc:
    """A CRC with the face of a hash."""

    __slots__ = ("_function", "_size", "_value")

    def __init__(self, function: Callable[[bytes, int], int], size: int) -> None:
        self._function, self._size, self._value = function, size, 0

    def update(self, data: bytes) -> None:
        self._value = self._function(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:0{self._size * 2}x}"


def start(algorithm: str) -> _Running:
    """A running digest of one of `SIZES`."""
    # Imported where they are used: most answers offer no CRC.
    if algorithm == "crc64ecma":
        from fastcrc import crc64

        return _Crc(crc64.xz, SIZES[algorithm])
    if algorithm.startswith("crc"):
        from awscrt import checksums

        return _Crc(getattr(checksums, algorithm), SIZES[algorithm])
    return hashlib.new(algorithm, usedforsecurity=False)


def offered(headers: Headers, *, trust_etag: bool = False) -> tuple[Offered, ...]:
    """Every digest of the whole body that a 200 answer offers."""
    named: list[tuple[str, str]] = []
    etag = None
    for name, value in headers:
        if name in _DULL:
            continue
        lower = name.lower()
        if lower in _HEADERS:
            named.append((lower, value))
        elif lower == "etag":
            etag = value
        elif len(_DULL) < _MOST_DULL:
            _DULL.add(name)
    found: list[Offered] = []
    if named:
        said = {name.lower(): value for name, value in headers}
        for name, value in named:
            found.extend(_read(name, value, said))
    if trust_etag and etag is not None:
        found.extend(_from_etag(etag, headers))
    return tuple(dict.fromkeys(found))


def from_listing(digest: str | None) -> tuple[Offered, ...]:
    """What a listing promised as `algorithm:hex`; nothing where it is absent or unknown."""
    if not digest:
        return ()
    algorithm, _, value = digest.partition(":")
    known = _NAMES.get(algorithm.lower())
    if known is None or not _is_hex(value, SIZES[known]):
        return ()
    return (Offered("listing", known, value.lower()),)


class Verifier:
    """Digests of a body as it passes, one for each algorithm that is expected."""

    __slots__ = ("_expected", "_origin", "_running")

    def __init__(self, expected: Iterable[Offered], *, origin: str = "") -> None:
        self._expected = tuple(expected)
        self._origin = origin
        self._running = {one.algorithm: start(one.algorithm) for one in self._expected}

    def __bool__(self) -> bool:
        return bool(self._expected)

    def update(self, data: bytes) -> None:
        for running in self._running.values():
            running.update(data)

    def finish(self) -> None:
        """Compare.

        Raises:
            DigestMismatch: the body differs from what the origin offered.
            ListingMismatch: it agrees with the origin, but not with the listing.
        """
        actual = {algorithm: running.hexdigest() for algorithm, running in self._running.items()}
        wrong = [one for one in self._expected if actual[one.algorithm] != one.hex]
        if not wrong:
            return
        worst = next((one for one in wrong if one.source != "listing"), wrong[0])
        kind = ListingMismatch if worst.source == "listing" else DigestMismatch
        raise kind(
            f"{self._origin}: {worst.source} says {worst.algorithm} {worst.hex}, "
            f"the bytes have {actual[worst.algorithm]}",
            origin=self._origin,
            algorithm=worst.algorithm,
            expected=worst.hex,
            actual=actual[worst.algorithm],
        )


def _read(name: str, value: str, said: dict[str, str]) -> list[Offered]:
    if name == "content-md5":
        return _offers(name, [("md5", value)])
    if name == "x-goog-hash":
        return [] if _decompressed_by_store(said) else _offers(name, _pairs(value))
    if name == "digest":
        return _offers(name, _pairs(value))
    if name in {"repr-digest", "content-digest"}:
        return _offers(
            name,
            [
                (key, text[1:-1])
                for key, text in _pairs(value)
                if text[:1] == text[-1:] == ":" and len(text) > 1
            ],
        )
    if name.endswith("-hash-crc64ecma"):
        text = value.strip()
        if not (text.isascii() and text.isdigit() and len(text) <= 20) or int(text) >= 1 << 64:
            return []
        return [Offered(name, "crc64ecma", f"{int(text):016x}")]
    if said.get("x-amz-checksum-type", "FULL_OBJECT").upper() != "FULL_OBJECT":
        return []
    return _offers(name, [(name.removeprefix("x-amz-checksum-"), value)])


def _pairs(value: str) -> list[tuple[str, str]]:
    parts = (part.strip().partition("=") for part in value.split(","))
    return [(key.strip().lower(), text.partition(";")[0].strip()) for key, equals, text in parts if equals]


def _offers(source: str, pairs: Iterable[tuple[str, str]]) -> list[Offered]:
    found = []
    for key, text in pairs:
        algorithm = _NAMES.get(key)
        value = _to_hex(text, SIZES[algorithm]) if algorithm else None
        if algorithm and value:
            found.append(Offered(source, algorithm, value))
    return found


def _to_hex(text: str, size: int) -> str | None:
    """Base64 of `size` bytes, or the same as hex (some servers confuse them)."""
    text = text.strip()
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) == size:
        return raw.hex()
    return text.lower() if _is_hex(text, size) else None


def _is_hex(text: str, size: int) -> bool:
    return len(text) == size * 2 and all(char in "0123456789abcdefABCDEF" for char in text)


def _decompressed_by_store(said: dict[str, str]) -> bool:
    """Whether the hash is of the stored, compressed form and the answer was decompressed on the way."""
    stored = said.get("x-goog-stored-content-encoding", "identity").lower()
    return stored not in {"identity", "", said.get("content-encoding", "identity").lower()}


def _from_etag(etag: str, headers: Headers) -> list[Offered]:
    found = _MD5_ETAG.fullmatch(etag.strip())
    if found is None:
        return []
    for name, value in headers:
        lower = name.lower()
        if lower.startswith("x-amz-server-side-encryption") and value != "AES256":
            return []
    return [Offered("etag", "md5", found[1].lower())]
