"""What all fetches of a process share.

Owns the record. Made by the `Fetcher`, used by each session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.origin.fetch.error_pages import ErrorPages
from workers.origin.integrity.soft404 import Learner

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.origin.control.control import OriginControl
    from workers.origin.wire.client import OriginClient


class SharedByFetches:
    """One client, one control and what was learnt of error pages. `clock` is monotonic seconds."""

    def __init__(self, client: OriginClient, control: OriginControl, *, clock: Callable[[], float]) -> None:
        self.client = client
        self.control = control
        self.clock = clock
        self.error_pages = ErrorPages(Learner(clock))
