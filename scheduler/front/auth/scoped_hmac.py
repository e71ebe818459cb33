"""The vendors' schemes of version 4: a key derived for a day, a region and a service, in the Authorization
header or as parameters. Pure.

Owns how such a request is read, its time, the derived key and the comparison. Which scope is right and what
is signed are a vendor's own: `aws_v4`, `oss_v4`.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from scheduler.front.auth.encoding import fields, has_query, integer, query_value
from scheduler.front.auth.model import AuthError, SignedRequest, require_fresh, require_one_of, require_open

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_EXPIRES_S = 7 * 24 * 3600


@lru_cache(maxsize=256)
def _derived(secret: str, scope: tuple[str, ...]) -> bytes:
    """Clients sign all day with one key; whoever has none of ours never comes here."""
    key = secret.encode()
    for part in scope:
        key = hmac.digest(key, part.encode("latin-1"), hashlib.sha256)
    return key


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a presigned URL calls its parts."""

    algorithm: str
    credential: str
    signature: str
    listed: str
    date: str
    expires: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What a request says of its signature; nothing of it is checked yet."""

    in_header: bool
    key_id: str
    #: Day, region, service, last word; as many as were given.
    scope: tuple[str, ...]
    signature: str
    #: Names of headers, separated by `;`.
    listed: str
    #: As sent; empty when the scheme's own header or parameter is not there.
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedHmac:
    """One vendor's words for it."""

    #: As people read it.
    shown: str
    algorithm: str
    #: Before the secret, where the derived key begins.
    key_prefix: str
    date_header: str
    #: The part of the Authorization header that lists headers.
    listed_field: str
    parameters: Parameters
    #: Whether a key id may itself contain a slash: the scope is then the last four parts.
    slash_in_id: bool

    def claims(self, request: SignedRequest) -> bool:
        """Whether the request carries such a signature, in the header or in the query."""
        in_header = request.header("authorization").startswith(self.algorithm)
        return in_header or has_query(request.query, self.parameters.algorithm)

    def named_id(self, authorization: str, query: bytes) -> str:
        """The key id that a request names, empty when it names none; nothing is checked."""
        if authorization:
            credential = self._fields(authorization).get("Credential", "")
        else:
            credential = query_value(query, self.parameters.credential) or ""
        return self._split(credential)[0]

    def _fields(self, authorization: str) -> dict[str, str]:
        return fields(authorization.removeprefix(self.algorithm), ",")

    def _split(self, credential: str) -> list[str]:
        """Key id, then the parts of the scope."""
        return credential.rsplit("/", 4) if self.slash_in_id else credential.split("/")

    def read(self, request: SignedRequest) -> Presented:
        """What the request says of its signature.

        Raises:
            AuthError: 400 InvalidArgument: a presigned URL of another algorithm.
        """
        authorization = request.header("authorization")
        if authorization:
            given = self._fields(authorization)
            credential, signature = given.get("Credential", ""), given.get("Signature", "")
            listed, date = given.get(self.listed_field, ""), request.header(self.date_header)
        else:
            names, query = self.parameters, request.query
            if query_value(query, names.algorithm) != self.algorithm:
                raise AuthError(400, "InvalidArgument", f"{names.algorithm} must be {self.algorithm}.")
            credential = query_value(query, names.credential) or ""
            signature = query_value(query, names.signature) or ""
            listed = query_value(query, names.listed) or ""
            date = query_value(query, names.date) or ""
        key_id, *scope = self._split(credential)
        return Presented(
            in_header=bool(authorization),
            key_id=key_id,
            scope=tuple(scope),
            signature=signature,
            listed=listed,
            date=date,
        )

    def require_time(
        self, request: SignedRequest, presented: Presented, signed_at: float, now: float
    ) -> None:
        """A signed header is fresh, a presigned URL has begun and not expired (Unix seconds).

        Raises:
            AuthError: 403 RequestTimeTooSkewed or AccessDenied; 400 InvalidArgument for a lifetime that is
                none.
        """
        if presented.in_header:
            require_fresh(signed_at, now)
            return
        expires = integer(query_value(request.query, self.parameters.expires))
        if expires is None or not 1 <= expires <= _MAX_EXPIRES_S:
            raise AuthError(
                400, "InvalidArgument", f"{self.parameters.expires} must be 1 to {_MAX_EXPIRES_S} seconds."
            )
        require_open(signed_at, signed_at + expires, now)

    def signing_key(self, secret: str, scope: tuple[str, ...]) -> bytes:
        """The key that a secret gives for a scope."""
        return _derived(self.key_prefix + secret, scope)

    def require_signed(self, presented: Presented, texts: Iterator[bytes], key: bytes, stamp: str) -> None:
        """One of the spellings of the request is what was signed; `stamp` is its compact time.

        Raises:
            AuthError: 403 SignatureDoesNotMatch.
        """
        head = f"{self.algorithm}\n{stamp}\n{'/'.join(presented.scope)}\n"
        expected = (
            hmac.digest(key, (head + hashlib.sha256(text).hexdigest()).encode("latin-1"), hashlib.sha256)
            for text in texts
        )
        require_one_of((one.hex().encode() for one in expected), presented.signature, what=self.shown)
