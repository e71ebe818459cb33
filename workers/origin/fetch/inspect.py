"""What one URL of an origin offers: `ferryman origins probe`, doctor, and the active probe (B10).

Owns a handful of requests and the words for what they showed. Each request takes a slot of the host's budget.
Stores nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from workers.answers import first_header
from workers.errors import OriginError, TransferError
from workers.origin.fetch.failover import parse_content_range
from workers.origin.fetch.resume import strong_validator
from workers.origin.integrity.digest import offered
from workers.origin.integrity.soft404 import is_html, random_name
from workers.origin.wire.body import framing_of
from workers.origin.wire.redirects import NOT_FOLLOWED, split_url
from workers.plan import FetchPlan, Lane, Origin, OriginGroup, RedirectPolicy, Timeouts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from workers.origin.control.control import OriginControl
    from workers.origin.wire.client import OriginClient
    from workers.origin.wire.response import Answer

#: Seconds a probe URL may take (B10).
PROBE_S = 2.0
#: Bytes read of a body to see what it is.
LOOK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginReport:
    """What was found; `problems` are sentences for people, empty when nothing stands in the way."""

    url: str
    reachable: bool
    #: Final URL and number of redirects.
    landed: str = ""
    hops: int = 0
    status: int | None = None
    #: TLS version, None over plain HTTP.
    tls: str | None = None
    server: str = ""
    http_version: str = ""
    content_type: str = ""
    length: int | None = None
    framing: str = ""
    first_byte_s: float | None = None
    #: `bytes`, `ignored` or `refused`, empty when not asked.
    ranges: Literal["", "bytes", "ignored", "refused"] = ""
    #: Value for If-Range: a broken body can be continued. None: it starts over.
    validator: str | None = None
    #: `header algorithm` of every digest offered.
    digests: tuple[str, ...] = ()
    #: The ETag has the shape of an MD5 (F54).
    md5_etag: bool = False
    content_encoding: str = ""
    #: HEAD is answered like GET.
    head: bool | None = None
    #: What a random key beside it gets; 200 is a soft 404.
    missing_status: int | None = None
    soft_404: bool = False
    problems: tuple[str, ...] = field(default=())


def bare_plan(
    url: str, *, trusted: bool, credential: str | None = None, timeout_s: float | None = None
) -> FetchPlan:
    """A plan that asks only the host of `url`.

    Raises:
        ValueError: no http(s) URL.
    """
    target = split_url(url)
    origin = Origin(host=target.authority, scheme=_scheme(target.scheme), credential=credential)
    timeouts = Timeouts() if timeout_s is None else Timeouts(connect_s=timeout_s, first_byte_s=timeout_s)
    return FetchPlan(
        bucket="",
        rule="probe",
        groups=(OriginGroup(primary=origin),),
        redirects=RedirectPolicy(),
        timeouts=timeouts,
        trusted_hosts=trusted,
    )


async def is_well(
    client: OriginClient,
    url: str,
    trusted: bool,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Whether a probe URL answers 2xx or 3xx within 2 s (B10)."""
    try:
        plan = bare_plan(url, trusted=trusted, timeout_s=PROBE_S)
        started = clock()
        answer = await client.ask(plan, plan.groups[0].primary, url, first_byte_s=PROBE_S, hops=NOT_FOLLOWED)
    except (OriginError, ValueError):
        return False
    await answer.drain()
    return 200 <= answer.status < 400 and clock() - started <= PROBE_S


