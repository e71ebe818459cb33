"""Inventory by crawling index pages: nginx and Apache autoindex in HTML, nginx autoindex in JSON.

Owns reading such a page and walking below it. Links that lead up, aside, or carry a query (Apache's column
sorting) are no entries. Completeness is the index's word, and sizes in HTML are rounded, so only exact ones
(nginx prints bytes, JSON too) are taken. Options: `strip_prefix` is not needed: keys are relative to the
start page, with `prefix` put in front.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import httpx
import orjson

from scheduler.scan.inventory.entry import Entry
from scheduler.scan.inventory.manifest import ManifestBroken
from workers.errors import ConfigError, described

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scheduler.runtime import Services

#: Pages fetched at the same time, and tries of one page.
CONCURRENCY = 4
TRIES = 3
#: Directories below which the walk gives up: a site that links to itself for ever.
MAX_DEPTH = 64

_NGINX_TAIL = re.compile(r"\s*(\d{2}-[A-Z][a-z]{2}-\d{4} \d{2}:\d{2})\s+(-|\d+)\s*$")


class _Link(NamedTuple):
    href: str
    #: Text behind the link, up to the next one.
    tail: str


class _Page(HTMLParser):
    """Collects links with the text that follows each."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[_Link] = []
        self._href: str | None = None
        self._inside = False
        self._tail: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._close()
            self._href = dict(attrs).get("href")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._href is not None and not self._inside:
            self._tail.append(data)

    def close(self) -> None:
        super().close()
        self._close()

    def _close(self) -> None:
        if self._href:
            self.links.append(_Link(self._href, "".join(self._tail)))
        self._href = None
        self._tail = []


async def entries(argument: Any, options: dict[str, Any], services: Services) -> AsyncIterator[Entry]:
    """Every file below the index page at `argument`.

    Raises:
        ConfigError: it is no URL, or an option is unknown.
        ManifestBroken: a page could not be fetched, or is no index.
    """
    del services
    start = str(argument)
    unknown = sorted(set(options) - {"prefix"})
    if unknown or not start.startswith(("http://", "https://")):
        what = f"unknown option {unknown[0]!r}; known: prefix" if unknown else f"{start!r} is no http(s) URL"
        msg = f"http_index: {what}"
        raise ConfigError(msg)
    root = start if start.endswith("/") else start + "/"
    prefix = str(options.get("prefix", ""))
    pending = [root]
    seen = {root}
    async with httpx.AsyncClient(timeout=60, follow_redirects=False) as client:
        while pending:
            pages, pending = pending[-CONCURRENCY:], pending[:-CONCURRENCY]
            for url, listed in zip(
                pages, await asyncio.gather(*(_read(client, page) for page in pages)), strict=True
            ):
                for name, target, entry in listed:
                    if not target.startswith(root) or target == root:
                        continue
                    if name.endswith("/"):
                        if target not in seen:
                            if target.removeprefix(root).count("/") > MAX_DEPTH:
                                msg = f"{url}: deeper than {MAX_DEPTH} directories"
                                raise ManifestBroken(msg)
                            seen.add(target)
                            pending.append(target)
                    else:
                        yield entry._replace(key=prefix + _key(url, target.removeprefix(root)))


def _key(page: str, path: str) -> str:
    try:
        return unquote_to_bytes(path).decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        msg = f"{page}: the name {path!r} is not UTF-8"
        raise ManifestBroken(msg) from error


async def _read(client: httpx.AsyncClient, url: str) -> list[tuple[str, str, Entry]]:
    """The entries of one page as (name, absolute URL, entry without its key)."""
    answer = await _get(client, url)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            return [_json_entry(url, row) for row in orjson.loads(answer.content)]
        if kind != "text/html":
            msg = f"{url}: an index page is expected, found {kind or 'no content type'}"
            raise ManifestBroken(msg)
        page = _Page()
        page.feed(answer.content.decode(answer.charset_encoding or "utf-8", "surrogateescape"))
        page.close()
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{url}: {error}"
        raise ManifestBroken(msg) from error
    rows: list[tuple[str, str, Entry]] = []
    for link in page.links:
        try:
            parts = urlsplit(link.href)
            target = urljoin(url, link.href)
        except ValueError as error:
            msg = f"{url}: the link {link.href!r}: {error}"
            raise ManifestBroken(msg) from error
        if parts.query or parts.fragment or parts.scheme not in {"", "http", "https"}:
            continue
        rows.append((parts.path, target, _html_entry(link.tail)))
    return rows


async def _get(client: httpx.AsyncClient, url: str) -> httpx.Response:
    for attempt in range(TRIES):
        try:
            answer = await client.get(url)
        except httpx.HTTPError as error:
            if attempt == TRIES - 1:
                msg = f"{url}: {described(error)}"
                raise ManifestBroken(msg) from error
        else:
            if answer.status_code == 200:
                return answer
            if answer.status_code < 500 or attempt == TRIES - 1:
                msg = f"{url}: status {answer.status_code}"
                raise ManifestBroken(msg)
        await asyncio.sleep(0.5 * 2**attempt)
    msg = f"{url}: gave up"
    raise ManifestBroken(msg)


def _json_entry(url: str, row: dict[str, Any]) -> tuple[str, str, Entry]:
    from urllib.parse import quote

    name = str(row["name"]) + ("/" if row.get("type") == "directory" else "")
    changed = row.get("mtime")
    moment = None
    if changed:
        moment = dt.datetime.strptime(changed, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=dt.UTC).timestamp()
    target = urljoin(url, quote(name, safe="/"))
    return name, target, Entry("", int(row["size"]) if "size" in row else None, None, moment)


def _html_entry(tail: str) -> Entry:
    """Size and time where the page prints them exactly, as nginx does."""
    found = _NGINX_TAIL.match(tail)
    if found is None:
        return Entry("")
    size = None if found[2] == "-" else int(found[2])
    moment = dt.datetime.strptime(found[1], "%d-%b-%Y %H:%M").replace(tzinfo=dt.UTC)
    return Entry("", size, None, moment.timestamp())
