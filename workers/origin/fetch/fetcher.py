"""The door to origins: makes fetches over one client and one control.

Owns what all fetches of a process share. How one fetch goes is in `session`; its results are exported here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from workers.answers import Absent, OriginAnswer, PassedRedirect
from workers.origin.fetch.fetched import Fetched
from workers.origin.fetch.session import FetchSession
from workers.origin.fetch.shared import SharedByFetches
from workers.plan import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.origin.control.control import OriginControl
    from workers.origin.wire.client import OriginClient
    from workers.plan import FetchItem, FetchPlan

__all__ = ["Absent", "FetchSession", "Fetched", "Fetcher", "OriginAnswer", "PassedRedirect"]

#: Seconds to wait for a slot in the budget; a client waits for hot ones.
BUDGET_WAIT_S = {Lane.HOT: 10.0, Lane.COLD: 300.0}


class Fetcher(SharedByFetches):
    """Makes fetches; one per process. `clock` is monotonic seconds."""

    def __init__(
        self, client: OriginClient, control: OriginControl, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(client, control, clock=clock)

    def session(
        self,
        plan: FetchPlan,
        item: FetchItem,
        *,
        lane: Lane,
        method: str = "GET",
        range_header: str | None = None,
        keep_error_body: bool = False,
        budget_timeout_s: float | None = None,
    ) -> FetchSession:
        """One fetch, as a context manager.

        `range_header` is a rebuilt single range (A15). `keep_error_body` keeps up to 1 MiB of a final error's
        body for a client (A6, A10), and ends the fetch at `plan.async_status` (F28). `budget_timeout_s`
        bounds the wait for a slot (A25).
        """
        return FetchSession(
            self,
            plan,
            item,
            lane=lane,
            method=method,
            range_header=range_header,
            keep_error_body=keep_error_body,
            budget_timeout_s=BUDGET_WAIT_S[lane] if budget_timeout_s is None else budget_timeout_s,
        )
