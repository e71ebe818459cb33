"""Paths that two programs could read differently, and a comparison of a gateway with the front behind it."""

# ruff: noqa: E501 -- a table of spellings reads best unbroken

from __future__ import annotations

import asyncio

#: Objects of the bucket, which no other spelling than their own may give.
SECRETS = {".ferryman/ours": b"ours", "plain": b"plain", "d/plain": b"below"}
#: Of another bucket, under the key `secret`.
OTHERS = b"secret"
#: Unusual ways to what is meant.
RIGHT = {
    "/plain": b"plain", "//plain": b"plain", "/%2fplain": b"plain", "/plain?x=/../y": b"plain",
    "/d%2fplain": b"below", "/%64/plain": b"below", "/d/plain?x=../y\\z": b"below",
}  # fmt: skip
#: None of them means an object above.
TRICKS = (
    "/.ferryman/ours", "/%2eferryman/ours", "//.ferryman/ours", "/.ferryman//ours", "/.ferryman%2fours",
    "/.ferryman%5cours", "/.ferryman%5Cours", "/.ferryman\\ours", "/%5c.ferryman/ours", "/\\.ferryman/ours",
    "\\.ferryman\\ours", "/./.ferryman/ours", "/x/../.ferryman/ours", "/x/%2e%2e/.ferryman/ours",
    "/x%2f..%2f.ferryman/ours", "/x\\..\\.ferryman\\ours", "/x%5c..%5c.ferryman%5cours", "/%252eferryman/ours",
    "/.%66erryman/ours", "/%2e%66erryman%2fours", "/.ferryman;/ours", "/x/..;/.ferryman/ours", "/.ferryman%00/ours", "/.ferryman/ours/", "/.FERRYMAN/ours",
    "/../{other}/secret", "/%2e%2e/{other}/secret", "/..%2f{other}%2fsecret", "/%2e%2e%2f{other}/secret",
    "/..%5c{other}%5csecret", "/..\\{other}\\secret", "/x/../../{other}/secret", "/x%5c..%5c..%5c{other}%5csecret",
    "/%252e%252e/{other}/secret", "/..%252f{other}/secret", "/..;/{other}/secret", "/%c0%ae%c0%ae/{other}/secret",
    "/%c0%ae%c0%ae%c0%af{other}/secret", "//{other}/secret", "/.//../{other}/secret", "/%00/../{other}/secret",
    "/x/%2e./%2e./{other}/secret", "/plain/", "/./plain", "/x/../plain", "/plain/.", "/plain.", "/plain%00",
    "/plain%20", "/plain%2f", "/plain%252f", "/%5cplain", "/plain%5c", "/d//plain", "/d%2f%2fplain", "/d/./plain",
    "/d%5cplain", "/d\\plain", "/d/x/../plain", "/d/x/%2e%2e/plain", "/d/x%2f..%2fplain", "/d%252fplain", "/d/plain;x",
    "/d;/plain", "/d/plain%3fx", "/d/plain%23", "/D/plain", "/d%c0%afplain", "/d%e0%80%afplain", "/d%u002fplain", "/d/",
    "http://{host}/../{other}/secret", "http://other.example/{other}/secret", "*",
)  # fmt: skip


async def _get(port: int, target: str, host: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode("latin-1"))
        async with asyncio.timeout(60):
            answer = await reader.read()
    finally:
        writer.close()
    head_bytes, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head_bytes.lower():
        size, _, rest = body.partition(b"\r\n")
        body = rest[: int(size, 16)]
    return int(head_bytes[9:12]), body


async def misled(gateway: int, front: int, *, host: str, other: str, below: str = "") -> dict[str, object]:
    """What a gateway answers otherwise than it should, by target; `below` is what it puts before a path.

    It may refuse what the front takes, and never gives other bytes than the front alone.
    """
    wrong: dict[str, object] = {}
    for target, expected in RIGHT.items():
        found = await _get(gateway, target, host)
        if found != (200, expected):
            wrong[target] = found
    for raw in TRICKS:
        target = raw.format(other=other, host=host)
        status, body = await _get(gateway, target, host)
        if body in {*SECRETS.values(), OTHERS} or status >= 500:
            wrong[target] = (status, body)
        elif status == 200 and target.startswith("/"):
            alone = await _get(front, f"{below}{target}", host)
            if alone != (200, body):
                wrong[target] = ((status, body[:60]), "the front:", (alone[0], alone[1][:60]))
    return wrong
