"""AWS's signatures of a browser form (`POST` of an object): what is signed is its policy. Pure.

Version 4 has `x-amz-algorithm`, `x-amz-credential`, `x-amz-date` and `x-amz-signature` among its fields,
version 2 `AWSAccessKeyId` and `signature`. What the policy says is not looked at here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING

from scheduler.front.auth import aws_v4
from scheduler.front.auth.encoding import compact_time
from scheduler.front.auth.model import AuthError, Keyring, Principal, denied, require_equal, secret_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def verify_form(fields: Mapping[str, str], keys: Keyring) -> Principal:
    """Who signed a form's policy; `fields` by lower-case name.

    Raises:
        AuthError: 403 AccessDenied without a policy, InvalidAccessKeyId, SignatureDoesNotMatch; 400
            InvalidArgument when a field is missing or another algorithm is named.
    """
    if not fields.get("policy"):
        raise denied("A form needs a signed policy: nobody may write here without one.")
    if "awsaccesskeyid" in fields:
        key_id = fields["awsaccesskeyid"]
        v2_secret = secret_of(keys, key_id).encode()
        expected = base64.b64encode(hmac.digest(v2_secret, fields["policy"].encode(), hashlib.sha1))
        require_equal(expected, _field(fields, "signature"), what="AWS V2 policy")
        return Principal(key_id=key_id, scheme="aws-v2")
    if _field(fields, "x-amz-algorithm") != aws_v4.SCHEME.algorithm:
        raise AuthError(400, "InvalidArgument", f"X-Amz-Algorithm must be {aws_v4.SCHEME.algorithm}.")
    key_id, *scope = _field(fields, "x-amz-credential").rsplit("/", 4)
    date, signature = _field(fields, "x-amz-date"), _field(fields, "x-amz-signature")
    secret = secret_of(keys, key_id)
    if len(scope) != 4 or scope[2:] != ["s3", "aws4_request"] or not "".join(scope).isascii():
        raise denied("The policy needs X-Amz-Credential=id/date/region/s3/aws4_request.")
    if compact_time(date) is None or scope[0] != date[:8]:
        raise denied("The date in X-Amz-Credential is not that of X-Amz-Date.")
    key = aws_v4.SCHEME.signing_key(secret, tuple(scope))
    expected = hmac.digest(key, fields["policy"].encode(), hashlib.sha256).hex().encode()
    require_equal(expected, signature, what="AWS V4 policy")
    return Principal(key_id=key_id, scheme="aws-v4")


def _field(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name)
    if not value:
        raise AuthError(
            400,
            "InvalidArgument",
            f"A form must contain a field named {name!r}. If it is there, check the order of the fields.",
        )
    return value
