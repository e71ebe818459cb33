"""A front that did not get to run is not a ledger that is away (A26)."""

from __future__ import annotations

import asyncio
import time

import pytest

from scheduler.front.pull import claim
from scheduler.front.pull.claim import FrontClaims


@pytest.fixture
def claims(monkeypatch):
    monkeypatch.setattr(claim, "PATIENCE_S", 0.05)
    return FrontClaims(None, None, owner="front-1")  # the calls are given


async def test_an_answer_that_came_while_the_process_stood_still_is_asked_for_once_more(claims):
    asked = []

    async def call():
        asked.append(1)
        if len(asked) == 1:
            time.sleep(0.3)  # noqa: ASYNC251 -- that is the case
            await asyncio.sleep(1)
        return "here"

    assert await claims._ask(call) == "here"
    assert (len(asked), claims.unanswered) == (2, 0)


async def test_a_ledger_that_is_silent_is_asked_once_and_then_left_alone(claims):
    asked = []

    async def call():
        asked.append(1)
        await asyncio.sleep(1)

    assert await claims._ask(call) is None
    assert await claims._ask(call) is None
    assert (len(asked), claims.unanswered) == (1, 2)
