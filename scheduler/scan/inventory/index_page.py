"""Reading one index page: HTML of nginx, Apache and their like, JSON of nginx. PURE.

Owns telling a listing from any other page (a login, a site's own index.html, "It works!"), because a page
that is no listing is a hole in the inventory; and the exact sizes and times of its entries: sizes in HTML are
mostly rounded, only those that nginx prints in bytes are taken.
"""

from __future__ import annotations

import codecs
import datetime as dt
import html
import re
from html.entities import html5
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from scheduler.scan.inventory.entry import Entry
from scheduler.scan.inventory.locations import Location, is_name, led_to, location

_NGINX_TAIL = re.compile(r"\s*(\d{2}-[A-Z][a-z]{2}-\d{4} \d{2}:\d{2})\s+(-|\d+)\s*$")
#: Titles and headings of listings: nginx, Apache, lighttpd; Python, Tomcat, rclone; Jetty; IIS.
_TITLE = re.compile(
    r"\s*(?:index of\b.*/|directory listing (?:for|of)\b|directory:\s*/|\S+ - /\S*\s*$)",
    re.IGNORECASE | re.DOTALL,
)
_PARENT = frozenset(
    {"..", "../", "parent directory", "parent directory/", "[to parent directory]", "parent folder"}
)
_HREF = re.compile(r"""\bhref\s*=\s*("[^"]*"|'[^']*'|[^\s>]+)""", re.IGNORECASE)
_REFERENCE = re.compile(r"&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);?")
#: A whole tag; quotes count only behind `=`. Nothing in it is tried twice.
_TAG = re.compile(r"""<(/?)([a-zA-Z][^\s/>]*+)(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+>""")
_HEADINGS = frozenset({"title", "h1", "h2"})
#: Elements whose text is no markup, by name, and their end.
_RAW_TEXT = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in ("script", "style")}
_PASSWORD = re.compile(r"""\btype\s*=\s*["']?password["'\s/>]""", re.IGNORECASE)
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
#: Bytes of a page in which its charset must stand.
_HEAD_BYTES = 4096


class NoIndex(ValueError):
    """The page is no listing; the message says what was found instead."""


class Listed(NamedTuple):
    """One link of a listing."""

    target: Location
    #: What is known of it; without its key.
    entry: Entry


class Link(NamedTuple):
    """A link as the page has it."""

    href: str
    text: str
    #: Text behind the link, up to the next one.
    tail: str


class _Reader:
    """Collects links with their text and the text that follows each, and what tells a listing.

    One pass over the page, whatever is in it: as in browsers, what is never closed takes the rest with it.
    """

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.base: str | None = None
        self.titles: list[str] = []
        self.password = False
        self._href: str | None = None
        self._in_link = False
        self._title: list[str] | None = None
        self._text: list[str] = []
        self._tail: list[str] = []

    def read(self, page: str) -> None:
        """The whole of a page."""
        at = 0
        while (mark := page.find("<", at)) >= 0:
            if mark > at:
                self._data(page[at:mark])
            tag = _TAG.match(page, mark)
            if tag is None:
                at = self._no_tag(page, mark)
                continue
            at = tag.end()
            name = tag[2].lower()
            if tag[1]:
                self._end(name)
            else:
                self._start(name, tag[0])
                if name in _RAW_TEXT:
                    closed = _RAW_TEXT[name].search(page, at)
                    at = len(page) if closed is None else closed.start()
        if at < len(page):
            self._data(page[at:])
        self._end_title()
        self._end_link()

    def _no_tag(self, page: str, mark: int) -> int:
        """Where it goes on behind a `<` that begins no tag: a comment, a declaration, or a plain sign."""
        if page.startswith("<!--", mark):
            closed, length = page.find("-->", mark + 2), 3
        elif page.startswith(("<!", "<?", "</"), mark) or page[mark + 1 : mark + 2].isalpha():
            closed, length = page.find(">", mark), 1
        else:
            self._data("<")
            return mark + 1
        return len(page) if closed < 0 else closed + length

    def _start(self, name: str, tag: str) -> None:
        if name == "a":
            self._end_link()
            self._href = _href(tag)
            self._in_link = True
        elif name == "base" and self.base is None:
            self.base = _href(tag)
        elif name in _HEADINGS:
            self._end_title()
            self._title = []
        elif name == "input":
            self.password |= _PASSWORD.search(tag) is not None

    def _end(self, name: str) -> None:
        if name == "a":
            self._in_link = False
        elif name in _HEADINGS:
            self._end_title()

    def _data(self, data: str) -> None:
        if self._title is not None:
            self._title.append(data)
        if self._href is not None:
            (self._text if self._in_link else self._tail).append(data)

    def _end_title(self) -> None:
        if self._title is not None:
            self.titles.append(html.unescape("".join(self._title)))
        self._title = None

    def _end_link(self) -> None:
        if self._href:
            text, tail = html.unescape("".join(self._text)), html.unescape("".join(self._tail))
            self.links.append(Link(self._href, text, tail))
        self._href = None
        self._text, self._tail = [], []


