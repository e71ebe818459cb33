"""`Authorization: Bearer <token>`. Pure."""

from __future__ import annotations

import hmac

from scheduler.front.auth.model import AuthError, Keyring, Principal, SignedRequest

SCHEME = "bearer"


def claims(request: SignedRequest) -> bool:
    """Whether the request carries a bearer token."""
    return request.header("authorization")[:7].lower() == "bearer "


def verify(request: SignedRequest, keys: Keyring) -> Principal:
    """Compare the token with every configured one, in constant time.

    Raises:
        AuthError: 403 AccessDenied.
    """
    given = request.header("authorization")[7:].strip().encode("latin-1", "replace")
    matched = False
    for token in keys.tokens:
        matched |= hmac.compare_digest(token.encode(), given)
    if not matched or not given:
        raise AuthError(403, "AccessDenied", "The bearer token is not the configured one.")
    return Principal(key_id="token", scheme=SCHEME)
