"""Where a key of a bucket goes on its way back: what workers are told of rules that write back.

Owns the record and its text in Redis. Which route a key takes depends on the key alone. Pure; what makes
routes of rules is `scheduler.rules.write_back`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from workers.errors import WireError
from workers.plan import Origin, Timeouts

if TYPE_CHECKING:
    from collections.abc import Sequence

Mode = Literal["off", "async", "sync"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackRoute:
    """One rule: which keys are its own, and where they lie at its origin."""

    rule: str
    mode: Mode = "off"
    #: Of the keys that are its own.
    prefix: str = ""
    suffix: str = ""
    origin: Origin = field(default_factory=lambda: Origin(host=""))
    timeouts: Timeouts = field(default_factory=Timeouts)
    #: The host was named in the configuration file: it may be loopback or private (B11).
    trusted: bool = False
    #: What is cut from both ends of a key, and put there instead.
    cut_front: str = ""
    front: str = ""
    cut_end: str = ""
    end: str = ""

    def holds(self, key: str) -> bool:
        """Whether a key is the rule's own."""
        return key.startswith(self.prefix) and key.endswith(self.suffix)

    def path(self, key: str) -> str:
        """Where it lies at the origin, below its base path, decoded."""
        return f"{self.front}{key[len(self.cut_front) : len(key) - len(self.cut_end)]}{self.end}"


def route_for(routes: Sequence[BackRoute], key: str) -> BackRoute | None:
    """The first route whose key it is, where that one writes back; None else."""
    for route in routes:
        if route.holds(key):
            return route if route.mode != "off" else None
    return None


_ROUTES: TypeAdapter[tuple[BackRoute, ...]] = TypeAdapter(tuple[BackRoute, ...])


def encode_routes(routes: Sequence[BackRoute]) -> str:
    """As it stands in Redis; empty when nothing writes back."""
    if all(route.mode == "off" for route in routes):
        return ""
    return orjson.dumps(_ROUTES.dump_python(tuple(routes), mode="json", exclude_defaults=True)).decode()


def decode_routes(text: str) -> tuple[BackRoute, ...]:
    """Read it.

    Raises:
        WireError: not of this shape.
    """
    if not text:
        return ()
    try:
        return _ROUTES.validate_json(text)
    except ValidationError as error:
        raise WireError(f"routes of the way back: {error.errors()[0]['msg']}") from error
