"""AWS Signature Version 4, for headers and for presigned URLs.

Owns nothing but the arithmetic. Pure: credentials and time are parameters. It is written out here because the
day's signing key is kept between requests and no thread is involved, which makes it several times cheaper
than calling the C signer (`bench/store_put.py` measures both; the unit tests compare every signature with
that signer's).
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from workers.store.wire.addressing import encode_query

if TYPE_CHECKING:
    from collections.abc import Iterable

#: SHA-256 of no bytes at all.
EMPTY_SHA256 = sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"

_ALGORITHM = "AWS4-HMAC-SHA256"

#: Sets of header names whose canonical order is kept.
_MAX_SHAPES = 256

#: SHA-256 over the two paddings of HMAC: a key's are copied for every signature (RFC 2104).
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def sha256_hex(body: bytes) -> str:
    """Lower-case hex of the SHA-256 of some bytes."""
    return sha256(body).hexdigest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair as it is now; `token` is empty for long-lived ones."""

    access_key_id: str
    secret_access_key: str
    token: str = ""


class Signer:
    """Signs requests for one region; keeps the signing key of the day, and the order of header names."""

    __slots__ = (
        "_inner", "_key_of", "_outer", "_scope", "_second", "_shapes", "_stamp", "region", "service",
    )  # fmt: skip

    def __init__(self, region: str, *, service: str = "s3") -> None:
        self.region = region
        self.service = service
        #: Whose key the two hashes begin with: secret and day.
        self._key_of: tuple[str, str] = ("", "")
        self._inner = self._outer = sha256()
        self._scope = ""
        self._second = -1
        self._stamp = ""
        #: Names of a request's headers -> the same in order, and as `SignedHeaders` has them.
        self._shapes: dict[tuple[str, ...], tuple[list[str], str]] = {}

    def _now(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            self._second = second
        return self._stamp

    def _scope_of(self, secret: str, day: str) -> str:
        """The scope of the day; the key that belongs to it is the one that `_signature` uses."""
        if self._key_of != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self.region, self.service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            block = key.ljust(64, b"\0")
            self._inner, self._outer = sha256(block.translate(_INNER)), sha256(block.translate(_OUTER))
            self._scope = f"{day}/{self.region}/{self.service}/aws4_request"
            self._key_of = (secret, day)
        return self._scope

    def _signature(self, scope: str, stamp: str, canonical: str) -> str:
        digest = sha256(canonical.encode()).hexdigest()
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode())
        outer.update(inner.digest())
        return outer.hexdigest()

    def _shape(self, headers: dict[str, str]) -> tuple[list[str], str]:
        given = tuple(headers)
        found = self._shapes.get(given)
        if found is None:
            names = sorted(given)
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            found = self._shapes[given] = (names, ";".join(names))
        return found

    def sign(
        self,
        credentials: Credentials,
        method: str,
        raw_path: str,
        query: str,
        headers: dict[str, str],
        *,
        payload_sha256: str,
        now: float,
    ) -> None:
        """Add `x-amz-date`, `x-amz-content-sha256`, the token and `authorization` to the headers.

        Args:
            credentials: the key pair to sign with.
            method: HTTP method.
            raw_path: path as it is sent, encoded once.
            query: query as it is sent, in canonical order (`encode_query`).
            headers: lower-case names with `host` among them; all of them are signed. Changed in place.
            payload_sha256: lower-case hex of the body's SHA-256, or `UNSIGNED`.
            now: Unix time in seconds.
        """
        stamp = self._stamp if int(now) == self._second else self._now(now)
        headers["x-amz-date"] = stamp
        headers["x-amz-content-sha256"] = payload_sha256
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        names, signed = self._shape(headers)
        lines = "\n".join([f"{name}:{headers[name]}" for name in names])
        if "  " in lines or ": " in lines or " \n" in lines or lines[-1:] == " ":
            lines = "\n".join([f"{name}:{_trim(headers[name])}" for name in names])
        scope = self._scope_of(credentials.secret_access_key, stamp[:8])
        canonical = f"{method}\n{raw_path}\n{query}\n{lines}\n\n{signed}\n{payload_sha256}"
        headers["authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={signed}, "
            f"Signature={self._signature(scope, stamp, canonical)}"
        )

    def presign(
        self,
        credentials: Credentials,
        method: str,
        raw_path: str,
        params: Iterable[tuple[str, str]],
        *,
        host: str,
        expires_s: int,
        now: float,
    ) -> str:
        """The signed query of a URL that anybody may use for `expires_s` seconds; only `host` is signed."""
        stamp = self._now(now)
        scope = self._scope_of(credentials.secret_access_key, stamp[:8])
        pairs = [
            *params,
            ("X-Amz-Algorithm", _ALGORITHM),
            ("X-Amz-Credential", f"{credentials.access_key_id}/{scope}"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(expires_s)),
            ("X-Amz-SignedHeaders", "host"),
        ]
        if credentials.token:
            pairs.append(("X-Amz-Security-Token", credentials.token))
        query = encode_query(pairs)
        canonical = f"{method}\n{raw_path}\n{query}\nhost:{host}\n\nhost\n{UNSIGNED}"
        return f"{query}&X-Amz-Signature={self._signature(scope, stamp, canonical)}"


def _trim(value: str) -> str:
    """SigV4's form of a header value: no space around it, runs of spaces within made one."""
    if "  " in value or value[:1] == " " or value[-1:] == " ":
        return " ".join(part for part in value.split(" ") if part)
    return value
