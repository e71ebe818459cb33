"""One page of the list of a bucket that is an origin.

Owns the request: under the host's budget, deadlines and address guard, signed, no redirect followed; and
what the fleet learns of the host by it. Knows no order and no rule; the document goes to the caller as it
came.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from workers.errors import (
    OriginError,
    OriginLoop,
    OriginMalformed,
    OriginStatus,
    OriginThrottled,
    OriginUnreachable,
)
from workers.origin.wire.redirects import NOT_FOLLOWED, without_query
from workers.plan import Lane

if TYPE_CHECKING:
    from workers.origin.fetch.shared import SharedByFetches
    from workers.plan import FetchPlan, Origin

#: Longest page: a thousand keys of the greatest length, every sign escaped, take less.
MAX_PAGE_BYTES: Final = 16 * 1024 * 1024
_CODE: Final = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")


async def list_page(
    shared: SharedByFetches,
    plan: FetchPlan,
    origin: Origin,
    url: str,
    *,
    budget_timeout_s: float,
) -> tuple[bytes, str]:
    """The document of one page, and the `Server` that sent it; `url` is the bucket's, with the query encoded.

    Raises:
        OriginError: no answer, or another one than 200 with a whole body.
        BudgetExhausted: no slot of the host's budget came free.
    """
    control, host = shared.control, origin.host
    if control.health.sick and not control.health.usable(host):
        raise OriginUnreachable(f"{host}: it failed lately and is left alone for now", origin=host)
    slot = await control.acquire(host, Lane.HOT, timeout_s=budget_timeout_s)
    began = time.monotonic()
    try:
        answer = await shared.client.ask(plan, origin, url, hops=NOT_FOLLOWED)
        body, cut = await answer.beginning(MAX_PAGE_BYTES)
        await slot.pace(len(body))
        if answer.status != 200:
            raise _refused(host, url, answer.status, body)
        if cut:
            message = (
                f"{host}: LIST {without_query(url)}: the page broke off, or has over {MAX_PAGE_BYTES} bytes"
            )
            raise OriginMalformed(message, origin=host)
    except OriginError as error:
        if not isinstance(error, OriginLoop):
            control.failed(host, error)
        raise
    finally:
        slot.release()
    control.succeeded(host, time.monotonic() - began)
    return body, answer.header("server") or ""


def _refused(host: str, url: str, status: int, body: bytes) -> OriginStatus:
    code = _CODE.search(body)
    message = f"{host}: LIST {without_query(url)}: {status} {code[1].decode() if code else ''}".rstrip()
    if status in {429, 503}:
        return OriginThrottled(message, origin=host, status=status, retry_after_s=None)
    return OriginStatus(message, origin=host, status=status)
