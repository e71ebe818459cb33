"""Calls that are made while one is under way go together in the next.

Owns the gathering, not the call. One caller alone waits for nothing; under load a round trip, and what a
client library spends on it, is shared by all who asked during the one before.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Q = TypeVar("Q")
R = TypeVar("R")


class Gathered(Generic[Q, R]):
    """Questions for one `call`, which takes a list of them and gives as many answers in their order."""

    def __init__(self, call: Callable[[list[Q]], Awaitable[list[R]]]) -> None:
        self._call = call
        self._waiting: list[tuple[Q, asyncio.Future[R]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> R:
        """The answer to one question; raises what the call that carried it raised.

        A caller that is cancelled leaves its question where it is: the call is made all the same.
        """
        return await self.asked(question)

    def asked(self, question: Q) -> asyncio.Future[R]:
        """The same for one who goes on meanwhile; whoever waits for it shields it."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._asking is None:
            # Not in the caller's context: what is logged belongs to many.
            self._asking = asyncio.create_task(self._ask_all(), name="gathered", context=Context())
        return answer

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, []
                try:
                    answers = await self._call([question for question, _ in asked])
                except Exception as error:  # noqa: BLE001 -- whatever it is, it is theirs who asked
                    for _, future in asked:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), answer in zip(asked, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        finally:
            self._asking = None
