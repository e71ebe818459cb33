"""Faults of a store at a chosen request, and what must be left afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.store.stores import MIB

if TYPE_CHECKING:
    from support.store.fake_s3 import FakeS3, Fault, Request

BUCKET = "site"
#: Three parts of 5 MiB, the last one short; every byte counts.
LARGE = bytes(range(256)) * (12 * MIB // 256)
SMALL = b"a small object"


def user(request: Request) -> bool:
    """Not one of Ferryman's own objects."""
    return not request.key.startswith(".ferryman/")


class Once:
    """A fault that strikes the n-th request of a kind."""

    def __init__(self, action: str, fault: Fault, *, at: int = 1, times: int = 1) -> None:
        self.action, self.fault, self.at, self.times = action, fault, at, times
        self.count = 0

    def __call__(self, request: Request) -> Fault | None:
        if request.action != self.action or not user(request):
            return None
        self.count += 1
        return self.fault if self.at <= self.count < self.at + self.times else None


def chunks_of(body: bytes) -> list[bytes]:
    return [body[start : start + 65536] for start in range(0, len(body), 65536)]


async def assert_nothing_left(fake: FakeS3) -> None:
    assert fake.uploads == {}
    assert [key for key in fake.objects if key.startswith(".ferryman/")] == []
