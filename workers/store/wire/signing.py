"""AWS Signature Version 4, for headers and for presigned URLs.

Owns nothing but the arithmetic. Pure: credentials and time are parameters. It is written out here because the
day's signing key is kept between requests and no thread is involved, which makes it several times cheaper
than calling the C signer (`bench/store_put.py` measures both; the unit tests compare every signature with
that signer's).
"""

from __future__ import annotations

import hmac
import re
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

#: What `_trim` would change in some header of a canonical request; a look at all of them costs less.
_UNTRIMMED = re.compile(r"  |: | $| \n")


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
    """Signs requests for one region; keeps the signing key of the day."""

    __slots__ = ("_day_key", "_day_scope", "_second", "_stamp", "region", "service")

    def __init__(self, region: str, *, service: str = "s3") -> None:
        self.region = region
        self.service = service
        self._day_key = b""
        self._day_scope: tuple[str, str] = ("", "")
        self._second = -1
        self._stamp = ""

    def _now(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            self._second = second
        return self._stamp

    def _key(self, secret: str, day: str) -> bytes:
        if self._day_scope != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self.region, self.service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._day_key = key
            self._day_scope = (secret, day)
        return self._day_key

    def _signature(self, credentials: Credentials, stamp: str, canonical: str) -> str:
        day = stamp[:8]
        digest = sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{stamp}\n{day}/{self.region}/{self.service}/aws4_request\n{digest}"
        return hmac.digest(self._key(credentials.secret_access_key, day), text.encode(), "sha256").hex()

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
        stamp = self._now(now)
        headers["x-amz-date"] = stamp
        headers["x-amz-content-sha256"] = payload_sha256
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        names = sorted(headers)
        signed = ";".join(names)
        lines = "\n".join([f"{name}:{headers[name]}" for name in names])
        if _UNTRIMMED.search(lines):
            lines = "\n".join([f"{name}:{_trim(headers[name])}" for name in names])
        canonical = f"{method}\n{raw_path}\n{query}\n{lines}\n\n{signed}\n{payload_sha256}"
        signature = self._signature(credentials, stamp, canonical)
        headers["authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key_id}/{stamp[:8]}/{self.region}/{self.service}"
            f"/aws4_request, SignedHeaders={signed}, Signature={signature}"
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
        scope = f"{stamp[:8]}/{self.region}/{self.service}/aws4_request"
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
        return f"{query}&X-Amz-Signature={self._signature(credentials, stamp, canonical)}"


def _trim(value: str) -> str:
    """SigV4's form of a header value: no space around it, runs of spaces within made one."""
    if "  " in value or value[:1] == " " or value[-1:] == " ":
        return " ".join(part for part in value.split(" ") if part)
    return value
