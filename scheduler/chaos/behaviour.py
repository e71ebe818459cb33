"""The list of behaviours: a name, what it does, its parameters, and the coroutine that does it.

Owns registration and the default behaviour `ok`. The behaviours themselves are in `bodies`, `answers` and
`detours`; `catalogue` joins them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.chaos.exchange import Exchange

Behave = Callable[["Exchange"], Awaitable[None]]

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One way to answer."""

    name: str
    #: One sentence for `--list`.
    summary: str
    #: Parameter name to its meaning.
    params: Mapping[str, str]
    run: Behave


REGISTERED: dict[str, Behaviour] = {}


def behaviour(name: str, summary: str, **params: str) -> Callable[[Behave], Behave]:
    """Register a coroutine under a name."""

    def register(run: Behave) -> Behave:
        REGISTERED[name] = Behaviour(name=name, summary=summary, params=params, run=run)
        return run

    return register


def requested_range(ex: Exchange) -> tuple[int, int] | None:
    """First and last position that the client asked for, within the object; None for all of it.

    `If-Range` counts: a validator that is not the object's makes it None.
    """
    wanted = _RANGE.match(ex.request.header("range") or "")
    if wanted is None or (not wanted[1] and not wanted[2]):
        return None
    condition = ex.request.header("if-range")
    if condition is not None and condition not in {ex.item.header("etag"), ex.item.header("last-modified")}:
        return None
    size = len(ex.item.body)
    if not wanted[1]:
        return max(0, size - int(wanted[2])), size - 1
    last = int(wanted[2]) if wanted[2] else size - 1
    return int(wanted[1]), min(last, size - 1)


async def serve(ex: Exchange, *extra: tuple[str, str]) -> None:
    """Answer as a good origin does: length, validators, one range, HEAD."""
    body, size = ex.item.body, len(ex.item.body)
    wanted = requested_range(ex)
    if wanted is not None and wanted[0] >= size:
        await ex.head(416, [("Content-Range", f"bytes */{size}"), ("Content-Length", "0")])
        return
    headers = [*ex.item.headers, ("Accept-Ranges", "bytes"), *extra]
    status = 200
    if wanted is not None:
        first, last = wanted
        body, status = body[first : last + 1], 206
        headers.append(("Content-Range", f"bytes {first}-{last}/{size}"))
    await ex.head(status, [*headers, ("Content-Length", str(len(body)))])
    if ex.request.method != "HEAD":
        await ex.raw(body)


@behaviour(
    "ok",
    "Answers as a good origin: length, strong ETag, Last-Modified, ranges, HEAD.",
    size="bytes of a generated object (16384)",
)
async def ok(ex: Exchange) -> None:
    """See the summary."""
    await serve(ex)
