"""Asking an origin for the pages of an inventory: within the budget of its host, as any cold request does.

Owns the wait for a slot; what is asked and what came of it is the source's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from workers.errors import BudgetExhausted, ConfigError
from workers.plan import Lane

if TYPE_CHECKING:
    from workers.origin.control.budget import Slot
    from workers.origin.control.control import OriginControl

#: Pages asked for at the same time, and the most that one may wish.
CONCURRENCY: Final = 4
MOST: Final = 64
#: Seconds after which one asks for a slot again: an origin may be closed for hours.
_WAIT_S: Final = 60.0


async def slot_for(control: OriginControl, url: str) -> Slot:
    """A slot in the budget of a URL's host, over the whole fleet; waits for it, however long that takes."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    while True:
        try:
            return await control.acquire(host, Lane.COLD, timeout_s=_WAIT_S)
        except BudgetExhausted:
            continue


def concurrency_of(options: dict[str, Any], source: str) -> int:
    """The option `concurrency`.

    Raises:
        ConfigError: it is no number from 1 to 64.
    """
    given = options.get("concurrency", CONCURRENCY)
    if str(given).isascii() and str(given).isdecimal() and 1 <= int(given) <= MOST:
        return int(given)
    msg = f"{source}: concurrency {given!r}: 1 to {MOST}"
    raise ConfigError(msg)
