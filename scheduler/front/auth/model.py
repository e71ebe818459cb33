"""What every verifier takes and gives: the request as signed, the keys, who it was, and the refusals.

Owns the records and the codes of SEMANTICS.md W13. Knows no scheme, no framework and no settings. Secrets are
kept out of every `repr`.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from workers.errors import FerrymanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: How far a client's clock may be off, in seconds.
MAX_SKEW_S = 15 * 60
_MAX_LISTED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """A request exactly as it came over the wire: nothing decoded, nothing normalised.

    Header names are lower case, values are the wire's bytes as Latin-1 text, without outer white space.
    """

    method: str
    #: Path as sent, percent-encoded, without the query.
    raw_path: bytes
    #: Query as sent, without `?`.
    query: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    #: The bucket that the address names (`bucket_address`).
    bucket: str = ""
    #: `raw_path` behind the bucket segment, with its leading `/`; the same as `raw_path` when Host named the
    #: bucket.
    object_path: bytes = b"/"
    #: The whole body; None when it has not been read, then a signed payload hash cannot be compared.
    body: bytes | None = None

    def header(self, name: str) -> str:
        """All values of one header joined by `,`; empty when absent."""
        found = [value for given, value in self.headers if given == name]
        return found[0] if len(found) == 1 else ",".join(found)

    def resource(self) -> bytes:
        """`/bucket/key` decoded, the way the OSS schemes name what is asked for."""
        return b"/" + self.bucket.encode() + unquote_to_bytes(self.object_path or b"/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The configured key pairs (id to secret) and bearer tokens. False when there are none."""

    pairs: Mapping[str, str] = field(default_factory=dict, repr=False)
    tokens: tuple[str, ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.pairs or self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who signed: the access key id (or `token`), and by which scheme."""

    key_id: str
    scheme: str


class AuthError(FerrymanError):
    """The request is not authenticated: HTTP `status`, S3 error `code`, and a `message` for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def listed_names(text: str) -> list[str]:
    """`a;b;c` as names. Each is looked up in the request, so a list has a bound.

    Raises:
        AuthError: 400 InvalidArgument for more than 100.
    """
    names = [name for name in text.split(";") if name]
    if len(names) > _MAX_LISTED:
        raise AuthError(
            400, "InvalidArgument", f"At most {_MAX_LISTED} names can be signed, not {len(names)}."
        )
    return names


def secret_of(keys: Keyring, key_id: str) -> str:
    """The secret of an access key id.

    Raises:
        AuthError: 403 InvalidAccessKeyId.
    """
    secret = keys.pairs.get(key_id)
    if secret is None:
        shown = key_id[:64] if key_id.isascii() and key_id.isprintable() else "?"
        raise AuthError(403, "InvalidAccessKeyId", f"The access key id {shown!r} is not configured here.")
    return secret


def require_equal(expected: bytes, given: str, *, what: str) -> None:
    """Compare a signature in constant time.

    Raises:
        AuthError: 403 SignatureDoesNotMatch.
    """
    require_one_of((expected,), given, what=what)


def require_one_of(expected: Iterable[bytes], given: str, *, what: str) -> None:
    """As `require_equal`, where a request may have been spelled in several ways before it was signed.

    Raises:
        AuthError: 403 SignatureDoesNotMatch.
    """
    signature = given.encode("latin-1", "replace")
    if not any(hmac.compare_digest(one, signature) for one in expected):
        raise mismatch(what)


def mismatch(what: str) -> AuthError:
    """403 SignatureDoesNotMatch with what to look at."""
    return AuthError(
        403,
        "SignatureDoesNotMatch",
        f"The {what} signature does not match. Check the secret, and that nothing on the way changes "
        "the method, the path, the query, Host or another signed header.",
    )


def denied(message: str) -> AuthError:
    """403 AccessDenied."""
    return AuthError(403, "AccessDenied", message)


def require_fresh(signed_at: float, now: float) -> None:
    """A header signature lives for the permitted clock skew, in both directions (Unix seconds).

    Raises:
        AuthError: 403 RequestTimeTooSkewed.
    """
    if abs(now - signed_at) > MAX_SKEW_S:
        raise skewed(signed_at, now)


def require_open(starts_at: float, ends_at: float, now: float) -> None:
    """A signature with a window of its own: not begun is a wrong clock, over is expired (Unix seconds).

    Raises:
        AuthError: 403 RequestTimeTooSkewed, or 403 AccessDenied.
    """
    if starts_at - now > MAX_SKEW_S:
        raise skewed(starts_at, now)
    if now >= ends_at:
        raise denied(f"Request has expired, {now - ends_at:.0f} s ago.")


def skewed(signed_at: float, now: float) -> AuthError:
    """403 RequestTimeTooSkewed with the difference in seconds."""
    return AuthError(
        403,
        "RequestTimeTooSkewed",
        f"The request's time differs from the server's by {abs(now - signed_at):.0f} s; "
        f"at most {MAX_SKEW_S} s are allowed.",
    )
