"""The headers of a request to an origin (SEMANTICS.md section 4, H5 to H7, H11).

Pure. Owns the fixed headers and the marker by which Ferryman recognises its own requests; passing and
forbidding (H2 to H4) is the planner's.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.answers import Headers

#: Carries the identity of this installation; a list when several stand in a row.
HOP_HEADER = "X-Ferryman-Hop"

try:
    USER_AGENT = f"ferryman/{version('ferryman')}"
except PackageNotFoundError:
    USER_AGENT = "ferryman/0"


def fixed_headers(instance: str) -> dict[str, str]:
    """What goes with every request (H6); `Host` is left to the client."""
    fixed = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
    if instance:
        fixed[HOP_HEADER] = instance
    return fixed


def request_headers(passed: Headers, new: Headers, *, instance: str) -> list[tuple[str, str]]:
    """Passed headers, then new ones with a value in the place of passed ones (H5).

    They replace fixed ones of the same name (User-Agent, Host). A hop marker among the passed headers is
    continued, so that two installations that point at each other find the loop.
    """
    replaced = {name.lower() for name, value in new if value}
    headers: list[tuple[str, str]] = []
    for name, value in passed:
        lower = name.lower()
        if lower == "x-ferryman-hop":
            headers.append((HOP_HEADER, f"{value}, {instance}" if instance else value))
        elif lower not in replaced and lower != "accept-encoding":
            headers.append((name, value))
    headers.extend(pair for pair in new if pair[1])
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
