"""The vendors' first schemes: id and signature in the Authorization header, or with Expires in the query.
Pure.

Owns how such a request is read and in which order its key, its time and its signature are checked. What is
signed is a vendor's own: `aws_v2`, `oss_v1`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.front.auth.encoding import has_query, http_time, integer, query_value
from scheduler.front.auth.model import (
    Keyring,
    Principal,
    SignedRequest,
    denied,
    require_equal,
    require_fresh,
    require_open,
    secret_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainHmac:
    """One vendor's words for it."""

    #: As `Principal.scheme` names it, and as people read it.
    scheme: str
    shown: str
    #: Before the id in the Authorization header.
    word: str
    #: The parameter with the id in a presigned URL.
    id_parameter: str
    #: The header that goes before Date.
    date_header: str
    #: (request, its date or its Expires) to what was signed.
    text: Callable[[SignedRequest, str], bytes]

    def claims(self, request: SignedRequest) -> bool:
        """Whether the request carries such a signature, in the header or in the query."""
        in_header = request.header("authorization").startswith(f"{self.word} ")
        return in_header or has_query(request.query, self.id_parameter)

    def named_id(self, authorization: str, query: bytes) -> str:
        """The key id that a request names, empty when it names none; nothing is checked."""
        return self._presented(authorization, query)[0]

    def _presented(self, authorization: str, query: bytes) -> tuple[str, str]:
        """Key id and signature."""
        if authorization:
            key_id, _, signature = authorization.removeprefix(f"{self.word} ").strip().partition(":")
            return key_id, signature
        return query_value(query, self.id_parameter) or "", query_value(query, "Signature") or ""

    def verify(self, request: SignedRequest, keys: Keyring, now: float) -> Principal:
        """Check the signature and its time (`now` in Unix seconds).

        Raises:
            AuthError: InvalidAccessKeyId, SignatureDoesNotMatch, RequestTimeTooSkewed, AccessDenied.
        """
        authorization = request.header("authorization")
        key_id, signature = self._presented(authorization, request.query)
        secret = secret_of(keys, key_id)
        if authorization:
            date = request.header(self.date_header) or request.header("date")
            signed_at = http_time(date)
            if signed_at is None:
                raise denied(f"An {self.word} signature needs a Date or {self.date_header} header.")
            require_fresh(signed_at, now)
        else:
            date = query_value(request.query, "Expires") or ""
            expires = integer(date)
            if expires is None:
                raise denied("Expires must be a Unix time in seconds.")
            require_open(0, expires, now)
        expected = hmac.digest(secret.encode(), self.text(request, date), hashlib.sha1)
        require_equal(base64.b64encode(expected), signature, what=self.shown)
        return Principal(key_id=key_id, scheme=self.scheme)
