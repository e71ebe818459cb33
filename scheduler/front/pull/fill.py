"""One key on its way into this process: what the origin said, and the body that readers share.

Owns the records between the pump that fills and the requests that read. Knows neither side's I/O.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, assert_never

from scheduler.front.http.object_headers import origin_validators
from workers.errors import OriginError, OriginsExhausted
from workers.origin.fetch.sharing import withheld

if TYPE_CHECKING:
    from scheduler.front.http.conditional import Validators
    from scheduler.front.pull.spool import Body
    from scheduler.rules.model import Header
    from workers.answers import Headers
    from workers.errors import TransferError
    from workers.origin.fetch.fetcher import OriginAnswer
    from workers.plan import FetchItem, FetchPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The origin has answered with the object; its bytes come through `body` (A1, A2, A3)."""

    #: What the client gets beside length and request id.
    headers: tuple[tuple[bytes, bytes], ...]
    #: Bytes, or None when only the end of the body tells.
    length: int | None
    #: As the origin said it.
    said: Headers
    body: Body
    #: Why only the client whose request it was may have it (F61); empty when everybody may.
    withheld: str = ""

    @property
    def validators(self) -> Validators:
        """What conditions are compared with (A21); few requests have any."""
        return origin_validators(self.said)


@dataclass(frozen=True, slots=True, kw_only=True)
class InStore:
    """Somebody else has stored it in the meantime (A24)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """No origin has it, or it may not be pulled; `answer` is the origin's own, where it was kept (A5, A6)."""

    answer: OriginAnswer | None = None
    #: `absent_at_origin` or `tombstone`.
    reason: str = "absent_at_origin"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOn:
    """A 3xx that the rule does not follow (A8)."""

    status: int
    location: str | None
    #: Of the origin's answer, as on the wire.
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The pull failed before a byte went out (A9 to A11, A14, A25)."""

    error: TransferError
    #: The last candidate's own answer, where it was kept (A10).
    answer: OriginAnswer | None = None


#: What became of opening; every follower of one fill gets the same, or asks for itself.
Opening = Opened | InStore | NotFound | PassedOn | Failed


def is_for_one(opening: Opening, plan: FetchPlan) -> bool:
    """Whether an opening says something about the client whose headers went along in `plan` (F61).

    A redirect and a refusal may well be due to who asked; an origin that is down is down for everybody.
    """
    match opening:
        case Opened():
            return bool(opening.withheld)
        case InStore():
            return False
        case NotFound():
            return opening.answer is not None and withheld(opening.answer.headers, plan) is not None
        case PassedOn():
            return True
        case Failed():
            error = opening.error.last if isinstance(opening.error, OriginsExhausted) else opening.error
            status = error.status if isinstance(error, OriginError) else None
            return status is not None and 400 <= status < 500
        case _:
            assert_never(opening)


def for_queue(plan: FetchPlan) -> FetchPlan:
    """A plan as it may wait in a queue: without the client's `Cookie` (H9)."""
    if not any(name.lower() == "cookie" for name, _ in plan.headers):
        return plan
    return replace(plan, headers=tuple(pair for pair in plan.headers if pair[0].lower() != "cookie"))


@dataclass(slots=True, kw_only=True, eq=False)
class Fill:
    """One running pull of this process."""

    plan: FetchPlan
    item: FetchItem
    #: Loop time before which what the store says of the key may be out of date.
    looked_at: float
    #: Keep the origin's own error answers.
    keep_error_body: bool = False
    #: Set on answers from the origin (F41).
    return_headers: tuple[Header, ...] = ()
    bucket: str = field(init=False)
    key: str = field(init=False)
    #: Loop time of its making.
    began_at: float = field(init=False)
    #: Identity of this try in the stored object (S11).
    attempt: str = field(init=False)
    opening: asyncio.Future[Opening] = field(init=False)
    #: The running body, once there is one.
    opened: Opened | None = field(default=None, init=False)
    #: Requests that read it, or will.
    followers: int = 0
    #: Of these, the ones that wait to hear of the opening.
    _listening: list[asyncio.Future[None]] = field(default_factory=list, init=False)
    #: Of these, the ones that came before there was a body.
    waiting: int = 0
    task: asyncio.Task[None] | None = None
    #: The ledger did not answer when the pull began: a delete knows nothing of it.
    unclaimed: bool = False
    #: The object is in the store.
    committed: bool = False
    #: The answer is for one client, and is not stored (F61).
    withheld: bool = False

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.bucket, self.key = self.plan.bucket, self.item.key
        self.began_at = loop.time()
        self.attempt = os.urandom(16).hex()
        self.opening = loop.create_future()

    @property
    def queued_plan(self) -> FetchPlan:
        """The plan for a pull of this key by a worker."""
        return for_queue(self.plan)

    @property
    def joinable(self) -> bool:
        """Whether a new reader still gets the first byte."""
        opened = self.opened
        return opened is None or opened.body.joinable

    def settle(self, opening: Opening) -> None:
        """Say once what became of opening."""
        if not self.opening.done():
            if isinstance(opening, Opened):
                opening.body.expected += self.waiting
                self.opened = opening
            self.opening.set_result(opening)
            for listener in self._listening:
                if not listener.done():  # else that follower has gone
                    listener.set_result(None)
            self._listening.clear()

    async def heard(self) -> Opening:
        """What became of opening; a follower that goes takes nothing from the others."""
        if not self.opening.done():
            listener: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._listening.append(listener)
            await listener
        return self.opening.result()

    def join(self) -> Seat:
        """A follower's place: the beginning of the body is kept until it reads or leaves."""
        self.followers += 1
        opened = self.opened
        if opened is None:
            self.waiting += 1
        else:
            opened.body.expected += 1
        return Seat(self)


class Seat:
    """One follower of a fill."""

    __slots__ = ("_fill", "_seated")

    def __init__(self, fill: Fill) -> None:
        self._fill = fill
        self._seated = False

    def take(self) -> None:
        """The follower has its reader now, or needs none."""
        if not self._seated:
            self._seated = True
            opened = self._fill.opened
            if opened is None:
                self._fill.waiting -= 1
            else:
                opened.body.arrived()

    def leave(self) -> None:
        """The follower is done."""
        self.take()
        self._fill.followers -= 1
