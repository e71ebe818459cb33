"""What nginx in front of a gateway and the gateway itself take for a request: never one that its client did
not get an answer to (request smuggling). Bodies go through nginx as they come, which is the worst case.
"""

from __future__ import annotations

import socket
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from scheduler.config.settings import Settings
from support.nginx import nginx_before
from support.origin.wire_server import running_wire_server

if TYPE_CHECKING:
    from support.origin.wire_server import WireServer

pytestmark = [pytest.mark.real, pytest.mark.slow]

_INNER = b"GET /site/smuggled HTTP/1.1\r\nHost: h\r\nX: "
_FIRST = b"POST /site/first HTTP/1.1\r\nHost: h\r\n"
_SILENCE_S = 0.3
_CHUNKED = b"0\r\n\r\n" + _INNER


def _with(*lines: bytes, body: bytes) -> bytes:
    return _FIRST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


_LENGTH = b"Content-Length: %d" % len(_CHUNKED)
#: Name of the trick -> bytes of one connection.
ATTACKS: dict[str, bytes] = {
    "cl-te": _with(_LENGTH, b"Transfer-Encoding: chunked", body=_CHUNKED),
    "te-cl": _with(
        b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"2e\r\n" + _INNER + b"\r\n0\r\n\r\n"
    ),
    "te-te": _with(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", _LENGTH, body=_CHUNKED),
    "te-unknown": _with(b"Transfer-Encoding: xchunked", _LENGTH, body=_CHUNKED),
    "te-list": _with(b"Transfer-Encoding: identity, chunked", _LENGTH, body=_CHUNKED),
    "te-space-before-colon": _with(b"Transfer-Encoding : chunked", _LENGTH, body=_CHUNKED),
    "te-tab": _with(b"Transfer-Encoding:\tchunked", _LENGTH, body=_CHUNKED),
    "te-vertical-tab": _with(b"Transfer-Encoding:\x0bchunked", _LENGTH, body=_CHUNKED),
    "te-folded": _with(b"Transfer-Encoding:\r\n chunked", _LENGTH, body=_CHUNKED),
    "te-behind-bare-cr": _with(b"X: a\rTransfer-Encoding: chunked", _LENGTH, body=_CHUNKED),
    "te-behind-bare-lf": _with(b"X: a\nTransfer-Encoding: chunked", _LENGTH, body=_CHUNKED),
    "te-parameter": _with(b"Transfer-Encoding: chunked;a=b", _LENGTH, body=_CHUNKED),
    "te-quoted": _with(b'Transfer-Encoding: "chunked"', _LENGTH, body=_CHUNKED),
    "te-http-1.0": _with(b"Transfer-Encoding: chunked", body=_CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "cl-twice": _with(b"Content-Length: 0", _LENGTH, body=_CHUNKED),
    "cl-list": _with(b"Content-Length: 0, %d" % len(_CHUNKED), body=_CHUNKED),
    "cl-sign": _with(b"Content-Length: +%d" % len(_CHUNKED), body=_CHUNKED),
    "cl-overflow": _with(b"Content-Length: 18446744073709551616", body=_CHUNKED),
    "cl-of-a-get": _with(_LENGTH, body=_CHUNKED).replace(b"POST", b"GET", 1),
    "cl-underscore": _with(b"Content_Length: %d" % len(_CHUNKED), b"Content-Length: 0", body=_CHUNKED),
    "chunk-extension-with-lf": _with(
        b"Transfer-Encoding: chunked", body=b"2;\nxx\r\n2e\r\n0\r\n\r\n" + _INNER + b"\r\n0\r\n\r\n"
    ),
    "chunk-size-spaces": _with(b"Transfer-Encoding: chunked", body=b" 0\r\n\r\n" + _INNER),
    "chunk-size-hex-prefix": _with(b"Transfer-Encoding: chunked", body=b"0x5\r\nhello\r\n0\r\n\r\n" + _INNER),
    "chunk-size-overflow": _with(
        b"Transfer-Encoding: chunked", body=b"10000000000000000\r\nhello\r\n0\r\n\r\n" + _INNER
    ),
    "chunk-end-bare-lf": _with(b"Transfer-Encoding: chunked", body=b"5\nhello\n0\n\n" + _INNER),
    "trailer-length": _with(b"Transfer-Encoding: chunked", body=b"0\r\nContent-Length: 40\r\n\r\n" + _INNER),
    "connection-drops-length": _with(b"Connection: close, Content-Length", _LENGTH, body=_CHUNKED),
    "absolute-form": b"GET http://other/site/first HTTP/1.1\r\nHost: h\r\n\r\n" + _INNER,
    "line-end-in-the-target": b"GET /site/first%0d%0aTransfer-Encoding:%20chunked HTTP/1.1\r\nHost: h\r\n\r\n"
    + _INNER,
    "lf-only": b"GET /site/first HTTP/1.1\nHost: h\nContent-Length: 5\n\nhello" + _INNER,
    "expect": _with(b"Expect: 100-continue", _LENGTH, body=_CHUNKED),
}


@pytest.fixture(scope="module")
def gateway(valkey_url):
    settings = Settings.model_validate({
        "store": {"endpoint": "http://127.0.0.1:9", "access_key_id": "a", "secret_access_key": "b"},
        "broker": {"url": valkey_url, "namespace": f"t{uuid.uuid4().hex[:8]}"},
        "buckets": {"another": {}},  # so that nothing is asked of a store
    })  # fmt: skip
    with running_wire_server(settings) as server:
        yield server


@pytest.fixture(scope="module")
def nginx_port(gateway, tmp_path_factory):
    with nginx_before(gateway.port, tmp_path_factory.mktemp("nginx")) as port:
        yield port


def _answers(gateway: WireServer, port: int, data: bytes) -> tuple[int, list[bytes]]:
    """Answers on a connection that says this and no more; paths that the gateway was asked for meanwhile.

    Who waits for an answer gets it sooner or later; that nothing more comes is seen by a moment of silence.
    """
    got = b""
    deadline = time.monotonic() + 15
    gateway.requests.clear()
    with socket.create_connection(("127.0.0.1", port), timeout=_SILENCE_S) as connection:
        connection.sendall(data)
        while True:
            silent = False
            try:
                chunk = connection.recv(65536)
            except TimeoutError:
                silent, chunk = True, b""
            except ConnectionError:
                chunk = b""
            got += chunk
            answers = got.count(b"HTTP/1.1 ") - got.count(b"HTTP/1.1 100 ")
            seen = [path for _, path, _, _ in gateway.requests]
            settled = answers and answers >= len(seen)
            if time.monotonic() > deadline or not (chunk or silent) or (silent and settled):
                return answers, seen


@pytest.mark.parametrize("name", ATTACKS)
def test_no_request_reaches_the_gateway_without_an_answer_to_its_client(gateway, nginx_port, name):
    following = b"GET /site/next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    for port in (gateway.port, nginx_port):
        answers, seen = _answers(gateway, port, ATTACKS[name])
        assert len(seen) <= answers, (port, seen, answers)
        # The next client on nginx's kept connections gets its own answer, and no other.
        assert _answers(gateway, port, following) == (1, [b"/site/next"]), port