def _href(tag: str) -> str | None:
    found = _HREF.search(tag)
    if found is None:
        return None
    value = found[1]
    return _unescaped(value[1:-1] if value[0] in "\"'" else value)


def _unescaped(value: str) -> str:
    """An attribute's text as browsers read it: `&copy=` is no character there."""

    def one(found: re.Match[str]) -> str:
        text = found[0]
        if not text.endswith(";") and text[1] != "#" and value[found.end() : found.end() + 1] == "=":
            return text
        if not text.endswith(";") and text[1] != "#" and text[1:] not in html5:
            return text  # a longer word that only begins like a reference
        return html.unescape(text)

    return _REFERENCE.sub(one, value)


def read_html(url: Location, body: bytes, charset: str | None) -> list[Listed]:
    """The links of an HTML listing; `charset` is that of the answer's header.

    Raises:
        NoIndex: it is another page, or its charset is unknown.
        ValueError: a link is no address.
    """
    page = _Reader()
    page.read(_decoded(body, charset))
    base = url if not page.base else _based(url, page.base)
    links: list[tuple[Link, Location]] = []
    for link in page.links:
        try:
            target = led_to(base, link.href, link.text)
        except ValueError as error:
            msg = f"the link {link.href[:200]!r}: {error}"
            raise ValueError(msg) from error
        if target is not None:
            links.append((link, target))
    if not _is_listing(url, page, links):
        title = next((title.strip() for title in page.titles if title.strip()), "")
        what = (
            "an empty page"
            if not body.strip()
            else f"a page titled {title[:80]!r}"
            if title
            else "another page"
        )
        msg = f"no index page: {what}" + (" that asks for a password" if page.password else "")
        raise NoIndex(msg)
    return [Listed(target, _entry(link.tail)) for link, target in links]


def _based(url: Location, href: str) -> Location:
    if href.startswith(("http://", "https://")):
        return location(href)
    return led_to(url, href, "") or url


def _decoded(body: bytes, charset: str | None) -> str:
    if body.startswith(codecs.BOM_UTF8):
        return body[len(codecs.BOM_UTF8) :].decode("utf-8", "surrogateescape")
    if charset is None and (found := _CHARSET.search(body[:_HEAD_BYTES])):
        charset = found[1].decode("ascii")
    try:
        return body.decode(charset or "utf-8", "surrogateescape")
    except LookupError as error:
        msg = f"the page's charset {charset!r} is not known"
        raise NoIndex(msg) from error


def _is_listing(url: Location, page: _Reader, links: list[tuple[Link, Location]]) -> bool:
    if page.password:
        return False
    if any(_TITLE.match(title) for title in page.titles):
        return True
    here = url.folder
    parents = [link for link, target in links if target.above(here) and target != here]
    if any(link.text.strip().lower() in _PARENT for link in parents):
        return True
    # Nothing says so: then all links of this server lead into the folder, and show the names they lead to.
    own = [(link, target) for link, target in links if target.server == url.server and not target.above(here)]
    inside = [link for link, target in own if target.below(here) is not None]
    return bool(inside) and len(inside) == len(own) and all(_shows(link) for link in inside)


def _shows(link: Link) -> bool:
    """Whether a link's text is its name; a name that is cut is one, too."""
    text = link.text.strip()
    return is_name(link.href, text) or is_name(link.href.rpartition("/")[2], text)


def _entry(tail: str) -> Entry:
    """Size and time where the page prints them exactly, as nginx does."""
    found = _NGINX_TAIL.match(tail)
    if found is None:
        return Entry("")
    size = None if found[2] == "-" else int(found[2])
    return Entry("", size, None, _moment(found[1], "%d-%b-%Y %H:%M"))


def _moment(text: str, form: str) -> float | None:
    """Unix seconds; a date that there is not says nothing about the file."""
    try:
        return dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC).timestamp()
    except ValueError:
        return None


def read_json(url: Location, body: bytes) -> list[Listed]:
    """The entries of an autoindex in JSON.

    Raises:
        NoIndex: it is other JSON, or none.
    """
    try:
        rows = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        msg = f"no index page: {error}"
        raise NoIndex(msg) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and _named(row) for row in rows):
        msg = "no index page: JSON, but no list of entries with `name` and `type`"
        raise NoIndex(msg)
    return [_json_entry(url, row) for row in rows]


def _named(row: dict[str, Any]) -> bool:
    return isinstance(row.get("name"), str) and isinstance(row.get("type"), str) and row["name"] != ""


def _json_entry(url: Location, row: dict[str, Any]) -> Listed:
    name = row["name"] + ("/" if row["type"] == "directory" else "")
    size, changed = row.get("size"), row.get("mtime")
    moment = _moment(changed, "%a, %d %b %Y %H:%M:%S GMT") if isinstance(changed, str) else None
    target = led_to(url, "./" + quote(name, safe="/"), "")
    assert target is not None  # its marks are encoded
    return Listed(target, Entry("", size if type(size) is int and size >= 0 else None, None, moment))
