"""Where a list goes on, as clients carry it: opaque, and nobody's but ours. Pure.

Owns the form of continuation tokens, and of the markers of version 1. A token holds the place alone, so any
front takes it; it is sealed with the secret of the client's own key, for one bucket, prefix and delimiter.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import Final

from scheduler.front.s3.listing.positions import MAX, behind_key, behind_prefix, common_prefix, start_after

_VERSION: Final = b"u1"
_SEAL_BYTES: Final = 16
#: Ends a marker that lies below a common prefix which has not been shown yet.
_NOT_SHOWN: Final = MAX * 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a token is for."""

    bucket: str
    prefix: str
    delimiter: str


def token_of(place: str, scope: Scope, *, secret: str) -> str:
    """The token that goes on at a place."""
    raw = place.encode()
    return base64.urlsafe_b64encode(_seal(raw, scope, secret) + raw).decode().rstrip("=")


def place_of(token: str, scope: Scope, *, secret: str) -> str | None:
    """The place that a token stands for; None when it is none of ours, or was given for another list."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        seal, place = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, _seal(place, scope, secret)):
            return None
        return place.decode()
    except (binascii.Error, ValueError):
        return None


def _seal(place: bytes, scope: Scope, secret: str) -> bytes:
    parts = (_VERSION, scope.bucket.encode(), scope.prefix.encode(), scope.delimiter.encode(), place)
    message = b"".join(b"%d:%s" % (len(part), part) for part in parts)
    return hmac.digest(secret.encode(), message, "sha256")[:_SEAL_BYTES]


def place_behind(name: str, scope: Scope) -> str:
    """Where a list goes on behind what a client names: `start-after`, or `marker`."""
    if name.endswith(_NOT_SHOWN):
        return behind_key(name.removesuffix(_NOT_SHOWN))
    above = common_prefix(name, scope.prefix, scope.delimiter) if name.startswith(scope.prefix) else None
    return max(behind_key(name) if above is None else behind_prefix(above), scope.prefix)


def marker_of(place: str, shown: str, scope: Scope) -> str:
    """`NextMarker` that goes on at a place; `shown` is the last name that was shown."""
    if shown and place == behind_prefix(shown):
        return shown
    marker = start_after(place)
    below = (
        marker.startswith(scope.prefix) and common_prefix(marker, scope.prefix, scope.delimiter) is not None
    )
    return marker + _NOT_SHOWN if below else marker
