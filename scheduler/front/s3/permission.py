"""What may a client's key do? Pure.

Owns `may` and `buckets` of `gateway.access_keys`. Every refusal names the permission, the bucket and the key
that lacks it, so that whoever reads it knows which line of config.yaml to change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.front.http.s3_error import S3Error

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from scheduler.config.settings import AccessKey
    from scheduler.front.s3.operation import Permission


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one key may."""

    may: frozenset[Permission]
    #: None stands for every bucket.
    buckets: frozenset[str] | None


class Grants:
    """The grants of all configured keys."""

    def __init__(self, keys: Iterable[AccessKey], *, buckets: Container[str]) -> None:
        self._grants: Mapping[str, Grant] = {
            key.id: Grant(
                may=frozenset(key.may or ("read",)),
                buckets=None if key.buckets is None else frozenset(key.buckets),
            )
            for key in keys
        }
        # Not copied: it grows while the process runs.
        self._named = buckets

    def refusal(self, key_id: str, permission: Permission, bucket: str) -> S3Error | None:
        """Why the key may not; None when it may. An empty `bucket` stands for the service itself."""
        grant = self._grants.get(key_id)
        if grant is None or permission not in grant.may:
            return _denied(f"The access key {key_id!r} lacks the permission {permission!r}.")
        if not bucket:
            return None
        if grant.buckets is not None and bucket not in grant.buckets:
            return _denied(f"The access key {key_id!r} is not for the bucket {bucket!r}.")
        if bucket not in self._named and "manage" not in grant.may:
            return _denied(
                f"The bucket {bucket!r} is not in the configuration, and the access key {key_id!r} lacks the "
                "permission 'manage'."
            )
        return None

    def sees(self, key_id: str, bucket: str) -> bool:
        """Whether ListBuckets shows a bucket to this key."""
        grant = self._grants.get(key_id)
        if grant is None or (grant.buckets is not None and bucket not in grant.buckets):
            return False
        return bucket in self._named or "manage" in grant.may


def _denied(message: str) -> S3Error:
    return S3Error(status=403, code="AccessDenied", message=message)
