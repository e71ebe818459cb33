"""The collector spares what lasts, and still frees what does not."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from workers.collector import spare_what_lasts

if TYPE_CHECKING:
    from collections.abc import Iterator


class Knot:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_what_is_alive_is_not_looked_through_again_and_garbage_of_before_is_freed() -> None:
    garbage, lasting = weakref.ref(Knot()), Knot()
    spare_what_lasts()
    assert garbage() is None
    assert gc.get_freeze_count() > 1000
    assert gc.get_threshold()[0] == 10_000
    assert not any(one is lasting for one in gc.get_objects())


def test_cycles_that_are_made_afterwards_are_freed() -> None:
    spare_what_lasts()
    made = weakref.ref(Knot())
    gc.collect()
    assert made() is None
