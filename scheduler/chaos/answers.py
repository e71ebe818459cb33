"""Behaviours of the status and the head: errors, throttling, flapping, error pages, header bombs, silence.

Owns nothing but these coroutines; they are found through the catalogue.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from scheduler.chaos.behaviour import behaviour, requested_range, serve
from scheduler.chaos.bodies import MAX_STALL_S

if TYPE_CHECKING:
    from scheduler.chaos.exchange import Exchange

PAGE = (
    b"<!DOCTYPE html><html><head><title>Page not found</title></head>"
    b"<body><h1>Sorry</h1><p>We could not find %s.</p></body></html>"
)


async def _status(ex: Exchange, status: int, *extra: tuple[str, str], body: bytes | None = None) -> None:
    if status in {204, 304} or 100 <= status < 200:
        await ex.head(status, extra)
        return
    text = body if body is not None else f"status {status}\n".encode()
    kind = (
        () if any(name.lower() == "content-type" for name, _ in extra) else (("Content-Type", "text/plain"),)
    )
    await ex.head(status, [*kind, *extra, ("Content-Length", str(len(text)))])
    if ex.request.method != "HEAD":
        await ex.raw(text)


@behaviour(
    "status",
    "Answers every request with `code`.",
    code="HTTP status (500)",
    retry_after="value of Retry-After",
    body="text of the body",
    bytes="size of the body instead of a text",
)
async def status(ex: Exchange) -> None:
    """See the summary."""
    extra = [("Retry-After", ex.text("retry_after"))] if ex.text("retry_after") else []
    body = bytes(ex.number("bytes", 0)) if ex.text("bytes") else ex.text("body").encode() or None
    await _status(ex, ex.number("code", 500), *extra, body=body)


@behaviour("throttle", "429 with Retry-After.", code="429 or 503 (429)", retry_after="seconds or a date (2)")
async def throttle(ex: Exchange) -> None:
    """See the summary."""
    await _status(ex, ex.number("code", 429), ("Retry-After", ex.text("retry_after", "2")))


@behaviour(
    "fail_first",
    "Fails the first `n` requests of a path, then answers well.",
    n="requests that fail (1)",
    code="status of a failure (503); `reset` and `hangup` end the connection without an answer",
)
async def fail_first(ex: Exchange) -> None:
    """See the summary."""
    if ex.count > ex.number("n", 1):
        await serve(ex)
    else:
        await _fail(ex)


@behaviour(
    "flapping",
    "Answers `good` requests of a path well, fails the next `bad`, and so on.",
    good="requests in a row that succeed (1)",
    bad="requests in a row that fail (1)",
    code="as fail_first",
)
async def flapping(ex: Exchange) -> None:
    """See the summary."""
    good, bad = max(0, ex.number("good", 1)), max(1, ex.number("bad", 1))
    if (ex.count - 1) % (good + bad) < good:
        await serve(ex)
    else:
        await _fail(ex)


async def _fail(ex: Exchange) -> None:
    match ex.text("code", "503"):
        case "reset":
            ex.reset()
        case "hangup":
            ex.hang_up()
        case _:
            await _status(ex, ex.number("code", 503))


@behaviour("hangup", "Closes the connection without an answer.")
async def hangup(ex: Exchange) -> None:
    """See the summary."""
    ex.hang_up()


@behaviour("silent", "Accepts the request and never answers.", seconds="length of the silence (3600)")
async def silent(ex: Exchange) -> None:
    """See the summary."""
    await asyncio.sleep(ex.seconds("seconds", MAX_STALL_S))
    ex.hang_up()


@behaviour("slow_start", "A good answer after `seconds`.", seconds="wait before the head (1)")
async def slow_start(ex: Exchange) -> None:
    """See the summary."""
    await asyncio.sleep(ex.seconds("seconds", 1.0))
    await serve(ex)


@behaviour(
    "slow_headers",
    "Sends the head one byte at a time.",
    interval="seconds between bytes (1)",
)
async def slow_headers(ex: Exchange) -> None:
    """See the summary."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ex.item.body)
    ex.status = 200
    for position in range(len(head)):
        await ex.raw(head[position : position + 1], counted=False)
        await asyncio.sleep(ex.seconds("interval", 1.0))
    await ex.raw(ex.item.body)


