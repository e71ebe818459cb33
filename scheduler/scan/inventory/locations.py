"""Where a link of an index page leads: addresses that are spelled differently and mean the same. PURE.

Owns the joining of links without losing `//` (`urllib.parse.urljoin` drops it), names that a page did not
escape (`a:b.txt`, `a#b.txt`), and one spelling of a path: each segment decoded and encoded anew.
"""

from __future__ import annotations

import re
from html import unescape
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote, unquote_to_bytes, urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
#: Schemes of links that are no files of the page.
_ASIDE = frozenset(
    {"mailto", "javascript", "data", "tel", "sms", "ftp", "ftps", "file", "about", "blob", "ws", "wss",
     "news", "irc", "magnet"}
)  # fmt: skip
_PORTS = {"http": 80, "https": 443}
#: What stays as it is in a segment beside letters, digits and `-._~`.
_SAFE = "!$&'()*+,;=:@"


class Location(NamedTuple):
    """A resource: who serves it, and its path in one spelling."""

    #: `http://host`, with a port that is not the scheme's; no user.
    server: str
    path: str

    @property
    def url(self) -> str:
        """Its address."""
        return self.server + self.path

    @property
    def folder(self) -> Location:
        """Where relative links begin."""
        return Location(self.server, self.path[: self.path.rfind("/") + 1])

    def below(self, root: Location) -> str | None:
        """Its path from `root` (a folder) on; None when it is elsewhere or the root itself."""
        if self.server != root.server or not self.path.startswith(root.path) or self.path == root.path:
            return None
        return self.path[len(root.path) :]

    def above(self, other: Location) -> bool:
        """Whether it is a folder that `other` is in, or `other` itself."""
        return self.server == other.server and other.path.startswith(self.path)


def location(url: str) -> Location:
    """The location of an absolute URL.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(url)
    host = parts.hostname
    if host is None or parts.scheme not in _PORTS:
        msg = f"{url!r} is no http(s) URL"
        raise ValueError(msg)
    host = f"[{host}]" if ":" in host else host
    port = parts.port
    server = f"{parts.scheme}://{host}" + (f":{port}" if port not in {None, _PORTS[parts.scheme]} else "")
    return Location(server, one_spelling(_without_dots(parts.path or "/")))


def one_spelling(path: str) -> str:
    """A path with each segment decoded and encoded again; `%2F` stays what it is."""
    segments = (unquote_to_bytes(segment.encode("utf-8", "surrogateescape")) for segment in path.split("/"))
    return "/".join(quote_from_bytes(segment, safe=_SAFE) for segment in segments)


def name_of(path: str) -> str | None:
    """The key that an encoded path means; None when it is not UTF-8."""
    try:
        return unquote_to_bytes(path).decode("utf-8", "strict")
    except UnicodeDecodeError:
        return None


def led_to(base: Location, href: str, text: str) -> Location | None:
    """Where a link leads; None when it is no file or folder: a sorted view, an anchor, another scheme.

    `text` is what the page shows of the link: where it is the link itself, marks in it belong to the name.

    Raises:
        ValueError: the link is no address.
    """
    href = href.strip(" \t\r\n\f")
    scheme = _SCHEME.match(href)
    if "/" not in href.rstrip("/") and not href.startswith("?") and is_name(href, text):
        href = "./" + href.replace("?", "%3F").replace("#", "%23")
    elif scheme is not None:
        kind = scheme[0][:-1].lower()
        if kind in _ASIDE:
            return None
        if kind in _PORTS and href[scheme.end() :].startswith("//"):
            return None if set("?#") & set(href) else location(href)
        href = "./" + href
    if not href or "?" in href or "#" in href:
        return None
    if href.startswith("//"):
        return location(base.server.partition("//")[0] + href)
    path = href if href.startswith("/") else base.folder.path + href
    return Location(base.server, one_spelling(_without_dots(path)))


def is_name(href: str, text: str) -> bool:
    """Whether the text of a link is its target, perhaps cut by the page (`a-long-na..>`)."""
    text = text.strip()
    href = href.removeprefix("./")
    for form in (href, unquote(href), unescape(href)):
        if text.endswith(("..>", "...", "…")):
            begin = text.removesuffix("..>").rstrip(".…")
            if begin and form.startswith(begin):
                return True
        if text and form.rstrip("/") == text.rstrip("/"):
            return True
    return False


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4, with empty segments kept."""
    kept: list[str] = []
    segments = path.split("/")
    for at, segment in enumerate(segments):
        last = at == len(segments) - 1
        if segment in {".", ".."}:
            if segment == ".." and len(kept) > 1:
                kept.pop()
            if last:
                kept.append("")
        else:
            kept.append(segment)
    return "/".join(kept) or "/"
