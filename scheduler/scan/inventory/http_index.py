"""Inventory by crawling index pages: nginx and Apache autoindex in HTML, nginx autoindex in JSON.

Owns the walk from page to page; `index_page` reads one, `locations` tells where a link leads. A folder that
cannot be read is a hole: it is named and the walk goes on; only a start page that is no index ends it. Links
that lead up, aside, or carry a query (Apache's column sorting) are no entries. Completeness is the index's
word. Options: `prefix` is put in front of the keys, which are relative to the start page; `concurrency` pages
are asked for at once, each within the budget of its host, as any cold request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from scheduler.scan.inventory.asking import concurrency_of, slot_for
from scheduler.scan.inventory.index_page import read_html, read_json
from scheduler.scan.inventory.locations import Location, location, name_of
from scheduler.scan.inventory.manifest import ManifestBroken, fetch
from workers.background import end
from workers.errors import ConfigError, FerrymanError, described

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scheduler.runtime import Services
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.inventory.index_page import Listed
    from scheduler.scan.inventory.walk import Walk
    from workers.origin.control.control import OriginControl

#: Tries of one page.
TRIES = 3
#: Bytes of one page: a million files or so. What is longer is no folder that anybody made.
MAX_PAGE_BYTES = 128 << 20
#: Directories below which the walk does not go: a site that links to itself for ever.
MAX_DEPTH = 64
_HTML = frozenset({"text/html", "application/xhtml+xml"})


class _PageUnread(FerrymanError):
    """A page cannot be had or is no index; the message is the reason."""


async def blocks(
    argument: Any, options: dict[str, Any], services: Services, walk: Walk
) -> AsyncIterator[list[Entry]]:
    """Every file below the index page at `argument`, page by page.

    Raises:
        ConfigError: it is no URL, or an option is unknown.
        ManifestBroken: the start page could not be fetched, or is no index.
    """
    start = str(argument)
    unknown = sorted(set(options) - {"prefix", "concurrency"})
    at_once = concurrency_of(options, "http_index")
    try:
        parts = urlsplit(start)
        root = location(parts._replace(query="", fragment="").geturl())
    except ValueError:
        root = None
    if unknown or root is None:
        known = "known: concurrency, prefix"
        what = f"unknown option {unknown[0]!r}; {known}" if unknown else f"{start!r} is no http(s) URL"
        msg = f"http_index: {what}"
        raise ConfigError(msg)
    if not root.path.endswith("/"):
        root = root._replace(path=root.path + "/")
    user = (parts.username or "", parts.password or "") if parts.username or parts.password else None
    async with httpx.AsyncClient(timeout=60, follow_redirects=False, auth=user) as client:
        crawl = _Crawl(
            client,
            root,
            walk,
            control=services.control,
            at_once=at_once,
            prefix=str(options.get("prefix", "")),
            query=parts.query,
        )
        async for block in crawl.run():
            yield block


class _Crawl:
    """One walk below a start page."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        root: Location,
        walk: Walk,
        *,
        control: OriginControl,
        at_once: int,
        prefix: str,
        query: str,
    ) -> None:
        self._client = client
        self._control = control
        self._at_once = at_once
        self._root = root
        self._walk = walk
        self._prefix = prefix
        #: That of the start page goes with every page: it may be what lets us in.
        self._query = f"?{query}" if query else ""
        self._pending = [root]
        self._seen = {root}

    async def run(self) -> AsyncIterator[list[Entry]]:
        running: dict[asyncio.Task[list[Listed]], Location] = {}
        try:
            while self._pending or running:
                while self._pending and len(running) < self._at_once:
                    place = self._pending.pop()
                    running[asyncio.create_task(self._page(place))] = place
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    place = running.pop(task)
                    try:
                        listed = task.result()
                    except _PageUnread as error:
                        if place == self._root:
                            msg = f"{place.url}: {error}"
                            raise ManifestBroken(msg) from error
                        self._walk.miss(place.url, str(error))
                        continue
                    self._walk.pages += 1
                    yield self._entries(place, listed)
        finally:
            await end(*running)

    def _entries(self, page: Location, listed: list[Listed]) -> list[Entry]:
        found: list[Entry] = []
        for target, entry in listed:
            path = target.below(self._root)
            if path is None:
                if not target.above(page):
                    self._walk.outside += 1
                continue
            name = name_of(path)
            if name is None:
                self._walk.miss(target.url, "its name is not UTF-8")
            elif not path.endswith("/"):
                found.append(entry._replace(key=self._prefix + name))
            elif target not in self._seen:
                self._seen.add(target)
                if self._walk.skips(self._prefix + name):
                    continue
                if path.count("/") > MAX_DEPTH:
                    self._walk.miss(target.url, f"deeper than {MAX_DEPTH} directories")
                else:
                    self._pending.append(target)
        return found

    async def _page(self, place: Location) -> list[Listed]:
        answer, body = await self._get(place)
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            if kind == "application/json":
                return await asyncio.to_thread(read_json, place, body)
            if kind not in _HTML:
                what = "an empty answer" if not body else f"found {kind or 'no content type'}"
                msg = f"an index page is expected, {what}"
                raise _PageUnread(msg)
            charset = answer.charset_encoding
            return await asyncio.to_thread(read_html, place, body, charset)
        except ValueError as error:
            raise _PageUnread(str(error)) from error

    async def _get(self, place: Location) -> tuple[httpx.Response, bytes]:
        reason = ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(0.5 * 2 ** (attempt - 1))
            try:
                async with await slot_for(self._control, place.url) as slot:
                    answer, body = await fetch(
                        self._client, place.url + self._query, most_bytes=MAX_PAGE_BYTES
                    )
                    await slot.pace(len(body))
            except (httpx.InvalidURL, ValueError) as error:
                raise _PageUnread(str(error)) from error
            except httpx.HTTPError as error:
                reason = described(error)
                continue
            if answer.status_code == 200:
                return answer, body
            reason = f"status {answer.status_code}"
            if answer.has_redirect_location:
                reason += f" to {answer.headers['location'][:200]}"
            if answer.status_code < 500 and answer.status_code != 429:
                break
        raise _PageUnread(reason)
