"""Inventory from sitemap.xml, through sitemap indexes, plain or gzip.

Owns the sitemap protocol (sitemaps.org): `urlset/url/loc`, `lastmod`, `sitemapindex/sitemap/loc`. What is no
sitemap (a feed, a login page) is refused; one of an index's sitemaps that cannot be read, and a URL that
names no key, are named and passed over. Completeness is the site's word. Options: `strip_prefix` (of the
path), `host` (only URLs of this host; default: that of the sitemap).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gzip
import io
import re
import zlib
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import httpx
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from scheduler.rules.keys import KeyRefused, client_path
from scheduler.scan.inventory.asking import concurrency_of, slot_for
from scheduler.scan.inventory.entry import Entry
from scheduler.scan.inventory.lines import rows
from scheduler.scan.inventory.manifest import ManifestBroken, fetch
from workers.background import end
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scheduler.runtime import Services
    from scheduler.scan.inventory.walk import Walk
    from workers.origin.control.control import OriginControl

#: The protocol's own limits are 50 MiB and 50,000 sitemaps.
MAX_BYTES = 52_428_800
MAX_SITEMAPS = 50_000
#: A W3C date without a day, or without a month.
_SHORT_DATE = re.compile(r"(\d{4})(?:-(\d{2}))?")
_OTHERS = {"rss": "an RSS feed", "feed": "an Atom feed", "html": "an HTML page", "rdf": "an RSS feed"}


class _Named(NamedTuple):
    """What one element of a sitemap says."""

    is_index: bool
    #: Empty when it says none.
    location: str
    changed: float | None


async def blocks(
    argument: Any, options: dict[str, Any], services: Services, walk: Walk
) -> AsyncIterator[list[Entry]]:
    """Every URL of the sitemap at `argument` and of those it names, as keys, sitemap by sitemap.

    Raises:
        ConfigError: it is no URL, or an option is unknown.
        ManifestBroken: the sitemap at `argument` could not be fetched or read, or is none.
    """
    start = str(argument)
    unknown = sorted(set(options) - {"strip_prefix", "host", "concurrency"})
    at_once = concurrency_of(options, "sitemap")
    try:
        own_host = urlsplit(start).hostname
    except ValueError:
        own_host = None
    if unknown or not start.startswith(("http://", "https://")) or own_host is None:
        what = f"unknown option {unknown[0]!r}" if unknown else f"{start!r} is no http(s) URL"
        msg = f"sitemap: {what}"
        raise ConfigError(msg)
    host = str(options.get("host", own_host)).lower()
    strip = str(options.get("strip_prefix", ""))
    queue, seen = deque([start]), {start}
    ahead: dict[str, asyncio.Task[bytes]] = {}
    async with (
        httpx.AsyncClient(follow_redirects=True, timeout=60) as client,
        contextlib.AsyncExitStack() as stack,
    ):
        stack.push_async_callback(lambda: end(*ahead.values()))
        while queue:
            # Read in the order in which they were named, whichever comes first.
            for url in islice(queue, at_once):
                if url not in ahead:
                    ahead[url] = asyncio.create_task(_fetched(client, url, services.control))
            url = queue.popleft()
            try:
                named = await _read(url, await ahead.pop(url))
            except ManifestBroken as error:
                if url == start:
                    raise
                walk.miss(url, str(error).removeprefix(f"{url}: "))
                continue
            walk.pages += 1
            found: list[Entry] = []
            for one in named:
                try:
                    target = urljoin(url, one.location)
                    if one.is_index and one.location:
                        if target not in seen:
                            if len(seen) >= MAX_SITEMAPS:
                                msg = f"{url}: more than {MAX_SITEMAPS} sitemaps"
                                raise ManifestBroken(msg)
                            seen.add(target)
                            queue.append(target)
                        continue
                    entry = _entry(target, one, host=host, strip=strip, walk=walk)
                except (KeyRefused, ValueError) as error:
                    walk.miss(one.location or f"{url} (an element without <loc>)", f"{error} (in {url})")
                    continue
                if entry is not None:
                    found.append(entry)
            yield found


def _entry(target: str, one: _Named, *, host: str, strip: str, walk: Walk) -> Entry | None:
    """The entry of a URL; None for one of another host, and for the front page.

    Raises:
        ValueError, KeyRefused: it names no key.
    """
    if not one.location:
        msg = "no <loc>"
        raise ValueError(msg)
    parts = urlsplit(target)
    if host and (parts.hostname or "") != host:
        walk.outside += 1
        return None
    if parts.path in {"", "/"}:
        return None  # the site's front page: no object
    return Entry(rows.stripped(client_path(parts.path.encode()).key, strip), None, None, one.changed)


async def _fetched(client: httpx.AsyncClient, url: str, control: OriginControl) -> bytes:
    try:
        async with await slot_for(control, url) as slot:
            answer, body = await fetch(client, url, most_bytes=MAX_BYTES)
            await slot.pace(len(body))
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        msg = f"{url}: {_explained(error)}"
        raise ManifestBroken(msg) from error
    return body


async def _read(url: str, body: bytes) -> list[_Named]:
    try:
        return await asyncio.to_thread(_parsed, body)
    except (OSError, EOFError, zlib.error, ParseError, DefusedXmlException, ValueError, LookupError) as error:
        msg = f"{url}: {_explained(error)}"
        raise ManifestBroken(msg) from error


def _explained(error: Exception) -> str:
    """What to tell of an answer that is no sitemap."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}"
    if isinstance(error, ParseError):
        return f"{error}: no XML; a sitemap, or one URL a line, is expected"
    if isinstance(error, DefusedXmlException):
        return f"it declares a document type or an entity of its own ({type(error).__name__}); none is read"
    return str(error) or type(error).__name__


