"""Bodies of S3 clients: framed, signed, wrong, cut, slow or far too long."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import zlib

import pytest

pytestmark = pytest.mark.real


@pytest.mark.parametrize("size", [100, 500_000])
async def test_a_chunk_signed_body_arrives_without_its_framing(start, caller, size):
    front = await start()
    s3 = caller(front)
    path = f"/{front.bucket}/k"
    chunks = [os.urandom(size), os.urandom(size // 2)]
    body = b"".join(chunks)
    crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    for trailer in (None, ("x-amz-checksum-crc32", crc)):
        headers, sent = s3.chunked(path, chunks, trailer=trailer, headers={"content-type": "text/x"})
        reply = await s3.send("PUT", path, "", headers, sent)
        assert reply.status == 200, reply.body
        assert await front.stored("k") == body
        found = await front.services.store.head(front.bucket, "k")
        assert "content-encoding" not in {name.lower() for name, _ in found.headers}


@pytest.mark.parametrize("size", [100, 500_000])
async def test_a_wrong_body_is_refused_by_name_and_nothing_is_stored(start, caller, size):
    front = await start()
    s3 = caller(front)
    path = f"/{front.bucket}/k"
    body = os.urandom(size)
    wrong_md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    wrong_crc = base64.b64encode(zlib.crc32(b"other").to_bytes(4, "big")).decode()

    async def replies():
        yield "XAmzContentSHA256Mismatch", await s3.call("PUT", path, body=body, payload="0" * 64)
        yield "BadDigest", await s3.call("PUT", path, body=body, headers={"content-md5": wrong_md5})
        yield "InvalidDigest", await s3.call("PUT", path, body=body, headers={"content-md5": "x"})
        unsigned = "UNSIGNED-PAYLOAD"
        crc = {"x-amz-checksum-crc32": wrong_crc}
        yield "BadDigest", await s3.call("PUT", path, body=body, payload=unsigned, headers=crc)
        for wrong in (0, 1, 2, -1):
            headers, sent = s3.chunked(
                path,
                [body, body],
                trailer=(
                    "x-amz-checksum-crc32",
                    base64.b64encode(zlib.crc32(body + body).to_bytes(4, "big")).decode(),
                ),
                wrong=wrong,
            )
            yield "SignatureDoesNotMatch", await s3.send("PUT", path, "", headers, sent)
        headers, sent = s3.chunked(path, [body], trailer=("x-amz-checksum-crc32", wrong_crc))
        yield "BadDigest", await s3.send("PUT", path, "", headers, sent)
        for promised in (size - 1, size + 1):
            headers, sent = s3.chunked(path, [body], headers={"x-amz-decoded-content-length": str(promised)})
            yield "IncompleteBody", await s3.send("PUT", path, "", headers, sent)
        headers, sent = s3.chunked(path, [body])
        yield "IncompleteBody", await s3.send("PUT", path, "", headers, sent[: -len(body) // 2])
        trailing = {"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": str(size)}
        for value, code in ((wrong_crc, "BadDigest"), (None, "MalformedTrailerError")):
            sent = f"{size:x}\r\n".encode() + body + b"\r\n0\r\n"
            sent += f"x-amz-checksum-crc32:{value}\r\n\r\n".encode() if value else b"\r\n"
            yield (
                code,
                await s3.call(
                    "PUT", path, body=sent, payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers=trailing
                ),
            )

    async for code, reply in replies():
        assert reply.code == code, reply.body
        assert await front.stored("k") is None, code


async def test_an_unsigned_trailer_is_verified_and_taken(start, caller):
    front = await start()
    s3 = caller(front)
    for size in (0, 10, 400_000):
        body = os.urandom(size)
        crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        sent = (f"{size:x}\r\n".encode() + body + b"\r\n" if size else b"") + b"0\r\n"
        sent += f"x-amz-checksum-crc32:{crc}\r\n\r\n".encode()
        reply = await s3.call(
            "PUT",
            f"/{front.bucket}/k",
            body=sent,
            payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            headers={
                "content-encoding": "aws-chunked",
                "x-amz-sdk-checksum-algorithm": "CRC32",
                "x-amz-trailer": "x-amz-checksum-crc32",
                "x-amz-decoded-content-length": str(size),
            },
        )
        assert reply.status == 200, reply.body
        assert await front.stored("k") == body


async def test_a_wrong_part_leaves_no_part(start, caller, client):
    front = await start()
    s3, boto = caller(front), client(front)
    begun = await asyncio.to_thread(boto.create_multipart_upload, Bucket=front.bucket, Key="k")
    query = f"partNumber=1&uploadId={begun['UploadId']}"
    body = os.urandom(300_000)
    reply = await s3.call("PUT", f"/{front.bucket}/k", query, body=body, payload="0" * 64)
    assert reply.code == "XAmzContentSHA256Mismatch"
    parts = await asyncio.to_thread(boto.list_parts, Bucket=front.bucket, Key="k", UploadId=begun["UploadId"])
    assert not parts.get("Parts")


async def test_a_client_that_leaves_in_mid_upload_leaves_nothing(start, caller):
    front = await start()
    s3 = caller(front)
    reply = await s3.call(
        "PUT", f"/{front.bucket}/k", body=os.urandom(200_000), payload="UNSIGNED-PAYLOAD", length=900_000
    )
    assert reply.status in {0, 400}
    assert await front.stored("k") is None


async def test_a_client_that_stalls_in_mid_upload_is_ended(start, caller):
    front = await start(gateway={"client_stall_s": 0.3})
    s3 = caller(front)
    path = f"/{front.bucket}/k"
    headers = s3.signed("PUT", path, payload="UNSIGNED-PAYLOAD")
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    lines = [f"PUT {path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items()), "content-length: 900000"]
    writer.write("\r\n".join([*lines, "", ""]).encode() + os.urandom(200_000))
    async with asyncio.timeout(10):
        data = await reader.read()
    writer.close()
    assert b"<Code>RequestTimeout</Code>" in data
    assert await front.stored("k") is None


async def test_100_continue_is_said_only_to_who_may_write(start, caller):
    front = await start()
    path = f"/{front.bucket}/k"
    for key_id, secret, first in (
        ("CLIENT-KEY", "client-secret", b"HTTP/1.1 100 Continue"),
        ("READER", "reader-secret", b"HTTP/1.1 403"),
    ):
        s3 = caller(front)
        s3.key_id, s3.secret = key_id, secret
        headers = s3.signed("PUT", path, payload="UNSIGNED-PAYLOAD", headers={"expect": "100-continue"})
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        lines = [f"PUT {path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items()), "content-length: 5"]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(first)
        writer.close()


async def test_a_document_of_100_mb_is_refused_before_it_is_read(start, caller):
    front = await start()
    s3 = caller(front)
    path = f"/{front.bucket}"
    headers = s3.signed("POST", path, "delete=", payload="UNSIGNED-PAYLOAD")
    reply = await s3.send("POST", path, "delete=", headers, b"<Delete>", length=100_000_000)
    assert (reply.status, reply.code) == (400, "MaxMessageLengthExceeded")


async def test_a_document_of_a_thousand_long_keys_is_taken(start, caller):
    front = await start()
    body = b"<Delete>"
    body += b"".join(b"<Object><Key>%d%s</Key></Object>" % (n, b"&amp;" * 250) for n in range(1000))
    md5 = base64.b64encode(hashlib.md5(body + b"</Delete>").digest()).decode()
    reply = await caller(front).call(
        "POST", f"/{front.bucket}", "delete=", body=body + b"</Delete>", headers={"content-md5": md5}
    )
    assert reply.status == 200, reply.body
    assert reply.body.count(b"<Deleted>") == 1000
