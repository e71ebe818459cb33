"""Who signed this request? The vendors' signature schemes, verified against configured keys. Pure.

Owns the choice of the scheme; each scheme is one file, and what two of them share is one more: `plain_hmac`
(`aws_v2`, `oss_v1`), `scoped_hmac` (`aws_v4`, `oss_v4`); `cos`, `bearer` and `aws_form` are like no other.
`model` has the records and the refusals, `encoding` the spellings. Used for the rule documents (SEMANTICS.md
W13), for GET and HEAD of `access: signed` buckets, presigned URLs included, and for S3 calls. Knows no
settings, no clock and no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from scheduler.front.auth import aws_v2, aws_v4, bearer, cos, oss_v1, oss_v4
from scheduler.front.auth.aws_form import verify_form
from scheduler.front.auth.aws_v2 import signs as signed_by_v2
from scheduler.front.auth.aws_v4 import BodySignature, body_signature
from scheduler.front.auth.encoding import has_query, query_value
from scheduler.front.auth.model import AuthError, Keyring, Principal, SignedRequest, denied

if TYPE_CHECKING:
    from collections.abc import Callable


class _Scheme(Protocol):
    @property
    def claims(self) -> Callable[[SignedRequest], bool]:
        """Whether the request carries this scheme."""

    @property
    def verify(self) -> Callable[[SignedRequest, Keyring, float], Principal]: ...


#: No two claim the same request by its header.
_SCHEMES: Final[tuple[_Scheme, ...]] = (cos, oss_v4, oss_v1.SCHEME, aws_v4, aws_v2.SCHEME)
_QUERY_MARKS: Final = (
    "q-sign-algorithm",
    "x-oss-signature-version",
    "OSSAccessKeyId",
    "X-Amz-Algorithm",
    "AWSAccessKeyId",
)


def verify(request: SignedRequest, keys: Keyring, now: float) -> Principal:
    """Who sent the request (`now` in Unix seconds).

    Raises:
        AuthError: 403 InvalidAccessKeyId, SignatureDoesNotMatch, RequestTimeTooSkewed (beyond 15 minutes) or
            AccessDenied (expired, or no authentication at all); 400 InvalidArgument for a malformed one.
    """
    authorization = request.header("authorization")
    in_query = [mark for mark in _QUERY_MARKS if has_query(request.query, mark)]
    if authorization and in_query:
        raise AuthError(
            400, "InvalidArgument", "Sign either in the Authorization header or in the query, not in both."
        )
    if len(in_query) > 1:
        # One scheme leaves unsigned what another one would have signed, and callers go by what they find.
        raise AuthError(400, "InvalidArgument", f"Sign by one scheme, not by {' and '.join(in_query)}.")
    if bearer.claims(request):
        return bearer.verify(request, keys)
    for scheme in _SCHEMES:
        if scheme.claims(request):
            return scheme.verify(request, keys, now)
    if authorization:
        raise denied(
            "The Authorization header is of no known scheme; COS q-sign-algorithm=sha1, OSS V1 and V4, "
            "AWS V2 and V4 and Bearer are read."
        )
    raise denied("The request is not signed, and this needs a signature or a bearer token.")


def named_by_aws(authorization: str, query: bytes) -> str:
    """The key id that a request names in one of AWS's schemes, before anything is checked; empty without."""
    by_v4 = query_value(query, aws_v4.SCHEME.parameters.credential) is not None
    if authorization:
        by_v4 = not authorization.startswith(f"{aws_v2.SCHEME.word} ")
    return (aws_v4.SCHEME if by_v4 else aws_v2.SCHEME).named_id(authorization, query)


__all__ = [
    "AuthError",
    "BodySignature",
    "Keyring",
    "Principal",
    "SignedRequest",
    "body_signature",
    "named_by_aws",
    "signed_by_v2",
    "verify",
    "verify_form",
]