def _parsed(body: bytes) -> list[_Named]:
    """What a sitemap names.

    Raises:
        ValueError: it is none.
    """
    if body[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
            body = packed.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        msg = f"more than {MAX_BYTES} bytes"
        raise ValueError(msg)
    if not body.strip():
        msg = "an empty answer; a sitemap is expected"
        raise ValueError(msg)
    if body[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        msg = "an HTML page; a sitemap is expected"
        raise ValueError(msg)
    if body.lstrip(b"\xef\xbb\xbf \t\r\n")[:8].lower().startswith((b"http://", b"https://")):
        return _lines(body)
    root = fromstring(body)
    kind = _name(root.tag)
    if kind not in {"urlset", "sitemapindex"}:
        found = _OTHERS.get(kind.lower(), f"<{kind}>")
        msg = f"{found}; a sitemap is expected (<urlset> or <sitemapindex>)"
        raise ValueError(msg)
    named: list[_Named] = []
    for child in root:
        if _name(child.tag) in {"url", "sitemap"}:
            texts = {_name(part.tag): (part.text or "").strip() for part in child}
            changed = w3c_time(texts.get("lastmod", ""))
            named.append(_Named(kind == "sitemapindex", texts.get("loc", ""), changed))
    return named


def _lines(body: bytes) -> list[_Named]:
    """A sitemap as text: one URL a line.

    Raises:
        ValueError: a line that is none.
    """
    named = []
    for number, line in enumerate(body.removeprefix(b"\xef\xbb\xbf").decode().split("\n"), 1):
        location = line.strip()
        if location and not location.startswith(("http://", "https://")):
            msg = f"line {number}: {location[:80]!r}; in a sitemap as text each line is a URL"
            raise ValueError(msg)
        if location:
            named.append(_Named(False, location, None))
    return named


def w3c_time(text: str) -> float | None:
    """Unix seconds of a W3C date: a year, a month, a day, or a moment; None when it is none of these."""
    short = _SHORT_DATE.fullmatch(text)
    try:
        if short is not None:
            return dt.datetime(int(short[1]), int(short[2] or 1), 1, tzinfo=dt.UTC).timestamp()
        moment = dt.datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        return None  # a date that nobody can read says nothing about the URL
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _name(tag: Any) -> str:
    """The local name of an element; a comment has none."""
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""
