"""How the JSON side says no: a status, and `{"error": {"code", "message", …}}`.

Owns the one exception that handlers raise for it, and the wrapper that turns it into an answer. Which errors
of others are refusals, and of which kind, is each module's own; the rest are the application's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response


class Refused(Exception):
    """An answer with HTTP `status` and an `error` of code, message and what else `details` name."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.error = {"code": code, "message": message, **details}


def answering(
    handler: Callable[[Request], Awaitable[Response]],
    as_refused: Callable[[Exception], Refused | None],
    *,
    headers: Mapping[str, str] | None = None,
) -> Callable[[Request], Awaitable[Response]]:
    """The handler, with refusals as JSON; `as_refused` knows which errors of others are some.

    `headers` go with every refusal.
    """

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:
            refused = error if isinstance(error, Refused) else as_refused(error)
            if refused is None:
                raise
            return JSONResponse(
                {"error": refused.error},
                status_code=refused.status,
                headers={**(headers or {}), **refused.headers},
            )

    return answer
