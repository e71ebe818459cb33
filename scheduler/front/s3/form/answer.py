"""The answer to a form whose file is stored. Pure.

Owns `success_action_redirect` (or `redirect`, its first name) and `success_action_status`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit, urlunsplit
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.front.http.object_headers import RawHeaders


def form_answer(
    fields: Mapping[str, str], *, bucket: str, key: str, etag: str, base: str
) -> tuple[int, RawHeaders, bytes]:
    """Status, headers and body; `etag` with its quotes, `base` is the bucket's URL with a slash behind it."""
    target = fields.get("success_action_redirect") or fields.get("redirect") or ""
    headers: RawHeaders = [(b"etag", etag.encode("latin-1", "replace"))]
    redirect = _redirect(target, {"bucket": bucket, "key": key, "etag": etag})
    if redirect is not None:
        return 303, [*headers, (b"location", redirect.encode("ascii"))], b""
    location = base + quote(key, safe="/-._~")
    headers.append((b"location", location.encode("latin-1", "replace")))
    match fields.get("success_action_status"):
        case "200":
            return 200, headers, b""
        case "201":
            body = (
                '<?xml version="1.0" encoding="UTF-8"?>\n<PostResponse>'
                f"<Location>{escape(location)}</Location><Bucket>{escape(bucket)}</Bucket>"
                f"<Key>{escape(key)}</Key><ETag>{escape(etag)}</ETag></PostResponse>"
            )
            return 201, [*headers, (b"content-type", b"application/xml")], body.encode()
        case _:
            return 204, headers, b""


def _redirect(target: str, parameters: Mapping[str, str]) -> str | None:
    """The target with what was stored in its query; None when it is no URL to send a browser to."""
    if not target.isprintable():
        return None
    try:
        parts = urlsplit(target)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            return None
        query = "&".join(part for part in (parts.query, urlencode(parameters, quote_via=quote)) if part)
        found = urlunsplit((parts.scheme, parts.netloc, parts.path, query, parts.fragment))
    except ValueError:
        return None
    return quote(found, safe="%/:=&?~#+!$,;'@()*[]-._")
