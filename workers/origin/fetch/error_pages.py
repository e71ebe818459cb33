"""The soft-404 guard of one fetch (F59): asks for random keys, looks at the beginning of a body, refuses.

Owns the I/O around the pure recognition in `soft404`. Asking goes through the session's own slot and client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from workers.errors import OriginError, SoftNotFound
from workers.origin.integrity.soft404 import (
    HEAD_BYTES,
    Fingerprint,
    Learner,
    fingerprint,
    html_where_no_html_belongs,
    look_alike,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from workers.origin.fetch.stream import BodyStream
    from workers.origin.wire.response import Answer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ErrorPages:
    """Error pages that say 200, by host and prefix; one per process."""

    learner: Learner

    async def learn(
        self, host: str, path: str, ask: Callable[[str], Awaitable[Answer]]
    ) -> Fingerprint | None:
        """What `host` gives for random keys beside `path`; None when it says 404, or cannot be asked now."""

        async def sample(name: str) -> Fingerprint | None:
            answer = await ask(name)
            if answer.status != 200:
                await answer.drain()
                return None
            body, _ = await answer.beginning(HEAD_BYTES)
            return _describe(answer, body, name, answer.raw.content_length)

        try:
            return await self.learner.page(host, path, sample)
        except OriginError as error:
            log.warning("soft_404_not_learned", origin=host, reason=error.reason)
            return None

    async def check(self, stream: BodyStream, path: str, page: Fingerprint | None) -> None:
        """Look at the beginning of a body.

        Raises:
            SoftNotFound: it is an error page.
        """
        body = await stream.look(HEAD_BYTES)
        answer = stream.answer
        why = html_where_no_html_belongs(path, answer.header("content-type") or "", body)
        if why is None and page is not None:
            why = look_alike(page, _describe(answer, body, path, stream.length))
        if why is not None:
            raise SoftNotFound(f"{stream.origin}: {why}", origin=stream.origin)


def _describe(answer: Answer, body: bytes, name: str, length: int | None) -> Fingerprint:
    return fingerprint(
        status=answer.status,
        content_type=answer.header("content-type") or "",
        body=body,
        name=name,
        length=length,
        landed=answer.url if answer.hops else "",
    )
