"""What a front serves at all, and to whom; the clients that its users have."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from support.gateway import until
from support.spellings import OTHERS, SECRETS, misled

pytestmark = pytest.mark.real

BODY = b"x" * 50_000


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
async def test_writes_are_refused_with_a_clear_text(mirror, start, method):
    """W8, issue item 6."""
    front = await start(mirror())
    reply = await front.request(method, "/k")
    assert reply.status == 405
    assert b"<Code>MethodNotAllowed</Code>" in reply.body
    assert b"to write, sign with one of gateway.access_keys" in reply.body
    assert reply.headers["allow"] == "GET, HEAD"


async def test_only_configured_buckets_exist_and_nothing_of_our_own_is_served(chaos, mirror, start):
    """Fact 13."""
    front = await start(mirror())
    reply = await front.get("/k", bucket="another-bucket")
    assert reply.status == 404
    assert b"NoSuchBucket" in reply.body
    await front.services.store.put_small(front.bucket, ".ferryman/report.json", b"{}", content_type="a/b")
    for path in ("/.ferryman/report.json", "/%2eferryman/report.json", "//.ferryman/report.json"):
        assert (await front.get(path)).status == 404, path
    assert chaos.count() == 0


async def test_no_spelling_of_a_path_leads_to_another_key_room_or_bucket(chaos, mirror, start, seaweed):
    other = f"t-{uuid.uuid4().hex[:20]}"
    front = await start(mirror(), bucket_settings={"hosts": ["files.example"]})
    store = front.services.store
    await store.ensure_bucket(other)
    await store.put_small(other, "secret", OTHERS, content_type="text/plain")
    for key, body in SECRETS.items():
        await store.put_small(front.bucket, key, body, content_type="text/plain")
    assert await misled(front.port, front.port, host="files.example", other=other) == {}


@pytest.mark.parametrize("path", ["/", "", "/%FF", "/a%00b"])
async def test_a_path_that_names_no_object_is_400(mirror, start, path):
    """Section 3.1."""
    front = await start(mirror())
    raw = await front.raw_get(path)
    assert raw.status == 400
    assert b"<Code>InvalidURI</Code>" in raw.body


async def test_a_key_over_1024_bytes_is_400(mirror, start):
    """L8."""
    front = await start(mirror())
    reply = await front.get("/" + "k" * 1025)
    assert reply.status == 400
    assert b"KeyTooLongError" in reply.body


async def test_a_bucket_by_host_and_a_scheme_by_a_trusted_proxy(chaos, mirror, start):
    """Bucket lookup; 3.4."""
    front = await start(
        mirror("redirect", request={"protocol": "follow"}),
        gateway={"listen": "127.0.0.1:0", "trusted_proxies": ["127.0.0.1/32"]},
        bucket_settings={"hosts": ["files.example"]},
    )
    raw = await front.raw(
        b"GET /k HTTP/1.1\r\nHost: files.example:8080\r\n"
        b"X-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
    )
    assert raw.status == 302
    assert f"location: https://{chaos.host}/k".encode() in raw.head


async def test_a_signed_bucket_wants_a_signature(chaos, mirror, start):
    """Access per bucket; a presigned URL of boto3 reads through the gateway."""
    boto3 = pytest.importorskip("boto3")
    from botocore.config import Config

    chaos.put("/k", BODY)
    front = await start(
        mirror(),
        gateway={"listen": "127.0.0.1:0", "access_keys": [{"id": "reader", "secret": "s3cret"}]},
        bucket_settings={"access": "signed"},
    )
    assert (await front.get("/k")).status == 403
    assert chaos.count() == 0

    def read(secret):
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{front.port}",
            aws_access_key_id="reader",
            aws_secret_access_key=secret,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )
        body = client.get_object(Bucket=front.bucket, Key="k")["Body"].read()
        client.close()
        return body

    assert await asyncio.to_thread(read, "s3cret") == BODY
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        await asyncio.to_thread(read, "wrong")


async def test_boto3_and_curl_read_through_the_gateway(chaos, mirror, start, tmp_path):
    """Issue: boto3 get_object, download_file with allow_head, curl with a range."""
    boto3 = pytest.importorskip("boto3")
    from botocore.config import Config

    chaos.put("/a b+c/中.txt", BODY)
    chaos.put("/d", BODY * 200)
    front = await start(mirror(answer={"allow_head": True}))

    def read():
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{front.port}",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )
        first = client.get_object(Bucket=front.bucket, Key="a b+c/中.txt")["Body"].read()
        client.download_file(front.bucket, "d", str(tmp_path / "d"))
        with pytest.raises(client.exceptions.NoSuchKey):
            client.get_object(Bucket=front.bucket, Key="none")
        client.close()
        return first

    assert await asyncio.to_thread(read) == BODY
    assert (tmp_path / "d").read_bytes() == BODY * 200

    async def curl(*arguments):
        process = await asyncio.create_subprocess_exec(
            "curl",
            "-sS",
            *arguments,
            str(front.url("/a%20b%2Bc/%E4%B8%AD.txt")),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return process.returncode, out

    assert await curl() == (0, BODY)
    assert await curl("-r", "10-19") == (0, BODY[10:20])
    assert await curl("--compressed", "--http2") == (0, BODY)


async def test_a_rule_document_goes_in_and_works_at_once(chaos, start):
    """W1, W2: `?origin` on the gateway's own port."""
    chaos.put("/k", BODY)
    front = await start(origin={"allow_networks": ["127.0.0.0/8"]})
    assert (await front.get("/k")).status == 404
    document = (
        "<OriginConfiguration><OriginRule><OriginType>Mirror</OriginType><OriginInfo><HostInfo>"
        f"<HostName>{chaos.host}</HostName></HostInfo></OriginInfo></OriginRule></OriginConfiguration>"
    )
    put = await front.request("PUT", "?origin", data=document.encode())
    assert put.status == 200, put.body

    async def served():
        return (await front.get("/k")).status == 200 or None

    await until(served)
