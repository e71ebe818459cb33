"""The admin side before anybody has shown a token: heads, framings and bodies that are made to hurt."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from scheduler.config.settings import Settings
from scheduler.front.admin import guard
from scheduler.front.admin.app import make_app
from scheduler.front.http.protocol import HeadLimits, StrictProtocol
from scheduler.front.http.serve import serve_admin
from scheduler.machine.listen import bind

TOKEN = "t" * 32
#: Paths that some program could take for one behind the token, or for a file that is none of the page's.
SPELLINGS = r"""
/v1/rules //v1/rules /v1//rules /v1/rules/ /V1/rules /%76%31/rules /v1%2frules /./v1/rules
/healthz/../v1/rules /healthz%2f..%2fv1%2frules /healthz/..;/v1/rules /healthz%00 /healthz/
/healthz;/v1/rules /healthz%3f/v1/rules /login/../v1/rules /login%2f..%2fv1/rules
/static/../v1/rules /static/%2e%2e/v1/rules /static/..%2fv1%2frules /static%2f..%2fv1/rules
/static/..\v1\rules /static/..%5cv1%5crules /static/%252e%252e/v1/rules /static//v1/rules
/static/../pages.py /static/%2e%2e/pages.py /static/..%2fpages.py /static/....//pages.py
/static/..%2ftemplates%2fpage.html /static//etc/passwd /static/%2fetc/passwd /static/%00
/static/..%c0%afpages.py http://other.example/v1/rules http://a/static/../v1/rules /?/healthz *
"""


@pytest.fixture
async def admin(monkeypatch):
    """The admin side as it is served; nothing is asked of what is behind it."""
    monkeypatch.setattr(StrictProtocol, "limits", HeadLimits(timeout_s=0.7))
    monkeypatch.setattr(guard, "_FORM_S", 0.7)
    services = MagicMock()
    services.settings = Settings.model_validate({"admin": {"token": TOKEN}, "buckets": {"site": {}}})
    sock = bind("admin", "127.0.0.1:0")
    stop = asyncio.Event()
    serving = asyncio.create_task(serve_admin(make_app(services, MagicMock()), [sock], stop, drain_s=1))

    async def raw(*pieces: bytes, pause_s: float = 0.0) -> bytes:
        """What is answered until the connection ends; sending ends when it does."""
        reader, writer = await asyncio.open_connection("127.0.0.1", sock.getsockname()[1])
        got = bytearray()

        async def send() -> None:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)

        sending = asyncio.create_task(send())
        try:
            async with asyncio.timeout(30):
                with contextlib.suppress(ConnectionError):
                    while chunk := await reader.read(65536):
                        got += chunk
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            writer.close()
        return bytes(got)

    yield SimpleNamespace(raw=raw)
    stop.set()
    await serving


def head(*lines: str, line: str = "GET /healthz HTTP/1.1") -> bytes:
    return "\r\n".join([line, "Host: a", *lines, "", ""]).encode("latin-1")


async def test_what_is_well_formed_is_answered_and_its_path_decoded(admin):
    assert (await admin.raw(head("Connection: close"))).startswith(b"HTTP/1.1 200 ")
    answer = await admin.raw(head("Connection: close", line="GET /%68ealthz HTTP/1.1"))
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("target", SPELLINGS.split())
async def test_no_spelling_of_a_path_gets_past_the_token(admin, target):
    answer = await admin.raw(head("Connection: close", line=f"GET {target} HTTP/1.1"))
    status, body = int(answer[9:12]), answer.partition(b"\r\n\r\n")[2]
    assert status in {400, 401, 404}, answer[:300]
    assert b"buckets" not in body
    assert b"import" not in body
    assert b"root:" not in body


async def test_a_head_that_dawdles_is_ended_and_silence_as_well(admin):
    assert (
        b" 400 " in (await admin.raw(b"GET /healthz HTT", *[b"x"] * 100, pause_s=0.1)).partition(b"\r\n")[0]
    )
    assert b" 408 " in (await admin.raw(head()[:-2], *[b"X: y\r\n"] * 100, pause_s=0.1)).partition(b"\r\n")[0]
    assert await admin.raw() == b""


async def test_a_head_without_end_is_refused_by_its_size(admin):
    answer = await admin.raw(head()[:-2], *[b"X-A: " + b"a" * 8000 + b"\r\n"] * 10_000)
    assert answer == b"" or b" 431 " in answer.partition(b"\r\n")[0]
    answer = await admin.raw(b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer == b"" or b" 414 " in answer.partition(b"\r\n")[0]


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding : chunked",),
        ("X: a", " folded"),
        ("X: a\rTransfer-Encoding: chunked",),
        ("Host: b",),
    ],
)
async def test_a_head_that_two_parsers_could_read_differently_is_refused(admin, lines):
    answer = await admin.raw(head(*lines, line="POST /v1/miss-events HTTP/1.1"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_the_form_of_a_login_has_a_bound_in_bytes_and_seconds(admin):
    asked = head("Content-Length: 1000000000", line="POST /login HTTP/1.1")
    assert (await admin.raw(asked, *[b"a" * 1000] * 20)).startswith(b"HTTP/1.1 413 ")
    assert (await admin.raw(asked, *[b"a"] * 100, pause_s=0.1)).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/scans"),
        ("POST", "/v1/failures/retry"),
        ("POST", "/v1/origins/probe"),
        ("PUT", "/v1/rules/site"),
    ],
)
async def test_an_order_without_end_is_refused_by_its_size(admin, method, path):
    lines = ("Transfer-Encoding: chunked", f"Authorization: Bearer {TOKEN}", "Content-Type: application/json")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = await admin.raw(head(*lines, line=f"{method} {path} HTTP/1.1"), *[chunk] * 2000)
    assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