async def inspect_origin(
    client: OriginClient,
    control: OriginControl | None,
    url: str,
    *,
    trusted: bool,
    credential: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> OriginReport:
    """Ask one URL in several ways: GET, HEAD, a range, and a key that nobody has.

    Raises:
        ValueError: no http(s) URL.
        BudgetExhausted: no slot in the origin's budget came free.
    """
    plan = bare_plan(url, trusted=trusted, credential=credential)
    origin = plan.groups[0].primary

    async def ask(where: str, **kwargs: object) -> Answer:
        return await client.ask(plan, origin, where, **kwargs)  # type: ignore[arg-type]  # passed on as they are

    async def with_slot(do: Callable[[], Awaitable[None]]) -> None:
        if control is None:
            await do()
            return
        async with await control.acquire(origin.host, Lane.HOT, timeout_s=30.0):
            await do()

    found: dict[str, object] = {}
    problems: list[str] = []

    async def get() -> None:
        started = clock()
        answer = await ask(url)
        found["first_byte_s"] = clock() - started
        _describe(answer, found)
        body, _ = await answer.beginning(LOOK_BYTES)
        found["_html"] = is_html(answer.header("content-type") or "", body)

    async def head() -> None:
        answer = await ask(url, method="HEAD")
        await answer.drain()
        found["head"] = answer.status == found["status"]
        found["_denied"] = answer.status in {404, 410} and found["status"] == 200

    async def ranges() -> None:
        answer = await ask(url, extra=(("Range", "bytes=0-0"),))
        part = parse_content_range(answer.header("content-range"))
        if answer.status == 206 and part is not None and (part.first, part.last) == (0, 0):
            found["ranges"] = "bytes"
        else:
            found["ranges"] = "ignored" if answer.status == 200 else "refused"
        await answer.drain()

    async def missing() -> None:
        target = split_url(url)
        path = random_name(target.path.partition("?")[0].lstrip("/"))
        answer = await ask(f"{target.scheme}://{target.authority}/{path}")
        await answer.drain()
        found["missing_status"] = answer.status
        found["soft_404"] = answer.status == 200

    try:
        await with_slot(get)
        for step in (head, ranges, missing):
            await with_slot(step)
    except TransferError as error:
        if not isinstance(error, OriginError):
            raise
        problems.append(str(error))
    problems += _judged(found)
    shown = {name: value for name, value in found.items() if not name.startswith("_")}
    return OriginReport(url=url, reachable="status" in found, problems=tuple(problems), **shown)  # type: ignore[arg-type]  # gathered by name


def _scheme(scheme: str) -> Literal["http", "https"]:
    return "https" if scheme == "https" else "http"


def _describe(answer: Answer, found: dict[str, object]) -> None:
    raw = answer.raw
    transport = raw.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    headers = answer.headers
    try:
        framing, length = framing_of(answer, method="GET", origin="")
    except OriginError:
        framing, length = "close", None
    plain = offered(headers)
    found.update(
        landed=answer.url,
        hops=answer.hops,
        status=answer.status,
        tls=tls.version() if tls is not None else ("TLS" if answer.url.startswith("https:") else None),
        server=first_header(headers, "server") or "",
        http_version=raw.version,
        content_type=first_header(headers, "content-type") or "",
        length=length,
        framing=framing,
        validator=strong_validator(headers),
        digests=tuple(f"{one.source} {one.algorithm}" for one in plain),
        md5_etag=any(one.source == "etag" for one in offered(headers, trust_etag=True)),
        content_encoding=first_header(headers, "content-encoding") or "",
    )


def _judged(found: dict[str, object]) -> list[str]:
    problems = []
    status = found.get("status")
    if status is not None and status != 200:
        problems.append(f"the URL answers {status}; only 200 is stored")
    if found.get("framing") == "close" and status == 200:
        problems.append(
            "neither Content-Length nor chunked: not stored unless store.accept_close_delimited is set"
        )
    if found.get("_denied"):
        problems.append("HEAD denies what GET gives: leave answer.allow_head off")
    if found.get("ranges") in {"ignored", "refused"}:
        problems.append(f"ranges are {found['ranges']}: a broken body starts over")
    elif found.get("ranges") == "bytes" and found.get("validator") is None:
        problems.append("no strong validator: a broken body starts over")
    if found.get("soft_404"):
        problems.append("a key that nobody has gets 200: set store.soft_404 to learn")
    if found.get("content_encoding"):
        problems.append(
            f"answers are {found['content_encoding']}-encoded though not asked; they are stored as sent"
        )
    if status == 200 and not found.get("digests"):
        problems.append(
            "no digest is offered"
            + (
                "; the ETag looks like an MD5: consider origin.trust_etag_md5"
                if found.get("md5_etag")
                else ""
            )
        )
    return problems
