"""Is the body what its signature and headers promise? Pure; fed while the bytes stream.

Owns the checks of a body: length, SHA-256 of the signature, Content-MD5, `x-amz-checksum-*` in a header or a
trailer. How chunk-signed bodies are taken apart is `chunked`'s. Whoever forwards keeps the last bytes back
until `finish` has passed, so that the store never commits a body that is wrong.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from scheduler.front.http.s3_error import S3Error
from workers.errors import FerrymanError
from workers.origin.integrity import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNSIGNED: Final = "UNSIGNED-PAYLOAD"
#: Algorithms of `x-amz-checksum-*` that are checked here; others are left to the store.
ALGORITHMS: Final = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
CHECKSUM: Final = "x-amz-checksum-"


class BodyRefused(FerrymanError):
    """The body is not what was promised; `error` is the answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.error = S3Error(status=status, code=code, message=message)


class _Running(Protocol):
    def update(self, data: bytes, /) -> object: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """One promised digest, in lower-case hex, and what is said when it is another."""

    running: _Running
    promised: str
    code: str
    what: str


class Promises:
    """What was promised of a body, compared with the bytes as they come.

    Args:
        headers: of the request, by lower-case name.
        payload: what the signature says of the body: a SHA-256 in hex, or `UNSIGNED-PAYLOAD`.
        length: bytes of the object, without any framing; None where nobody told them.
        digests: whether checksum headers speak of this body (in CompleteMultipartUpload of the object).

    Raises:
        BodyRefused: 400 InvalidDigest, InvalidRequest: a promise that cannot be read.
    """

    def __init__(
        self, headers: Mapping[str, str], *, payload: str, length: int | None, digests: bool = True
    ) -> None:
        self._left = length
        self._length = length
        self._checks: list[_Check] = []
        if payload not in {"", UNSIGNED} and not payload.startswith("STREAMING-"):
            self._add("sha256", payload.lower(), "XAmzContentSHA256Mismatch", "x-amz-content-sha256")
        md5 = headers.get("content-md5")
        if md5 is not None:
            self._add("md5", _hex(md5, 16, "Content-MD5", "InvalidDigest"), "BadDigest", "Content-MD5")
        for algorithm in ALGORITHMS if digests else ():
            name = CHECKSUM + algorithm
            if name in headers:
                value = _hex(headers[name], digest.SIZES[algorithm], name, "InvalidRequest")
                self._add(algorithm, value, "BadDigest", name)
        #: The checksum that a trailer will name, once it was announced.
        self._announced: tuple[str, _Running] | None = None

    def _add(self, algorithm: str, promised: str, code: str, what: str) -> None:
        running = digest.start(algorithm)
        self._checks.append(_Check(running=running, promised=promised, code=code, what=what))

    def announce(self, names: Iterable[str]) -> None:
        """Trailers that `x-amz-trailer` names: the first checksum among them is computed."""
        for name in names:
            algorithm = name.removeprefix(CHECKSUM)
            if name.startswith(CHECKSUM) and algorithm in ALGORITHMS and self._announced is None:
                self._announced = (name, digest.start(algorithm))

    def feed(self, data: bytes) -> None:
        """More bytes of the object."""
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise incomplete(f"The body is longer than the {self._length} bytes that were promised.")
        for check in self._checks:
            check.running.update(data)
        if self._announced is not None:
            self._announced[1].update(data)

    def finish(self, trailers: Mapping[str, str] | None = None) -> None:
        """The body has ended.

        Raises:
            BodyRefused: 400 IncompleteBody, XAmzContentSHA256Mismatch, BadDigest, MalformedTrailerError.
        """
        if self._left:
            raise incomplete(f"The body is {self._left} bytes shorter than the {self._length} promised.")
        for check in self._checks:
            if not hmac.compare_digest(
                check.running.hexdigest().encode(), check.promised.encode("latin-1", "replace")
            ):
                raise BodyRefused(400, check.code, f"{check.what} is not that of the body.")
        if self._announced is None:
            return
        name, running = self._announced
        value = (trailers or {}).get(name)
        if value is None:
            raise BodyRefused(400, "MalformedTrailerError", f"The trailer {name} was announced and not sent.")
        if (
            _hex(value, digest.SIZES[name.removeprefix(CHECKSUM)], name, "InvalidRequest")
            != running.hexdigest()
        ):
            raise BodyRefused(400, "BadDigest", f"The trailer {name} is not that of the body.")


def incomplete(message: str) -> BodyRefused:
    """400 IncompleteBody."""
    return BodyRefused(400, "IncompleteBody", message)


def _hex(text: str, size: int, name: str, code: str) -> str:
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != size:
        raise BodyRefused(400, code, f"{name} is not the Base64 of {size} bytes.")
    return raw.hex()