@behaviour(
    "header_bomb",
    "A good answer with far too many or far too long headers.",
    count="headers (5000)",
    size="bytes a header (100)",
)
async def header_bomb(ex: Exchange) -> None:
    """See the summary."""
    value = "b" * max(1, ex.number("size", 100))
    bomb = [(f"X-Bomb-{number}", value) for number in range(max(1, ex.number("count", 5000)))]
    await ex.head(200, [*bomb, ("Content-Length", str(len(ex.item.body)))])
    await ex.raw(ex.item.body)


@behaviour("garbage", "Answers with something that is no HTTP.")
async def garbage(ex: Exchange) -> None:
    """See the summary."""
    await ex.raw(b"\x15\x03\x01\x00\x02\x02\x16 this is no HTTP\r\n\r\n", counted=False)
    ex.hang_up()


@behaviour(
    "endless_continue",
    "Interim answers (103) without an end.",
    interval="seconds between them (0.05)",
)
async def endless_continue(ex: Exchange) -> None:
    """See the summary."""
    while True:
        await ex.raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n", counted=False)
        await asyncio.sleep(ex.seconds("interval", 0.05))


@behaviour(
    "error_page",
    "200 with an HTML page that says not found, whatever was asked.",
    echo="1: the page names the path that was asked",
    type="Content-Type (text/html; charset=utf-8)",
)
async def error_page(ex: Exchange) -> None:
    """See the summary."""
    page = PAGE % (ex.name.encode() if ex.text("echo") else b"this page")
    await _status(ex, 200, ("Content-Type", ex.text("type", "text/html; charset=utf-8")), body=page)


@behaviour("soft_site", "Registered objects as they are; every other path is a 200 page that says not found.")
async def soft_site(ex: Exchange) -> None:
    """See the summary."""
    if not ex.item.generated:
        await serve(ex)
    else:
        await _status(ex, 200, ("Content-Type", "text/html; charset=utf-8"), body=PAGE % ex.name.encode())


@behaviour(
    "partial",
    "A part that nobody asked for.",
    code="status (206); 200 calls it whole",
    first="first position (0)",
    last="last position (9)",
)
async def partial(ex: Exchange) -> None:
    """See the summary."""
    size = len(ex.item.body)
    first, last = ex.number("first", 0), min(ex.number("last", 9), size - 1)
    body = ex.item.body[first : last + 1]
    await ex.head(
        ex.number("code", 206),
        [
            *ex.item.headers,
            ("Content-Range", f"bytes {first}-{last}/{size}"),
            ("Content-Length", str(len(body))),
        ],
    )
    await ex.raw(body)


@behaviour("no_range", "Ignores Range and always sends all of it.")
async def no_range(ex: Exchange) -> None:
    """See the summary."""
    await ex.head(200, [*ex.item.headers, ("Content-Length", str(len(ex.item.body)))])
    if ex.request.method != "HEAD":
        await ex.raw(ex.item.body)


@behaviour("wrong_range", "Answers a range request with the range one byte further on.")
async def wrong_range(ex: Exchange) -> None:
    """See the summary."""
    wanted, size = requested_range(ex), len(ex.item.body)
    if wanted is None:
        await serve(ex)
        return
    first, last = wanted[0] + 1, min(wanted[1] + 1, size - 1)
    body = ex.item.body[first : last + 1]
    await ex.head(
        206, [("Content-Range", f"bytes {first}-{last}/{size}"), ("Content-Length", str(len(body)))]
    )
    await ex.raw(body)


@behaviour("no_head", "405 to HEAD, a good answer to GET.", code="status (405)")
async def no_head(ex: Exchange) -> None:
    """See the summary."""
    if ex.request.method == "HEAD":
        await _status(ex, ex.number("code", 405))
    else:
        await serve(ex)


@behaviour(
    "needs_auth", "401 unless the request carries Authorization.", challenge="WWW-Authenticate (Basic)"
)
async def needs_auth(ex: Exchange) -> None:
    """See the summary."""
    if ex.request.header("authorization"):
        await serve(ex)
    else:
        await _status(ex, 401, ("WWW-Authenticate", ex.text("challenge", 'Basic realm="chaos"')))
