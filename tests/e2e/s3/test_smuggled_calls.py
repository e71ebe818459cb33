"""A request hidden in another one, that would delete: what the front and a real nginx before it make of it.

What is hidden is signed, so whoever executes it deletes the object. It is sent where one of two readers could
see a second request; a client that gets one answer must have asked for one thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from support.nginx import nginx_before
from support.patience import PATIENCE_S
from support.store.s3_calls import KEY_ID, SECRET, S3Caller
from workers.store.wire.signing import Credentials

pytestmark = pytest.mark.real

_CHUNKED = "Transfer-Encoding: chunked"
#: Name -> (lines of framing, what stands before the hidden request in the body). `{n}` is the body's length.
FRAMINGS: dict[str, tuple[tuple[str, ...], bytes]] = {
    "cl-te": (("Content-Length: {n}", _CHUNKED), b"0\r\n\r\n"),
    "te-cl": ((_CHUNKED, "Content-Length: 4"), b"0\r\n\r\n"),
    "te twice": ((_CHUNKED, "Transfer-Encoding: identity", "Content-Length: {n}"), b"0\r\n\r\n"),
    "te of another coding": (("Transfer-Encoding: gzip, chunked", "Content-Length: {n}"), b"0\r\n\r\n"),
    "te unknown": (("Transfer-Encoding: xchunked", "Content-Length: {n}"), b"0\r\n\r\n"),
    "te with a space": (("Transfer-Encoding : chunked", "Content-Length: {n}"), b"0\r\n\r\n"),
    "te folded": (("Transfer-Encoding:\r\n chunked", "Content-Length: {n}"), b"0\r\n\r\n"),
    "te behind a fold": (("X: a\r\n Transfer-Encoding: chunked", "Content-Length: {n}"), b"0\r\n\r\n"),
    "te behind a bare CR": (("X: a\rTransfer-Encoding: chunked", "Content-Length: {n}"), b"0\r\n\r\n"),
    "te behind a bare LF": (("X: a\nTransfer-Encoding: chunked", "Content-Length: {n}"), b"0\r\n\r\n"),
    "te behind a NUL": (("X: a\0\r\nTransfer-Encoding: chunked", "Content-Length: {n}"), b"0\r\n\r\n"),
    "te in a name with NUL": (("Transfer-Encoding\0: chunked", "Content-Length: {n}"), b"0\r\n\r\n"),
    "te with an underscore": (("Transfer_Encoding: chunked", "Content-Length: {n}"), b"0\r\n\r\n"),
    "two lengths": (("Content-Length: 0", "Content-Length: {n}"), b""),
    "two lengths in a list": (("Content-Length: 0, {n}",), b""),
    "the same length twice": (("Content-Length: {n}", "Content-Length: {n}"), b""),
    "a length with a sign": (("Content-Length: +{n}",), b""),
    "a length in hex": (("Content-Length: 0x{n}",), b""),
    "a length folded": (("Content-Length:\r\n {n}",), b""),
    "a length dropped by connection": (("Connection: content-length", "Content-Length: {n}"), b""),
    "no length at all": ((), b""),
    "a length of nothing": (("Content-Length: 0",), b""),
    "a length too short": (("Content-Length: 3",), b"abc"),
    "a whole body": (("Content-Length: {n}",), b""),
    "a body that is expected": (("Content-Length: {n}", "Expect: 100-continue"), b""),
    "chunks that end": ((_CHUNKED,), b"0\r\n\r\n"),
    "a chunk of bare LF": ((_CHUNKED,), b"0\n\n"),
    "a chunk's size that overflows": ((_CHUNKED,), b"10000000000000000\r\n\r\n0\r\n\r\n"),
    "a chunk's extension with a line end": ((_CHUNKED,), b"0;a\nb\r\n\r\n"),
    "a trailer with a length": ((_CHUNKED,), b"0\r\nContent-Length: 3\r\n\r\n"),
    "aws-chunked": (("Content-Length: {n}", "Content-Encoding: aws-chunked"), b"0\r\n\r\n"),
}
#: What the reader of a request may see as a second one that follows it, which is what these bytes say.
OPENLY = {
    "no length at all", "a length of nothing", "a length too short", "chunks that end",
    "a length dropped by connection", "te with an underscore",
}  # fmt: skip
#: What nginx reads as the end of a body, and the front refuses: it makes two requests of its own of it.
TAKEN_BY_NGINX = {"a chunk of bare LF", "a chunk's extension with a line end", "a trailer with a length"}
#: Method, and whether the signature of the request that hides is right.
WAYS = (("PUT", True), ("PUT", False), ("GET", True), ("DELETE", True), ("POST", True))


@pytest.fixture
async def site(start, caller, client):
    front = await start()
    s3 = caller(front)
    await front.services.store.put_small(front.bucket, "readable", b"r", content_type="text/plain")
    return front, s3


def _hidden(s3: S3Caller, path: str) -> bytes:
    """A whole request that deletes, as anybody could write it who was given a link."""
    host, who = f"127.0.0.1:{s3.port}", Credentials(KEY_ID, SECRET)
    query = s3.signer.presign(who, "DELETE", path, [], host=host, expires_s=600, now=time.time())
    return f"DELETE {path}?{query} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


async def _say(port: int, data: bytes, *, silence_s: float = 0.4) -> list[int]:
    """Statuses of the answers on a connection of its own, until it ends or nothing more comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        writer.write(data)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                async with asyncio.timeout(silence_s if b"HTTP/1.1 " in got else PATIENCE_S):
                    chunk = await reader.read(65536)
            except TimeoutError:
                break
            if not chunk:
                break
            got += chunk
    except ConnectionError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    statuses = [int(part[:3]) for part in got.split(b"HTTP/1.1 ")[1:]]
    return [status for status in statuses if status != 100]


