"""The miss event: somebody asked a gateway for a key that the store did not have.

Owns the record that logs, webhooks and the scan turn into before dispatch. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class MissEvent:
    """One miss, already decoded: `key` is the object name (SEMANTICS.md 3.1), never a raw path."""

    bucket: str
    key: str
    #: Sender's id, for idempotence; empty when it gave none.
    id: str = ""
    #: Unix time of the request in seconds; 0 when unknown.
    at: float = 0.0
    method: str = "GET"
    status: int = 404
    #: Scheme the client used; None falls back to the rule's `follow_fallback` (F55).
    scheme: Literal["http", "https"] | None = None
    #: Raw query without `?`.
    query: str = ""
    #: Client request headers, names as sent.
    headers: tuple[tuple[str, str], ...] = ()
    #: For the dependency report only.
    referer: str = ""
    user_agent: str = ""
    #: Client `Host` without port, for F8; empty when unknown.
    host: str = ""
