"""The two sides of a scan the other way round: where a key lies at its origin, and when both are alike. PURE.

Owns the way from a place at the origin to our key and back, also of the bounds of ranges.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from scheduler.dispatch.dispatcher import key_problem
from scheduler.rules.keys import is_reserved
from scheduler.rules.write_back import routes
from workers.back_routes import route_for
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.rules.model import RuleSet
    from scheduler.scan.inventory.entry import Entry
    from workers.back_routes import BackRoute
    from workers.store.model import ListedObject

_MD5: Final = re.compile(r"[0-9a-f]{32}")
#: Names of vendors' endpoints whose first label is the bucket.
_BUCKET_FIRST: Final = re.compile(
    r"[a-z0-9][a-z0-9.-]*\.(?:s3[.-][a-z0-9.-]+|cos\.[a-z0-9-]+\.myqcloud\.com|oss-[a-z0-9-]+\.aliyuncs\.com"
    r"|storage\.googleapis\.com)"
)


class Sides:
    """Which keys of a bucket are written back, and where."""

    def __init__(self, found: Sequence[BackRoute], prefix: str) -> None:
        self.routes = found
        self._prefix = prefix

    @classmethod
    def of(cls, ruleset: RuleSet | None, bucket: str, prefix: str) -> Sides:
        """Those of the rules in force.

        Raises:
            ConfigError: none of them writes back.
        """
        found = routes(ruleset) if ruleset is not None else ()
        if all(route.mode == "off" for route in found):
            raise ConfigError(f"no rule of {bucket!r} writes back (origin.write_back)")
        return cls(found, prefix)

    @property
    def writing(self) -> list[BackRoute]:
        """The routes that write back."""
        return [route for route in self.routes if route.mode != "off"]

    def has(self, key: str) -> bool:
        """Whether a key is one that such a scan is about."""
        return (
            key.startswith(self._prefix)
            and not is_reserved(key)
            and key_problem(key) is None
            and route_for(self.routes, key) is not None
        )

    def key_of(self, route: BackRoute, path: str) -> str | None:
        """Our key of what lies at a path of this route's origin; None when it is none of its own."""
        key = here(route, path)
        if key is None or not self.has(key) or route_for(self.routes, key) != route:
            return None
        return key


def bucket_of(route: BackRoute) -> tuple[BackRoute, str]:
    """The same route with the bucket itself as its base, and where its keys begin in the bucket.

    Raises:
        ConfigError: the URL of the origin names no bucket.
    """
    origin = route.origin
    inside = unquote(origin.base_path)[1:]
    if _BUCKET_FIRST.fullmatch(origin.host.partition(":")[0]):
        return replace(route, origin=replace(origin, base_path="/")), inside
    bucket, _, below = inside.partition("/")
    if not bucket:
        message = f"{origin.host}{origin.base_path}: the URL of the origin names no bucket to be listed"
        raise ConfigError(message)
    return replace(route, origin=replace(origin, base_path=f"/{bucket}")), below


def here(route: BackRoute, path: str) -> str | None:
    """Our key of what lies at a path of the origin; None when it is none of the route's."""
    if not (path.startswith(route.front) and path.endswith(route.end)):
        return None
    if len(route.front) + len(route.end) > len(path):
        return None
    middle = path[len(route.front) : len(path) - len(route.end)]
    return f"{route.cut_front}{middle}{route.cut_end}"


def keeps_order(route: BackRoute) -> bool:
    """Whether its keys come in the order of their places: only what they begin with is another there."""
    return not (route.end or route.cut_end)


def place_behind(route: BackRoute, key: str) -> tuple[str | None, bool]:
    """Where to list behind at the origin to see the keys behind one, and whether any can follow.

    Of routes that keep the order.
    """
    if key.startswith(route.cut_front):
        return f"{route.front}{key[len(route.cut_front) :]}" or None, True
    return None, key < route.cut_front


def same(ours: ListedObject, theirs: Entry, compare: Sequence[str]) -> bool:
    """Whether two objects have the same bytes, as far as listings tell and as `compare` wants to know.

    `mtime`: ours is no newer. Where both listings have an MD5, `digest` says it all.
    """
    if "size" in compare and ours.size != theirs.size:
        return False
    if "digest" in compare and theirs.digest and _MD5.fullmatch(ours.etag) and _MD5.fullmatch(theirs.digest):
        return ours.etag == theirs.digest
    return "mtime" not in compare or ours.last_modified <= (theirs.mtime or 0.0)
