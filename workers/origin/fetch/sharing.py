"""May others have what one client's request brought? (RFC 9111, sections 3 and 4.1; F61)

Pure. A key holds one object for everybody, so an answer that is meant for one client must neither be stored
nor shared with whoever waits for the same key. An answer to a request that carried nothing of a client's,
under a rule that never lets a `Cookie` through, is what anybody would have got, whatever its `Cache-Control`
says: a migration moves it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from workers.answers import Headers
    from workers.plan import FetchPlan

#: Why an answer is for one client only; also reasons of `Skipped`.
Withheld = Literal["no_store", "private", "vary"]

_HOP = "x-ferryman-hop"


def withheld(headers: Headers, plan: FetchPlan) -> Withheld | None:
    """Why an answer with these headers to a request of this plan is not for others; None when it is."""
    if not plan.headers and not plan.passes_cookie:
        return None
    carried = {name.lower() for name, _ in plan.headers} - {_HOP}
    if not carried and not plan.passes_cookie:
        return None
    directives = {part.partition("=")[0] for part in _members(headers, "cache-control")}
    if "no-store" in directives:
        return "no_store"
    if "private" in directives:
        return "private"
    if plan.passes_cookie:
        carried.add("cookie")
    return "vary" if any(name == "*" or name in carried for name in _members(headers, "vary")) else None


def _members(headers: Headers, wanted: str) -> list[str]:
    """Members of a list header, in lower case; quoted commas split too, which only adds nonsense."""
    return [
        part.strip().lower() for name, value in headers if name.lower() == wanted for part in value.split(",")
    ]
