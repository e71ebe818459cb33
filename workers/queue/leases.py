"""Keeping the claims of keys that are being moved.

Owns the set of keys this process moves and the task that renews their leases, so that another process takes
them over soon after this one dies, and not while it lives.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from workers.ledger.claims import LEASE_MS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.ledger.claims import Claims

log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Renews running claims of one owner every third of their length."""

    def __init__(self, claims: Claims, *, owner: str) -> None:
        self._claims = claims
        self.owner = owner
        self._held: dict[str, set[str]] = {}

    def hold(self, bucket: str, keys: Iterable[str]) -> None:
        """Renew these from now on."""
        self._held.setdefault(bucket, set()).update(keys)

    def holds(self, bucket: str, key: str) -> bool:
        """Whether this process is moving the key now."""
        return key in self._held.get(bucket, ())

    def held(self, bucket: str) -> set[str]:
        """Keys of a bucket that this process is moving now; what is added is renewed from now on."""
        return self._held.setdefault(bucket, set())

    def drop(self, bucket: str, keys: Iterable[str]) -> None:
        """Renew these no more."""
        self._held.get(bucket, set()).difference_update(keys)

    async def run(self) -> None:
        """Renew until cancelled. A missing Redis is reported and tried again: the move itself goes on."""
        while True:
            await asyncio.sleep(LEASE_MS / 3000)
            for bucket, keys in list(self._held.items()):
                if not keys:
                    continue
                try:
                    await self._claims.renew(bucket, sorted(keys), owner=self.owner)
                except (RedisError, OSError) as error:
                    log.warning("lease_renewal_failed", bucket=bucket, keys=len(keys), error=str(error))
