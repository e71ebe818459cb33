"""Behaviours that lead elsewhere: redirects, good and evil.

Owns nothing but these coroutines; they are found through the catalogue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.chaos.behaviour import behaviour, serve

if TYPE_CHECKING:
    from scheduler.chaos.exchange import Exchange


async def _redirect(ex: Exchange, location: str | None, *extra: tuple[str, str]) -> None:
    headers = [("Content-Length", "0"), *extra]
    if location is not None:
        headers.append(("Location", location))
    await ex.head(ex.number("code", 302), headers)


@behaviour(
    "redirect",
    "Redirects to `to`, or to the object itself below /ok.",
    to="value of Location; `authority` in braces is replaced by the origin's own host:port",
    code="status (302)",
)
async def redirect(ex: Exchange) -> None:
    """See the summary."""
    await _redirect(ex, ex.text("to", "/ok" + ex.name).replace("{authority}", ex.authority))


@behaviour(
    "redirect_chain", "A chain of `n` redirects, then a good answer.", n="hops (3)", code="status (302)"
)
async def redirect_chain(ex: Exchange) -> None:
    """See the summary."""
    left = ex.number("n", 3)
    if left <= 0:
        await serve(ex)
        return
    size = f",size={ex.text('size')}" if ex.text("size") else ""
    await _redirect(ex, f"/redirect_chain,n={left - 1}{size}{ex.name}")


@behaviour("redirect_loop", "Redirects to itself through another path, for ever.", code="status (302)")
async def redirect_loop(ex: Exchange) -> None:
    """See the summary."""
    other = "b" if ex.text("side", "a") == "a" else "a"
    await _redirect(ex, f"/redirect_loop,side={other}{ex.name}")


@behaviour("redirect_endless", "Redirects to a new path each time, for ever.", code="status (302)")
async def redirect_endless(ex: Exchange) -> None:
    """See the summary."""
    await _redirect(ex, f"/redirect_endless,n={ex.number('n', 0) + 1}{ex.name}")


@behaviour("redirect_metadata", "Redirects to the metadata address of clouds.", code="status (302)")
async def redirect_metadata(ex: Exchange) -> None:
    """See the summary."""
    await _redirect(ex, "http://169.254.169.254/latest/meta-data/")


@behaviour("redirect_private", "Redirects to a private address.", code="status (302)")
async def redirect_private(ex: Exchange) -> None:
    """See the summary."""
    await _redirect(ex, "http://10.0.0.1/")


@behaviour(
    "redirect_odd",
    "Redirects to a presigned-looking path whose encoding must not be touched.",
    code="status (302)",
)
async def redirect_odd(ex: Exchange) -> None:
    """See the summary."""
    await _redirect(ex, "/ok/a%2Bb%2fc%7Ed+e/f%20g?X-Sig=ab%2Bcd%2f%3D&x=1+2&empty=&%7e=~")


@behaviour(
    "redirect_bad", "A redirect that leads nowhere.", kind="missing | scheme | userinfo | empty (missing)"
)
async def redirect_bad(ex: Exchange) -> None:
    """See the summary."""
    location = {
        "scheme": "ftp://example.com/x",
        "userinfo": f"http://user:secret@{ex.authority}/ok{ex.name}",
        "empty": "",
    }.get(ex.text("kind"))
    await _redirect(ex, location)


@behaviour(
    "set_cookie", "Sets a cookie and redirects; a client that keeps cookies shows it.", code="status (302)"
)
async def set_cookie(ex: Exchange) -> None:
    """See the summary."""
    await _redirect(ex, f"/ok{ex.name}", ("Set-Cookie", "session=chaos; Path=/"))
