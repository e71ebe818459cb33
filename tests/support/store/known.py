"""The stores of `known_stores` as running servers: which fixture brings one up, and a client for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.store.stores import store_at
from workers.store.known_stores import CEPH, KNOWN, MOTO, RCLONE, SEAWEEDFS

if TYPE_CHECKING:
    from workers.store.client import ObjectStore
    from workers.store.known_stores import KnownStore

#: The fixture of each.
_FIXTURES = {SEAWEEDFS.id: "seaweed", CEPH.id: "ceph", RCLONE.id: "rclone", MOTO.id: "moto"}


def stores(*fast: KnownStore) -> list[Any]:
    """All of them, for `params` of a fixture or a test; those that are not `fast` are marked slow."""
    return [
        pytest.param(known, id=known.id, marks=[] if known in fast else [pytest.mark.slow]) for known in KNOWN
    ]


def client_of(known: KnownStore, request: pytest.FixtureRequest, **settings: Any) -> ObjectStore:
    """A client of the running server, not open yet."""
    return store_at(**{**access_of(known, request), **settings})


def access_of(known: KnownStore, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Endpoint and key pair, as the section `store` of a configuration has them."""
    server = request.getfixturevalue(_FIXTURES[known.id])
    if known is MOTO:
        return {"endpoint": server, "access_key_id": "test", "secret_access_key": "test-secret"}
    return {
        "endpoint": server.endpoint,
        "access_key_id": server.access_key_id,
        "secret_access_key": server.secret_access_key,
    }
