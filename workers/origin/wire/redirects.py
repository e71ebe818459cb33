"""Where a redirect leads, and what may go along.

Pure. Owns resolving `Location` without touching its bytes (F16 to F18, P11), the refusals of L11 and F56, and
which headers survive a hop to another host (H10, P12). Knows nothing of connections; addresses are the
guard's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from workers.errors import RedirectRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from workers.answers import Headers
    from workers.plan import RedirectPolicy

#: Statuses that can be followed; other 3xx are passed on (A8).
FOLLOWED = frozenset({301, 302, 303, 307, 308})

#: Never sent to another host, whatever the rule says.
_NEVER_ELSEWHERE = frozenset({"authorization", "proxy-authorization", "cookie2", "host"})
#: Passed headers that say nothing about the client's identity; they stay on a hop to another host.
_HARMLESS = frozenset({"accept", "accept-language", "user-agent"})

_NEVER_IN_HOSTS = " \t\\%<>\"'[]:"
_DEFAULT_PORT = {"http": "80", "https": "443"}


class Hops(NamedTuple):
    """How the redirects of one request are followed, within the plan's policy; made for every request."""

    #: False: not at all.
    follow: bool = True
    #: Awaited with `host[:port]` before a redirect to another host is followed.
    before: Callable[[str], Awaitable[None]] | None = None
    #: Where the candidate was first asked, when the request begins where its redirects had led: headers and
    #: trust are then those of a redirect.
    start_url: str | None = None
    #: A redirect with this status is not followed (F28).
    stop_at: int | None = None


#: As the plan has it.
AS_PLANNED = Hops()
NOT_FOLLOWED = Hops(follow=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An absolute http(s) URL in its parts; nothing in it was re-quoted."""

    scheme: str
    #: `host[:port]` in lower case, default port dropped.
    authority: str
    #: Path and query as they go on the wire; starts with `/`.
    path: str

    @property
    def url(self) -> str:
        """The whole URL."""
        return f"{self.scheme}://{self.authority}{self.path}"


def split_url(url: str) -> Target:
    """Take an absolute URL apart without changing its path or query.

    Raises:
        ValueError: no http(s) URL, user info, or no host.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _DEFAULT_PORT:
        raise ValueError("not an http or https URL")
    rest = rest.partition("#")[0]
    end = next((place for place, char in enumerate(rest) if char in "/?"), len(rest))
    authority, path = rest[:end].lower(), rest[end:]
    if "@" in authority:
        raise ValueError("user info in the URL")
    host, colon, port = authority.rpartition(":")
    if colon and not authority.endswith("]"):
        if port and not (port.isascii() and port.isdigit() and int(port) <= 65535):
            raise ValueError("bad port")
        if not port or port == _DEFAULT_PORT[scheme]:
            authority = host
    else:
        host = authority
    if host.startswith("[") and host.endswith("]"):
        IPv6Address(host[1:-1])  # raises a ValueError of its own
    elif not host or any(char in host for char in _NEVER_IN_HOSTS):
        raise ValueError("no usable host")
    return Target(scheme=scheme, authority=authority, path=path if path.startswith("/") else f"/{path}")


def follow(
    current: str, location: str | None, policy: RedirectPolicy, visited: Collection[str], *, origin: str = ""
) -> str:
    """The URL of the next hop, exactly as `location` spells it (A7).

    Only what cannot stand in a request line is changed: raw blanks and bytes above ASCII are percent-encoded,
    a fragment is cut. With `decode_location` the path is decoded once and encoded as in SEMANTICS.md 3.2
    (F18).

    Raises:
        RedirectRefused: no or unusable Location, other scheme, downgrade, loop, or too many hops.
    """
    here = without_query(current)
    if not location:
        raise RedirectRefused(f"{here} redirects without a Location", origin=origin)
    if any(char < " " or char == "\x7f" for char in location):
        raise RedirectRefused(f"{here} redirects to a Location with control characters", origin=origin)
    try:
        base = split_url(current)
        target = _resolve(base, _wire_safe(location))
    except ValueError as error:
        raise RedirectRefused(
            f"{here} redirects to {without_query(location)[:200]!r}: {error}", origin=origin
        ) from None
    if policy.decode_location:
        path, mark, query = target.path.partition("?")
        path = quote(unquote_to_bytes(path), safe="-._~/")
        target = Target(scheme=target.scheme, authority=target.authority, path=path + mark + query)
    if base.scheme == "https" and target.scheme == "http" and not policy.allow_downgrade:
        raise RedirectRefused(f"{here} redirects from https to {without_query(target.url)}", origin=origin)
    if target.url in visited:
        raise RedirectRefused(f"{here} redirects in a loop to {without_query(target.url)}", origin=origin)
    if len(visited) > policy.max_hops:
        raise RedirectRefused(f"more than {policy.max_hops} redirects, the last from {here}", origin=origin)
    return target.url


def without_query(url: str) -> str:
    """A URL for messages and logs: a query may hold a signature."""
    return url.partition("?")[0]


def keeps_identity(first: str, here: str) -> bool:
    """Whether what identifies us at `first` may go to `here`: the same host and port, not less safe."""
    one, other = split_url(first), split_url(here)
    return one.authority == other.authority and other.scheme in {one.scheme, "https"}


def headers_elsewhere(passed: Headers, new: Headers, *, resend: bool) -> tuple[Headers, Headers]:
    """Which passed and new headers go to another host (H10): none that tell who asks, unless F17."""
    if resend:
        return (
            tuple(pair for pair in passed if pair[0].lower() not in _NEVER_ELSEWHERE),
            tuple(pair for pair in new if pair[0].lower() not in _NEVER_ELSEWHERE),
        )
    return tuple(pair for pair in passed if pair[0].lower() in _HARMLESS), ()


def _wire_safe(location: str) -> str:
    if location.isascii() and " " not in location:
        return location
    return "".join(
        char if "!" <= char <= "~" else quote(char.encode("utf-8", "surrogateescape")) for char in location
    )


def _resolve(base: Target, reference: str) -> Target:
    reference = reference.partition("#")[0]
    head = reference.partition("/")[0].partition("?")[0]
    if ":" in head:
        return split_url(reference)
    if reference.startswith("//"):
        return split_url(f"{base.scheme}:{reference}")
    if reference.startswith("/"):
        return Target(scheme=base.scheme, authority=base.authority, path=reference)
    base_path = base.path.partition("?")[0]
    if reference.startswith("?"):
        path = base_path + reference
    elif not reference:
        path = base.path
    else:
        name, mark, query = reference.partition("?")
        path = _without_dots(base_path[: base_path.rfind("/") + 1] + name) + mark + query
    return Target(scheme=base.scheme, authority=base.authority, path=path)


def _without_dots(path: str) -> str:
    """Remove `.` and `..` as RFC 3986 5.2.4 does; empty segments stay."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for place, segment in enumerate(segments):
        last = place == len(segments) - 1
        if segment == "..":
            if kept:
                kept.pop()
            if last:
                kept.append("")
        elif segment == ".":
            if last:
                kept.append("")
        else:
            kept.append(segment)
    return "/" + "/".join(kept)
