"""Inventory from sitemap.xml, through sitemap indexes, plain or gzip.

Owns the sitemap protocol (sitemaps.org): `urlset/url/loc`, `lastmod`, `sitemapindex/sitemap/loc`. A
sitemap that cannot be read fails the scan. Completeness is the site's word. Options: `strip_prefix` (of
the path), `host` (only URLs of this host; default: that of the sitemap).
"""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import httpx
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from scheduler.rules.keys import KeyRefused, client_path
from scheduler.scan.inventory.entry import Entry
from scheduler.scan.inventory.manifest import ManifestBroken
from scheduler.scan.inventory.rows import unix_time
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scheduler.runtime import Services

#: The protocol's own limits are 50 MiB and 50,000 sitemaps.
MAX_BYTES = 52_428_800
MAX_SITEMAPS = 50_000


async def entries(argument: Any, options: dict[str, Any], services: Services) -> AsyncIterator[Entry]:
    """Every URL of the sitemap at `argument` and of those it names, as keys.

    Raises:
        ConfigError: it is no URL, or an option is unknown.
        ManifestBroken: a sitemap could not be fetched or read.
    """
    del services
    start = str(argument)
    unknown = sorted(set(options) - {"strip_prefix", "host"})
    if unknown or not start.startswith(("http://", "https://")):
        what = f"unknown option {unknown[0]!r}" if unknown else f"{start!r} is no http(s) URL"
        msg = f"sitemap: {what}"
        raise ConfigError(msg)
    host = str(options.get("host", urlsplit(start).hostname or "")).lower()
    strip = str(options.get("strip_prefix", "")).lstrip("/")
    queue, seen = [start], {start}
    async with httpx.AsyncClient(follow_redirects=True, timeout=60) as client:
        while queue:
            url = queue.pop()
            for is_index, location, changed in await _read(client, url):
                target = urljoin(url, location)
                if is_index:
                    if target not in seen:
                        if len(seen) >= MAX_SITEMAPS:
                            msg = f"{url}: more than {MAX_SITEMAPS} sitemaps"
                            raise ManifestBroken(msg)
                        seen.add(target)
                        queue.append(target)
                    continue
                parts = urlsplit(target)
                if host and (parts.hostname or "") != host:
                    continue
                if parts.path in {"", "/"}:
                    continue  # the site's front page: no object
                try:
                    key = client_path(parts.path.encode()).key
                except KeyRefused as error:
                    msg = f"{url}: {location!r}: {error}"
                    raise ManifestBroken(msg) from error
                yield Entry(key.removeprefix(strip), None, None, changed)


async def _read(client: httpx.AsyncClient, url: str) -> list[tuple[bool, str, float | None]]:
    try:
        answer = await client.get(url)
        answer.raise_for_status()
        body = answer.content
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        if len(body) > MAX_BYTES:
            msg = f"{url}: more than {MAX_BYTES} bytes"
            raise ManifestBroken(msg)
        root = fromstring(body)
    except (
        httpx.HTTPError, httpx.InvalidURL, OSError, EOFError, zlib.error, ParseError, DefusedXmlException,
        ValueError,
    ) as error:  # fmt: skip
        msg = f"{url}: {error or type(error).__name__}"
        raise ManifestBroken(msg) from error
    is_index = _name(root.tag) == "sitemapindex"
    rows: list[tuple[bool, str, float | None]] = []
    for child in root:
        texts = {_name(part.tag): (part.text or "").strip() for part in child}
        if texts.get("loc"):
            try:
                changed = unix_time(texts["lastmod"]) if texts.get("lastmod") else None
            except ValueError:
                changed = None  # a date that nobody can read says nothing about the URL
            rows.append((is_index, texts["loc"], changed))
    return rows


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]
