"""Headers that go with every request of a kind: bucket owner, encryption, storage class, ACL.

Owns what the configuration makes of them. Pure, apart from reading a customer key from its file.
"""

from __future__ import annotations

import base64
from hashlib import md5
from typing import TYPE_CHECKING

from workers.errors import ConfigError
from workers.secret_values import reveal

if TYPE_CHECKING:
    from workers.settings import StoreSettings


def owner_headers(settings: StoreSettings) -> dict[str, str]:
    """Sent with every request."""
    owner = settings.expected_bucket_owner
    return {"x-amz-expected-bucket-owner": owner} if owner else {}


def creation_headers(settings: StoreSettings) -> dict[str, str]:
    """Sent when an object is created, in one PUT or as a multipart upload."""
    headers: dict[str, str] = {}
    if settings.storage_class:
        headers["x-amz-storage-class"] = settings.storage_class
    if settings.acl:
        headers["x-amz-acl"] = settings.acl
    if settings.sse in {"AES256", "aws:kms"}:
        headers["x-amz-server-side-encryption"] = settings.sse
    if settings.sse == "aws:kms" and settings.sse_kms_key_id:
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = settings.sse_kms_key_id
    return headers


def customer_headers(settings: StoreSettings) -> dict[str, str]:
    """Sent with every request about an object's bytes (SSE-C); empty without a customer key.

    Raises:
        ConfigError: the key cannot be read, or is none.
    """
    if settings.sse != "customer":
        return {}
    text = reveal(
        settings.sse_customer_key,
        settings.sse_customer_key_file,
        name="store.sse_customer_key_file",
    )
    try:
        raw = base64.b64decode(text or "", validate=True)
    except ValueError as error:
        raise ConfigError("store.sse_customer_key is not base64") from error
    if len(raw) != 32:
        raise ConfigError(f"store.sse_customer_key has {len(raw)} bytes; 32 are needed")
    prefix = "x-amz-server-side-encryption-customer"
    return {
        f"{prefix}-algorithm": "AES256",
        f"{prefix}-key": base64.b64encode(raw).decode(),
        f"{prefix}-key-md5": base64.b64encode(md5(raw).digest()).decode(),
    }
