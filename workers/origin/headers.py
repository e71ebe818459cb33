"""The headers of a request to an origin (SEMANTICS.md section 4, H5 to H7, H11).

Pure. Owns the fixed headers and the marker by which Ferryman recognises its own requests; passing and
forbidding (H2 to H4) is the planner's.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.origin.answers import Headers

#: Carries the identity of this installation; a list when several stand in a row.
HOP_HEADER = "X-Ferryman-Hop"

try:
    USER_AGENT = f"ferryman/{version('ferryman')}"
except PackageNotFoundError:
    USER_AGENT = "ferryman/0"


def request_headers(passed: Headers, new: Headers, *, instance: str) -> list[tuple[str, str]]:
    """Passed headers, then new ones with a value (H5), then the fixed ones (H6).

    `Host` is left to the client unless `new` sets it. A hop marker among the passed headers is continued, so
    that two installations that point at each other find the loop.
    """
    headers: list[tuple[str, str]] = []
    hops = [instance] if instance else []
    agent = False
    for name, value in passed:
        lower = name.lower()
        if lower == "x-ferryman-hop":
            hops.insert(0, value)
            continue
        agent = agent or lower == "user-agent"
        headers.append((name, value))
    if new:
        replaced = {name.lower() for name, value in new if value}
        headers = [pair for pair in headers if pair[0].lower() not in replaced]
        headers.extend(pair for pair in new if pair[1])
        agent = agent or "user-agent" in replaced
    headers.append(("Accept-Encoding", "identity"))
    if not agent:
        headers.append(("User-Agent", USER_AGENT))
    if hops:
        headers.append((HOP_HEADER, ", ".join(hops)))
    return headers


def went_through(headers: Headers, instance: str) -> bool:
    """Whether a hop marker among the headers names this installation (H11)."""
    if not instance:
        return False
    return any(
        instance in (part.strip() for part in value.split(","))
        for name, value in headers
        if name.lower() == "x-ferryman-hop"
    )