def _outer(s3: S3Caller, method: str, path: str, *, lines: tuple[str, ...], body: bytes, good: bool) -> bytes:
    chunked = "Content-Encoding: aws-chunked" in lines
    payload = "STREAMING-UNSIGNED-PAYLOAD-TRAILER" if chunked else "UNSIGNED-PAYLOAD"
    more = {"x-amz-decoded-content-length": "0"} if chunked else {}
    headers = s3.signed(method, path, payload=payload, headers=more)
    if not good:
        headers["authorization"] = headers["authorization"][:-1] + "x"
    shown = [f"{name}: {value}" for name, value in headers.items()]
    framing = [line.replace("{n}", str(len(body))) for line in lines]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *shown, *framing, "", ""]).encode("latin-1") + body


@pytest.mark.slow
@pytest.mark.parametrize("behind", ["the front itself", "nginx"])
async def test_what_is_hidden_in_a_request_is_never_executed(site, tmp_path, behind):
    front, s3 = site
    executed: set[str] = set()
    with contextlib.ExitStack() as stack:
        port = front.port
        if behind == "nginx":
            port = await asyncio.to_thread(stack.enter_context, nginx_before(front.port, tmp_path))
        following = _outer(
            s3, "GET", f"/{front.bucket}/readable", lines=("Connection: close",), body=b"", good=True
        )

        async def hide(name: str, number: int) -> None:
            (lines, before), (method, good) = FRAMINGS[name], WAYS[number]
            victim = f"victim-{number}"
            await front.services.store.put_small(front.bucket, victim, b"v", content_type="a/b")
            body = before + _hidden(s3, f"/{front.bucket}/{victim}")
            data = _outer(s3, method, f"/{front.bucket}/outer-{number}", lines=lines, body=body, good=good)
            answers = await _say(port, data)
            if await front.stored(victim) is None:
                executed.add(name)
                assert len(answers) >= 2, (name, method, good, answers)

        for name in FRAMINGS:
            await asyncio.gather(*(hide(name, number) for number in range(len(WAYS))))
            # Who comes next, over nginx's kept connections too, gets the answer to what he asked.
            assert await _say(port, following) == [200], name
    assert executed <= OPENLY | (TAKEN_BY_NGINX if behind == "nginx" else set())


@pytest.mark.parametrize("line", [
    "{method} http://127.0.0.1:{port}{path} HTTP/1.1", "{method} HTTP://other.example{path} HTTP/1.1",
    "{method} other.example:80 HTTP/1.1", "CONNECT 127.0.0.1:{port} HTTP/1.1", "{method} * HTTP/1.1",
    "{method} ftp://127.0.0.1:{port}{path} HTTP/1.1", "{method} http://u:p@127.0.0.1:{port}{path} HTTP/1.1",
    "{method} //127.0.0.1:{port}{path} HTTP/1.1", "{method} {path}\0 HTTP/1.1", "{method} {path}\tx HTTP/1.1",
])  # fmt: skip
async def test_a_target_in_another_form_is_signed_as_it_means_or_refused(site, line):
    """The authority of an absolute form takes Host's place, in the signature too; one alone is no target."""
    front, s3 = site
    path = f"/{front.bucket}/readable"
    for method in ("GET", "PUT", "DELETE"):
        data = _outer(s3, method, path, lines=("Content-Length: 0", "Connection: close"), body=b"", good=True)
        first = line.format(method=method, port=front.port, path=path)
        _, _, rest = data.partition(b"\r\n")
        answers = await _say(front.port, first.encode("latin-1") + b"\r\n" + rest)
        meant = line.startswith("{method} http://127") and method == "GET"
        if meant:
            assert answers == [200]
            continue
        assert len(answers) == 1, (line, method)
        taken = line.startswith("{method} http://127")
        assert answers[0] in ({200, 204} if taken else {400, 403, 404, 405}), (line, method, answers)
        if answers[0] in {400, 403, 404, 405}:
            assert await front.stored("readable") == b"r"


