"""What one received record turns out to be.

Owns the closed union that logs and webhooks share: a miss, a deletion, something that is neither, or a
refusal with its reason. PURE.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.misses.event import MissEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """The key was deleted at the store: it must not come back (S15)."""

    bucket: str
    key: str
    #: Unix seconds; 0 when unknown.
    at: float = 0.0
    #: By a lifecycle rule of the store: not brought to an origin that is written back to.
    expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The key was written at the store, by whomever: its origin has to have it where a rule writes back."""

    bucket: str
    key: str
    #: Why it is ignored everywhere else.
    otherwise: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """A well-formed record that is no miss: a hit, an upload, another method, an excluded key."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A record that could not be taken; nothing of it is enqueued."""

    #: snake_case constant: not_json, not_an_event, empty_key, key_too_long, control_character, not_utf8, …
    reason: str
    detail: str = ""


Taken = MissEvent | Deletion | Written | Ignored | Refused
