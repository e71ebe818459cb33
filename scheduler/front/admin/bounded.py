"""The body of a request to the admin side, read no further than it may be long.

Owns the bound and its refusal. A stream of events has none: `events` reads it line by line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scheduler.front.admin.refused import Refused

if TYPE_CHECKING:
    from starlette.requests import Request

#: Bytes of an order: names, filters, some thousands of keys.
MAX_BODY_BYTES: Final = 1 << 20


async def body_of(request: Request, *, most_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The whole body.

    Raises:
        Refused: 413, as soon as it is longer.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            raise Refused(413, "too_large", f"more than the {most_bytes} bytes that are read")
    return bytes(body)
