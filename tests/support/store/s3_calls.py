"""S3 calls by hand: signed for a gateway, with whatever body the test wants.

status, headers, body = await S3Caller(front.port).call("PUT", "/bucket/key", body=b"...")
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import botocore.exceptions
import pytest

from workers.store.wire.signing import Credentials, Signer

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_ID = "CLIENT-KEY"
SECRET = "client-secret"
EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(slots=True, kw_only=True)
class S3Reply:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Of an error document."""
        return self.body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode()


@dataclass(slots=True, kw_only=True)
class S3Caller:
    """A client with one key pair."""

    port: int
    key_id: str = KEY_ID
    secret: str = SECRET
    signer: Signer = field(default_factory=lambda: Signer("us-east-1"))

    def signed(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        payload: str,
        headers: dict[str, str] | None = None,
        now: float | None = None,
    ) -> dict[str, str]:
        """Headers of a request, signed."""
        found = {"host": f"127.0.0.1:{self.port}", **(headers or {})}
        self.signer.sign(
            Credentials(self.key_id, self.secret),
            method,
            path,
            query,
            found,
            payload_sha256=payload,
            now=time.time() if now is None else now,
        )
        return found

    async def call(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        body: bytes = b"",
        payload: str | None = None,
        headers: dict[str, str] | None = None,
        unsigned: dict[str, str] | None = None,
        length: int | None = None,
        now: float | None = None,
    ) -> S3Reply:
        """Send a request and read its answer; `length` promises another number of bytes."""
        payload = hashlib.sha256(body).hexdigest() if payload is None else payload
        found = self.signed(method, path, query, payload=payload, headers=headers, now=now)
        return await self.send(method, path, query, {**found, **(unsigned or {})}, body, length=length)

    async def send(
        self,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        body: bytes,
        *,
        length: int | None = None,
    ) -> S3Reply:
        """Send exactly this over a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            target = f"{path}?{query}" if query else path
            size = len(body) if length is None else length
            lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
            lines += [f"content-length: {size}", "connection: close", "", ""]
            writer.write("\r\n".join(lines).encode("latin-1") + body)
            if size > len(body):
                writer.write_eof()
            async with asyncio.timeout(30):
                data = await reader.read()
        finally:
            writer.close()
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        found = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in fields)}
        if found.get("transfer-encoding") == "chunked":
            rest = _unchunked(rest)
        return S3Reply(status=int(first.split()[1]) if first else 0, headers=found, body=rest)

    def chunked(
        self,
        path: str,
        chunks: list[bytes],
        query: str = "",
        *,
        headers: dict[str, str] | None = None,
        trailer: tuple[str, str] | None = None,
        wrong: int | None = None,
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body of a chunk-signed PUT; the chunk `wrong` (-1: the trailer) is signed wrongly."""
        word = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")
        given = {
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": str(sum(map(len, chunks))),
            **({"x-amz-trailer": trailer[0]} if trailer else {}),
            **(headers or {}),
        }
        found = self.signed("PUT", path, query, payload=word, headers=given)
        stamp = found["x-amz-date"]
        scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
        key = f"AWS4{self.secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        previous = found["authorization"].rpartition("Signature=")[2]
        out = b""
        for at, chunk in enumerate([*chunks, b""]):
            text = "\n".join(
                ("AWS4-HMAC-SHA256-PAYLOAD", stamp, scope, previous, EMPTY, hashlib.sha256(chunk).hexdigest())
            )
            previous = hmac.digest(key, text.encode(), "sha256").hex()
            shown = "0" * 64 if at == wrong else previous
            out += (
                f"{len(chunk):x};chunk-signature={shown}\r\n".encode() + chunk + (b"\r\n" if chunk else b"")
            )
        if trailer:
            line = f"{trailer[0]}:{trailer[1]}\n"
            digest = hashlib.sha256(line.encode()).hexdigest()
            text = f"AWS4-HMAC-SHA256-TRAILER\n{stamp}\n{scope}\n{previous}\n{digest}"
            signature = "0" * 64 if wrong == -1 else hmac.digest(key, text.encode(), "sha256").hex()
            out += f"{trailer[0]}:{trailer[1]}\r\nx-amz-trailer-signature:{signature}\r\n".encode()
        return found, out + b"\r\n"


def _unchunked(data: bytes) -> bytes:
    out = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        n = int(size, 16)
        if not n:
            break
        out += data[:n]
        data = data[n + 2 :]
    return out


def refusal(call: Callable[..., object], *args: Any, **kwargs: Any) -> tuple[int, str, str]:
    """Status, code and message of what boto3 was refused."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(*args, **kwargs)
    error = caught.value.response
    return (
        error["ResponseMetadata"]["HTTPStatusCode"],
        error["Error"]["Code"],
        error["Error"].get("Message", ""),
    )
