"""Asking the origin about one key, for a verification.

Owns what counts as an answer: the object by a GET, its absence by a GET that says 404. What HEAD says is no
proof, and a redirect that is not followed is neither. Requests go through the same fetcher as every other, so
they count against the origins' budgets.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

from scheduler.rules.matching import RequestFacts, match
from scheduler.rules.planning import PlanRefused, plan
from workers.answers import PassedRedirect
from workers.errors import OriginError
from workers.origin.fetch.fetcher import Fetched
from workers.plan import Lane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scheduler.runtime import Services


async def origin_digest(services: Services, bucket: str, key: str) -> tuple[str, dict[str, str]] | None:
    """SHA-256 and headers of what the origin gives now; None when it says that it has no such key.

    Raises:
        OriginError: it could not be read.
    """
    async with _asked(services, bucket, key) as answer:
        if answer is None:
            return None
        digest = hashlib.sha256()
        async for chunk in answer.chunks():
            digest.update(chunk)
        headers = {name.lower(): value.strip() for name, value in answer.headers}
        return digest.hexdigest(), headers


async def origin_has(services: Services, bucket: str, key: str) -> bool:
    """Whether a GET finds the key; its body is not read.

    Raises:
        OriginError: the origin says neither.
    """
    async with _asked(services, bucket, key) as answer:
        return answer is not None


@contextlib.asynccontextmanager
async def _asked(services: Services, bucket: str, key: str) -> AsyncIterator[Fetched | None]:
    """The origin's answer to a GET; None for a 404."""
    ruleset = services.rules.snapshot(bucket)
    facts = RequestFacts(key=key)
    rule = match(ruleset, facts) if ruleset is not None else None
    if ruleset is None or rule is None:
        msg = f"{key}: no rule of {bucket} matches; verify before the rule is retired"
        raise OriginError(msg)
    try:
        fetch_plan, item = plan(rule, ruleset, bucket, facts, kind="scan")
    except PlanRefused as error:
        raise OriginError(str(error)) from error
    async with services.fetcher.session(fetch_plan, item, lane=Lane.COLD) as session:
        answer = await session.open()
        if isinstance(answer, PassedRedirect):
            msg = f"{key}: the origin answers {answer.status}, neither the object nor 404"
            raise OriginError(msg, status=answer.status)
        yield answer if isinstance(answer, Fetched) else None
