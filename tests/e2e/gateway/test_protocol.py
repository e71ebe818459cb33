"""What reaches the application, and what is answered before: heads, deadlines, framing, pipelining,
garbage.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from xml.etree import ElementTree as ET

import pytest

from support.patience import PATIENCE_S

pytestmark = pytest.mark.real

BODY = os.urandom(50_000)


@pytest.fixture
async def front(mirror, start, chaos):
    chaos.put("/k", BODY)
    return await start(
        mirror(), gateway={"listen": "127.0.0.1:0", "header_timeout_s": 0.7, "keep_alive_s": 1}
    )


def head(front, *lines: str, path: str = "/k", version: str = "1.1") -> bytes:
    first = f"GET /{front.bucket}{path} HTTP/{version}"
    return ("\r\n".join([first, *lines]) + "\r\n\r\n").encode("latin-1")


def assert_refused(raw, status: int, code: str) -> None:
    assert raw.status == status, raw.data[:300]
    root = ET.fromstring(raw.body)
    assert root.findtext("Code") == code
    assert root.findtext("RequestId")
    assert root.findtext("HostId")
    assert b"connection: close" in raw.head.lower()


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (("Host: h", "Content-Length: 0", "Content-Length: 0"), "twice, though the same"),
        (("Host: h", "Content-Length: 0", "Content-Length: 5"), "twice, and different"),
        (("Host: h", "Content-Length: 5, 5"), "a list"),
        (("Host: h", "Content-Length: +5"), "a sign"),
        (("Host: h", "Content-Length: -1"), "negative"),
        (("Host: h", "Content-Length: 0x5"), "hexadecimal"),
        (("Host: h", "Content-Length: 5", "Transfer-Encoding: chunked"), "both framings"),
        (("Host: h", "Transfer-Encoding: gzip, chunked"), "another coding"),
        (("Host: h", "Transfer-Encoding: identity"), "another coding"),
        (("Host: h", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "twice"),
        (("Host: h", "Transfer-Encoding : chunked"), "space before the colon"),
        (("Host: h", "X: a", " folded"), "an obsolete fold"),
        (("Host: h", "X\0Y: a"), "NUL in a name"),
        (("Host: h", "X: a\0b"), "NUL in a value"),
        (("Host: h", "X: a\x01b"), "a control in a value"),
        (("Host: h", "X: a\rb"), "a bare CR in a value"),
        (("Host: h", "(bad): a"), "a separator in a name"),
        (("Host: h", ": a"), "no name"),
        (("Host: h", "Host: h"), "two hosts"),
        (("Host: h", "Host: other"), "two hosts"),
        (("X: y",), "no host"),
    ],
)
async def test_a_head_that_two_parsers_could_read_differently_is_refused(front, chaos, lines, why):
    raw = await front.raw(head(front, *lines))
    assert_refused(raw, 400, "BadRequest")
    assert chaos.count() == 0, why


@pytest.mark.parametrize(
    "line",
    [
        "GET /b/a b HTTP/1.1", "GET /b/k HTTP/1.1 x", "G@T /b/k HTTP/1.1", "GET /b/k HTTP/3.7",
        "GET /b/k\x01 HTTP/1.1", "GET b/k HTTP/1.1", "GET http://[::1 HTTP/1.1", "hello",
        "\x16\x03\x01\x02\x00",
    ],
)  # fmt: skip
async def test_a_request_line_that_is_none_is_refused(front, line):
    raw = await front.raw(line.encode("latin-1") + b"\r\nHost: h\r\n\r\n")
    assert_refused(raw, 400, "BadRequest")


async def test_a_bare_lf_or_an_encoded_line_end_never_becomes_a_header(front):
    raw = await front.raw_get("/a%0d%0aX-Injected:%201")
    assert raw.status in {400, 404, 424}
    assert b"x-injected" not in raw.head.lower()
    raw = await front.raw(head(front, "Host: h", "Range: bytes=0-1\r\nX: y", "Connection: close"))
    assert raw.status == 206


async def test_a_head_over_32_kib_is_431_and_a_long_target_414(front, chaos):
    assert_refused(
        await front.raw(head(front, "Host: h", "X: " + "a" * 33_000)), 431, "RequestHeaderSectionTooLarge"
    )
    many = [f"X-{number}: {'a' * 50}" for number in range(700)]
    assert_refused(await front.raw(head(front, "Host: h", *many)), 431, "RequestHeaderSectionTooLarge")
    raw = await front.raw(b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    assert_refused(raw, 414, "RequestURITooLong")
    raw = await front.raw(head(front, "Host: h", "Connection: close", "X: " + "a" * 30_000))
    assert raw.status == 200
    assert chaos.count() == 1


async def test_a_head_that_never_ends_is_stopped_by_size_not_by_memory(front):
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(b"GET / HTTP/1.1\r\nX: ")
    sent = 0
    try:
        while sent < 4_000_000 and not reader.at_eof():
            writer.write(b"a" * 16_384)
            sent += 16_384
            await writer.drain()
            await asyncio.sleep(0)
    except ConnectionError:
        pass
    data = b""
    with contextlib.suppress(ConnectionError):
        data = await reader.read(100)
    assert data.startswith(b"HTTP/1.1 431") or sent < 4_000_000
    writer.transport.abort()


async def test_a_head_that_dawdles_is_408_and_silence_is_closed(front):
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(b"GET / HTTP/1.1\r\n")

    async def drip():
        while True:
            writer.write(b"X: y\r\n")
            await asyncio.sleep(0.1)

    dripping = asyncio.create_task(drip())
    data = await reader.read(1000)
    dripping.cancel()
    assert data.startswith(b"HTTP/1.1 408")
    assert b"<Code>RequestTimeout</Code>" in data
    assert time.monotonic() - began < 3
    writer.transport.abort()
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    assert await asyncio.wait_for(reader.read(100), PATIENCE_S) == b""
    writer.close()


async def test_a_second_head_on_a_connection_has_its_own_deadline(front):
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(head(front, "Host: h"))
    data = await reader.readuntil(b"\r\n\r\n")
    assert b"200 OK" in data
    await reader.readexactly(len(BODY))
    writer.write(b"GET / HTTP/1.1\r\nX: y")
    assert (await asyncio.wait_for(reader.read(100), PATIENCE_S)).startswith(b"HTTP/1.1 408")
    writer.transport.abort()


async def test_pipelined_requests_are_answered_in_order(front):
    raw = await front.raw(
        head(front, "Host: h", "Range: bytes=0-0")
        + head(front, "Host: h", "Range: bytes=1-2")
        + head(front, "Host: h", "Range: bytes=3-5", "Connection: close")
    )
    assert raw.data.count(b"HTTP/1.1 206") == 3
    assert raw.data.endswith(BODY[3:6])


async def test_bad_input_behind_a_good_request_does_not_spoil_its_answer(front):
    raw = await front.raw(head(front, "Host: h") + b"\x00\x01garbage\r\n\r\n")
    assert raw.status == 200
    assert raw.body.startswith(BODY) or raw.body == BODY[: len(raw.body)]


async def test_a_body_of_a_get_is_never_read_as_a_request(front):
    smuggled = head(front, "Host: h", path="/other")
    raw = await front.raw(head(front, "Host: h", f"Content-Length: {len(smuggled)}") + smuggled)
    assert raw.data.count(b"HTTP/1.1 ") == 1
    raw = await front.raw(
        head(front, "Host: h", "Transfer-Encoding: chunked")
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled)
    )
    assert raw.data.count(b"HTTP/1.1 ") == 1


async def test_an_upgrade_is_ignored(front):
    raw = await front.raw(
        head(front, "Host: h", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: A")
    )
    assert raw.status == 200
    assert raw.body == BODY


async def test_the_absolute_form_means_the_same_object(front):
    target = f"http://elsewhere.example/{front.bucket}/k"
    raw = await front.raw(f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    assert raw.body == BODY


async def test_the_authority_of_the_absolute_form_decides_and_not_host(chaos, mirror, start):
    """RFC 9112, 3.2.2: also for the rule, and whatever Host says."""
    chaos.put("/k", BODY)
    rule = mirror(when={"hosts_allow": ["right.example"]})
    front = await start(rule, bucket_settings={"hosts": ["right.example"]})

    async def status(target: str, host: str) -> int:
        lines = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        return (await front.raw(lines.encode())).status

    assert await status("http://right.example/k", "wrong.example") == 200
    assert await status("HTTP://RIGHT.example:8080/k?x=http://wrong.example/", "wrong.example") == 200
    assert await status("http://wrong.example/k", "right.example") == 404


@pytest.mark.parametrize(
    "target",
    ["ftp://h/k", "file:///k", "http:///k", "http://u:p@h/k", "http://u@h/k", "http://@h/k", "urn:k", "h/k"],
)
async def test_a_target_with_another_scheme_user_info_or_no_host_is_refused(front, target):
    """RFC 9110, 4.2.4; RFC 9112, 3.2.2."""
    target = target.replace("/k", f"/{front.bucket}/k")
    raw = await front.raw(f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    assert raw.status == 400


async def test_an_idle_connection_is_closed_after_keep_alive(front):
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(head(front, "Host: h", "Range: bytes=0-0"))
    await reader.readuntil(b"\r\n\r\n")
    began = time.monotonic()
    await reader.read()
    assert 0.5 < time.monotonic() - began < 3
    writer.close()


async def test_garbage_never_breaks_the_gateway(front):
    chance = random.Random(7)
    good = head(front, "Host: h", "Range: bytes=0-9", "Connection: close")
    for _ in range(150):
        data = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(bytes(data))
        if writer.can_write_eof():
            writer.write_eof()
        try:
            answer = await asyncio.wait_for(reader.read(200), PATIENCE_S)
        except ConnectionError:
            answer = b""
        assert not answer.startswith(b"HTTP/1.1 5"), bytes(data)
        writer.close()
    assert (await front.get("/k")).body == BODY


async def test_every_error_carries_the_same_id_in_head_and_body(front):
    for method in ("GET", "PUT"):
        reply = await front.request(method, "/%FF")
        root = ET.fromstring(reply.body)
        ids = {reply.headers[f"x-{vendor}-request-id"] for vendor in ("oss", "cos", "amz")}
        assert ids == {root.findtext("RequestId")}


@pytest.mark.parametrize(
    ("method", "path", "status", "resource"),
    [
        ("PUT", "/a%20b/c.txt", 405, "/a b/c.txt"),
        ("DELETE", "//c.txt", 405, "/c.txt"),
        ("GET", "/" + "k" * 1025, 400, "/" + "k" * 1025),
        ("GET", "/%ff", 400, "/\ufffd"),
        ("GET", "/", 400, ""),
    ],
)
async def test_an_error_names_bucket_and_key(start, mirror, method, path, status, resource):
    """Section 5: Resource is /bucket/key."""
    front = await start(mirror())
    reply = await front.request(method, path)
    assert reply.status == status
    assert f"<Resource>/{front.bucket}{resource}</Resource>" in reply.text


async def test_an_unknown_bucket_is_named_with_the_key(start, mirror):
    """Section 5."""
    front = await start(mirror())
    reply = await front.get("/a/b", bucket="nobody")
    assert reply.status == 404
    assert "<Resource>/nobody/a/b</Resource>" in reply.text


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/\u4e2d.txt".encode(), "/%E4%B8%AD.txt"),
        ("/e\u0301?v=\u4e2d".encode(), "/e%CC%81?v=%E4%B8%AD"),
    ],
)
async def test_a_key_may_come_unescaped(start, mirror, chaos, path, asked):
    """3.1: what is not escaped is the key as it stands."""
    front = await start(mirror(request={"follow_query": True}))
    raw = await front.raw(
        b"GET /" + front.bucket.encode() + path + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    )
    assert raw.status == 404
    assert [request.target for request in chaos.requests] == [asked]


async def test_unescaped_bytes_that_are_no_utf8_are_no_key(start, mirror, chaos):
    """3.1: 400 InvalidURI, as for escaped ones."""
    front = await start(mirror())
    raw = await front.raw_get("/caf\xe9")
    assert (raw.status, b"<Code>InvalidURI</Code>" in raw.body) == (400, True)
    assert chaos.count() == 0


async def half_closed(front, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(data)
    writer.write_eof()
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    finally:
        writer.close()


async def test_a_client_that_has_said_all_gets_its_answers(front, chaos):
    """As `nc -N` does: the end of what it sends is not the end of the connection."""
    chaos.put("/new", BODY)
    chaos.script("/new", "slow_body,step=20000,interval=0.1")
    assert (await half_closed(front, head(front, "Host: h", path="/new"))).endswith(BODY)
    both = await half_closed(front, head(front, "Host: h") + head(front, "Host: h"))
    assert (both.count(b"HTTP/1.1 200"), both.count(BODY)) == (2, 2)


@pytest.mark.parametrize("data", [b"", b"GET /b/k HTTP/1.1\r\nHo"])
async def test_a_client_that_ends_in_the_middle_of_a_head_is_gone(front, data):
    began = time.monotonic()
    assert await half_closed(front, data) == b""
    assert time.monotonic() - began < 0.6, "before the deadline of a head"
