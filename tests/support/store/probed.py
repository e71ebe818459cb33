"""One self-test of the store for all tests that are not about it.

Tests have a bucket each, and a self-test takes some eighty requests: a third of the work of starting a front.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from workers.settings import reveal_json
from workers.store import client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.store.access import StoreAccess
    from workers.store.guarantees import StoreGuarantees

_found: dict[str, StoreGuarantees] = {}


@contextlib.contextmanager
def probed_once(endpoint: str) -> Iterator[None]:
    """What this process found out of this very server, with these settings, is true of its next buckets."""
    probe = client.probe

    async def remembered(store: StoreAccess, bucket: str) -> StoreGuarantees:
        if store.settings.endpoint != endpoint:
            return await probe(store, bucket)
        asked = reveal_json(store.settings)
        if asked not in _found:
            _found[asked] = await probe(store, bucket)
        return _found[asked]

    client.probe = remembered
    try:
        yield
    finally:
        client.probe = probe