async def _endless(port: int, head: bytes, piece: bytes, *, most: int) -> tuple[int, bytes]:
    """Bytes that were sent until the other side had enough, and what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said, sent = b"", 0

    async def listen() -> None:
        nonlocal said
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65536):
                said += chunk

    listening = asyncio.create_task(listen())
    try:
        writer.write(head)
        while sent < most and not listening.done():
            writer.write(piece)
            sent += len(piece)
            async with asyncio.timeout(PATIENCE_S):
                await writer.drain()
            await asyncio.sleep(0)
    except (ConnectionError, TimeoutError):
        pass
    finally:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([listening])
        writer.transport.abort()
    return sent, said


_LONG = ("Content-Length: 999999999",)
_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


@pytest.mark.parametrize(
    ("method", "query", "payload", "lines", "piece", "statuses"),
    [
        ("PUT", "", "UNSIGNED-PAYLOAD", (_CHUNKED,), b"10000\r\n" + b"x" * 65536 + b"\r\n", {411}),
        ("POST", "delete=", "UNSIGNED-PAYLOAD", (_CHUNKED,), b"10000\r\n" + b" " * 65536 + b"\r\n", {411}),
        ("POST", "delete=", "UNSIGNED-PAYLOAD", _LONG, b" " * 65536, {400}),
        ("PUT", "tagging=", "UNSIGNED-PAYLOAD", _LONG, b" " * 65536, {400}),
        ("GET", "", "UNSIGNED-PAYLOAD", _LONG, b" " * 65536, {200, 400}),
        ("PUT", "", _UNSIGNED_TRAILER, _LONG, b"1" * 65536, {400}),
        ("PUT", "", _UNSIGNED_TRAILER, _LONG,
         b"1\r\nx\r\n" * 10_000, {400}),
        ("PUT", "", _UNSIGNED_TRAILER, _LONG,
         b"0\r\n" + b"x-amz-checksum-crc32:AAAAAA==\r\n" * 2000, {400}),
        ("PUT", "", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", _LONG,
         b"10000;chunk-signature=" + b"0" * 64 + b"\r\n" + b"x" * 65536 + b"\r\n", {400, 403}),
    ],
)  # fmt: skip
async def test_a_body_without_end_is_read_to_its_bound(site, method, query, payload, lines, piece, statuses):
    """A few megabytes of sockets' buffers, no more; the connection ends and nothing is stored."""
    front, s3 = site
    key = "readable" if method == "GET" else "endless"
    path = f"/{front.bucket}" if query == "delete=" else f"/{front.bucket}/{key}"
    more = {"x-amz-decoded-content-length": "1000", "x-amz-trailer": "x-amz-checksum-crc32"}
    headers = s3.signed(method, path, query, payload=payload, headers=more if "STREAMING" in payload else {})
    target = f"{path}?{query}" if query else path
    shown = [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *shown, *lines, "", ""]).encode()
    sent, said = await _endless(front.port, head, piece, most=200_000_000)
    assert sent < 50_000_000
    assert not said or int(said[9:12]) in statuses, said[:500]
    assert await front.stored("endless") is None


async def test_clients_that_dawdle_are_ended_and_others_do_not_notice(start, caller):
    """Heads and bodies a byte at a time, forty of each; meanwhile and afterwards somebody else is served."""
    front = await start(gateway={"header_timeout_s": 1.0, "client_stall_s": 1.0})
    s3, path = caller(front), f"/{front.bucket}/slow"
    headers = s3.signed("PUT", path, payload="UNSIGNED-PAYLOAD")
    lines = [f"PUT {path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
    whole = "\r\n".join([*lines, "content-length: 900000", "", ""]).encode()

    async def dawdle(head: bytes, pieces: int) -> bytes:
        """The rest of a head byte by byte; of a body a beginning, and then silence."""
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        said = asyncio.create_task(reader.read())
        try:
            writer.write(head)
            for _ in range(pieces):
                writer.write(b"X")
                await asyncio.sleep(0.1)
                if said.done():
                    break
            async with asyncio.timeout(PATIENCE_S):
                return await said
        except ConnectionError:
            return b""
        finally:
            writer.close()

    began = time.monotonic()
    slow = [asyncio.create_task(dawdle(whole[:-40], 300)) for _ in range(40)]
    slow += [asyncio.create_task(dawdle(whole + b"x" * 5000, 0)) for _ in range(40)]
    for number in range(5):
        reply = await s3.call("PUT", f"/{front.bucket}/other-{number}", body=b"o")
        assert reply.status == 200
        assert time.monotonic() - began < PATIENCE_S
    ends = await asyncio.gather(*slow)
    assert time.monotonic() - began < PATIENCE_S
    for said in ends:
        assert not said or b" 408 " in said.partition(b"\r\n")[0], said[:200]
    assert await front.stored("slow") is None
    assert (await s3.call("GET", f"/{front.bucket}/other-1")).body == b"o"
