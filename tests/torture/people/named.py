"""Whose bytes they are, as far as they say so; for messages. PURE."""

from __future__ import annotations

from torture.content import at_origin, body_of


def named(key: str, body: bytes) -> str:
    """Of an origin, or of a client that wrote them."""
    if at_origin(key):
        for version in range(50):
            if body == body_of(key, version):
                return f"the origin's version {version}"
    return f"{len(body)} bytes {body[:40]!r}"
