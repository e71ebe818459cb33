"""Recognising an origin that says 200 and means "not found" (F59, G5).

Owns fingerprints of error pages (pure: `fingerprint`, `look_alike`, `html_where_no_html_belongs`) and the
learner that asks for random keys, once per host, prefix and extension. Knows no connection: how to ask is a
callable.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.origin.wire.redirects import without_query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: Bytes of a body that are looked at.
HEAD_BYTES = 64 * 1024
#: Random keys asked to learn one page.
SAMPLES = 2
#: Seconds that a learned page, or its absence, is trusted.
TRUSTED_S = 3600.0
#: Prefixes remembered for all hosts together.
MAX_PREFIXES = 10_000
#: Leading folders of a path that make its prefix.
PREFIX_DEPTH = 2
#: Lengths of two pages that name different paths may differ by this share.
LENGTH_SHARE = 0.02

_TITLE = re.compile(rb"<title[^>]*>(.{0,500}?)</title", re.IGNORECASE | re.DOTALL)
_TAGS = re.compile(rb"<[^>]{0,2000}>")
_BLANKS = re.compile(rb"\s+")
_HTML_START = re.compile(
    rb"\A(?:\xef\xbb\xbf)?\s*(?:<!--.{0,2000}?-->\s*)?<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)

#: Names under which HTML is never the object.
_NO_HTML_NAMES = (
    "jpg jpeg jpe png gif webp avif heic bmp tif tiff ico psd raw "
    "mp4 m4v mov avi mkv webm mpg mpeg wmv flv ts m4s mp3 m4a aac ogg oga opus flac wav "
    "zip gz tgz bz2 xz zst 7z rar tar jar war iso dmg exe msi deb rpm apk ipa whl "
    "woff woff2 ttf otf eot"
)
NO_HTML = frozenset(_NO_HTML_NAMES.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What a page looks like, with the path that was asked taken out of it."""

    status: int
    length: int | None
    #: SHA-256 of the first bytes without the asked name.
    digest: str
    title: bytes
    #: Visible text, squeezed.
    text_digest: str
    html: bool
    #: Where redirects led, empty without any.
    landed: str = ""


def fingerprint(
    *, status: int, content_type: str, body: bytes, name: str, length: int | None, landed: str = ""
) -> Fingerprint:
    """Describe one answer; `body` is its beginning, `name` the encoded path that was asked."""
    plain = _without_name(body[:HEAD_BYTES], name)
    title = _TITLE.search(plain)
    html = is_html(content_type, body)
    text = _BLANKS.sub(b" ", _TAGS.sub(b" ", plain)).strip() if html else b""
    return Fingerprint(
        status=status,
        length=length,
        digest=hashlib.sha256(plain).hexdigest(),
        title=_BLANKS.sub(b" ", title[1]).strip() if title else b"",
        text_digest=hashlib.sha256(text).hexdigest() if text else "",
        html=html,
        landed=landed,
    )


def look_alike(page: Fingerprint, candidate: Fingerprint) -> str | None:
    """Why `candidate` is the learned error page again, or None."""
    if page.digest == candidate.digest and page.length == candidate.length:
        return "same bytes as the answer for a random key"
    if page.landed and page.landed == candidate.landed:
        return f"redirected to {without_query(page.landed)} like a random key"
    if not (page.html and candidate.html):
        return None
    if page.text_digest and page.text_digest == candidate.text_digest:
        return "same text as the page for a random key"
    if page.title and page.title == candidate.title and _close(page.length, candidate.length):
        return "same title and about the same length as the page for a random key"
    return None


def is_html(content_type: str, body: bytes) -> bool:
    """Whether an answer is an HTML page, by its type or by how it begins."""
    return content_type.partition(";")[0].strip().lower() in {
        "text/html",
        "application/xhtml+xml",
    } or bool(_HTML_START.match(body[:4096]))


def extension(path: str) -> str:
    """Extension of a path's last segment in lower case, without the dot; empty for none."""
    name = path.rpartition("/")[2]
    stem, dot, after = name.rpartition(".")
    return after.lower() if dot and stem and len(after) <= 10 else ""


def html_where_no_html_belongs(path: str, content_type: str, body: bytes) -> str | None:
    """Why an answer cannot be what the name says, or None."""
    kind = extension(path)
    if kind in NO_HTML and is_html(content_type, body):
        return f"HTML under the name .{kind}"
    return None


def prefix_of(path: str) -> str:
    """The leading folders of a path, at most `PREFIX_DEPTH`; ends with `/` or is empty."""
    folders = path.split("/")[:-1][:PREFIX_DEPTH]
    return "/".join(folders) + "/" if folders else ""


def random_name(path: str) -> str:
    """A path beside `path` that nobody has."""
    kind = extension(path)
    return f"{prefix_of(path)}{secrets.token_hex(16)}{'.' + kind if kind else ''}"


def _without_name(body: bytes, name: str) -> bytes:
    for text in sorted({name, name.rpartition("/")[2]} - {""}, key=len, reverse=True):
        if len(text) >= 3:
            body = body.replace(text.encode("utf-8", "surrogateescape"), b"")
    return body


def _close(one: int | None, other: int | None) -> bool:
    if one is None or other is None:
        return True
    return abs(one - other) <= max(256, LENGTH_SHARE * max(one, other))


class Learner:
    """What each host answers for keys that nobody has; one question at a time for each prefix."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, str, str], tuple[float, Fingerprint | None]] = OrderedDict()
        self._asking: dict[tuple[str, str, str], asyncio.Future[Fingerprint | None]] = {}

    async def page(
        self, host: str, path: str, ask: Callable[[str], Awaitable[Fingerprint | None]]
    ) -> Fingerprint | None:
        """The page with status 200 that `host` gives for missing keys beside `path`; None when it says 404.

        `ask` fetches one random path: a fingerprint for a 200, None for any other status. What it raises is
        raised here, and nothing is learned.
        """
        key = (host, prefix_of(path), extension(path))
        known = self._known.get(key)
        if known is not None and self._clock() < known[0]:
            self._known.move_to_end(key)
            return known[1]
        while (running := self._asking.get(key)) is not None:
            await asyncio.wait([running])
            if not running.cancelled() and running.exception() is None:
                return running.result()
        future: asyncio.Future[Fingerprint | None] = asyncio.get_running_loop().create_future()
        self._asking[key] = future
        try:
            found = await self._learn(path, ask)
        except BaseException:
            future.cancel()
            raise
        else:
            future.set_result(found)
        finally:
            del self._asking[key]
        self._known[key] = (self._clock() + TRUSTED_S, found)
        while len(self._known) > MAX_PREFIXES:
            self._known.popitem(last=False)
        return found

    async def _learn(
        self, path: str, ask: Callable[[str], Awaitable[Fingerprint | None]]
    ) -> Fingerprint | None:
        first = await ask(random_name(path))
        for _ in range(SAMPLES - 1):
            if first is None:
                return None
            again = await ask(random_name(path))
            if again is None or look_alike(first, again) is None:
                return None  # random keys differ from each other: there is nothing to recognise
        return first
