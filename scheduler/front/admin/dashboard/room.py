"""What a room of the page is, and how one says that a thing is not there.

Owns the words that rooms and `pages` share.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from scheduler.runtime import Services

#: Rows of one page of failures or keys.
PAGE: Final = 100
#: Seconds that a page looks for rows among very many.
LOOKED_S: Final = 0.15
#: Pages whose last known state is kept for a Redis that is away.
_REMEMBERED: Final = 32


class Missing(Exception):
    """What the address names does not exist; the page says so, with 404."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One page: its path, its name in the navigation, and what its template is given besides the reading."""

    path: str
    name: str
    template: str
    more: Callable[[Services, Request], Awaitable[dict[str, Any]]] | None = None
    #: What the template is given when nothing can be read and nothing was read before.
    nothing: dict[str, Any] = field(default_factory=dict)
    #: Whether its `main` follows the state while it is open.
    live: bool = True
    #: Whether the navigation names it.
    named: bool = True


class LastKnown:
    """What pages were given last, by address, with the Unix time; for when it cannot be read."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[float, dict[str, Any]]] = OrderedDict()

    def keep(self, path: str, query: str, at: float, more: dict[str, Any]) -> None:
        """Remember it, and forget the eldest beyond a few."""
        self._known[path, query] = (at, more)
        self._known.move_to_end((path, query))
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def of(self, path: str, query: str) -> tuple[float, dict[str, Any]] | None:
        """Time and values, or None."""
        return self._known.get((path, query))


def asked(request: Request, name: str) -> str:
    """A thing that the address names: in its path, or as a parameter; empty when it names none."""
    value: str = request.path_params.get("name") or request.query_params.get(name, "")
    return value
