"""The real store, whose self-test is made once: tests of the self-test itself are in tests/contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.store.probed import probed_once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.store.seaweed import Seaweed


@pytest.fixture(scope="module")
def seaweed(seaweed: Seaweed) -> Iterator[Seaweed]:
    with probed_once(seaweed.endpoint):
        yield seaweed
