"""Debian's nginx in front of SeaweedFS and two fronts, with the very file of deploy/nginx."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import uuid
from pathlib import Path

import aiohttp
import boto3
import pytest

from scheduler.config.ports import free_ports
from support.gateway import until
from support.real import skip_or_fail
from support.spellings import OTHERS, SECRETS, misled

pytestmark = [pytest.mark.real, pytest.mark.slow]

BODY = os.urandom(300_000)
SNIPPET = Path(__file__).parents[3] / "deploy" / "nginx" / "ferryman.conf"
#: What must be changed for a site; the rest is run as it stands.
STORE, FRONT, LISTEN, NAME, BUCKET = (
    "server 127.0.0.1:8333;",
    "server 127.0.0.1:8080 max_fails=0;",
    "listen 80;",
    "server_name www.example.com;",
    "http://ferryman_store/site$request_uri",
)


@contextlib.asynccontextmanager
async def running_nginx(directory: Path, store: str, fronts: list[int], bucket: str):
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        skip_or_fail("nginx is not installed (apt-get install nginx-light)")
    port = free_ports(1)[0]
    text = SNIPPET.read_text(encoding="utf-8")
    for old, new in [
        (STORE, f"server {store};"),
        (FRONT, " ".join(f"server 127.0.0.1:{front} max_fails=0;" for front in fronts)),
        (LISTEN, f"listen 127.0.0.1:{port};"),
        (NAME, "server_name files.example;"),
        (BUCKET, f"http://ferryman_store/{bucket}$request_uri"),
    ]:
        assert old in text
        text = text.replace(old, new)
    (directory / "ferryman.conf").write_text(text, encoding="utf-8")
    # Its workers must reach the temporary folder, which is closed to others.
    user = "user root;" if os.geteuid() == 0 else ""
    (directory / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; client_body_temp_path {directory}/b; proxy_temp_path {directory}/p;\n"
        f"fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;\n"
        f"include {directory}/ferryman.conf; }}\n",
        encoding="utf-8",
    )
    process = await asyncio.create_subprocess_exec(
        nginx, "-c", str(directory / "nginx.conf"), "-p", str(directory)
    )
    try:

        async def up():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return True
            return None

        await until(up)
        yield port
    finally:
        process.terminate()
        await process.wait()


def publish(seaweed, bucket):
    """Let everybody read the objects of a bucket, which is made if there is none."""
    client = boto3.client(
        "s3",
        endpoint_url=seaweed.endpoint,
        aws_access_key_id=seaweed.access_key_id,
        aws_secret_access_key=seaweed.secret_access_key,
        region_name="us-east-1",
    )
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject"],
        "Resource": [f"arn:aws:s3:::{bucket}/*"],
    }
    with contextlib.suppress(
        client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou
    ):
        client.create_bucket(Bucket=bucket)
    client.put_bucket_policy(
        Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    client.close()


@pytest.fixture
async def site(seaweed, chaos, mirror, start, bucket, tmp_path):
    """(nginx's port, the fronts, a session that speaks to files.example)."""
    namespace = f"t{uuid.uuid4().hex[:8]}"
    more = {
        "namespace": namespace,
        "gateway": {"listen": "127.0.0.1:0", "trusted_proxies": ["127.0.0.1/32"]},
        "bucket_settings": {"hosts": ["files.example"]},
    }
    rule = mirror(request={"follow_query": False, "protocol": "http"}, store={"last_modified": True})
    fronts = [await start(rule, **more), await start(rule, **more)]

    await asyncio.to_thread(publish, seaweed, bucket)
    store = seaweed.endpoint.removeprefix("http://")
    async with (
        running_nginx(tmp_path, store, [front.port for front in fronts], bucket) as port,
        aiohttp.ClientSession(auto_decompress=False, headers={"Host": "files.example"}) as session,
    ):

        async def get(path, headers=None, method="GET"):
            from yarl import URL

            url = URL(f"http://127.0.0.1:{port}{path}", encoded=True)
            async with session.request(method, url, headers=headers, allow_redirects=False) as response:
                return response.status, response.headers, await response.read()

        yield port, fronts, get


async def test_a_miss_goes_through_nginx_to_ferryman_and_the_next_get_to_the_store(site, chaos):
    _, fronts, get = site
    chaos.put("/img/a b+c//d.jpg", BODY, [("Content-Type", "image/x"), ("Access-Control-Allow-Origin", "*")])
    path = "/img/a%20b%2Bc/%2Fd.jpg?v=1"
    given = [("Content-Type", "image/x"), ("Access-Control-Allow-Origin", "*"), ("Expires", "in a while")]
    chaos.put("/img/plain.jpg", BODY, [*given, ("Last-Modified", "Tue, 01 Feb 2022 03:04:05 GMT")])
    status, headers, body = await get(path)
    assert (status, body) == (200, BODY)
    assert chaos.asked("/img/a b+c//d.jpg")
    status, headers, body = await get("/img/plain.jpg")
    assert (status, body) == (200, BODY)
    tag = headers["x-oss-tag"]
    assert tag.startswith("MIRROR http%3a%2f%2f")
    for front in fronts:
        await front.idle()
    await chaos.__aexit__()
    status, headers, body = await get("/img/plain.jpg")
    assert (status, body) == (200, BODY)
    assert headers["x-oss-tag"] == tag
    assert headers["access-control-allow-origin"] == "*"
    assert headers.getall("expires") == ["in a while"]
    assert headers.getall("last-modified") == ["Tue, 01 Feb 2022 03:04:05 GMT"]
    assert not [name for name in headers if name.lower().startswith("x-amz-meta-")]
    status, headers, body = await get("/img/plain.jpg", {"Range": "bytes=5-9"})
    assert (status, body) == (206, BODY[5:10])


async def test_whoever_got_the_miss_revalidates_and_continues_on_the_hit(site, chaos):
    """F45, F62: nginx gives the kept validators, and what is asked with them is judged by Ferryman."""
    _, fronts, get = site
    given = [("ETag", '"of-the-origin"'), ("Last-Modified", "Tue, 01 Feb 2022 03:04:05 GMT")]
    chaos.put("/k", BODY, given)
    miss = (await get("/k"))[1]
    for front in fronts:
        await front.idle()
    await chaos.__aexit__()
    for hit in ((await get("/k"))[1], (await get("/k", {"Range": "bytes=5-9"}))[1]):
        for name in ("etag", "last-modified"):
            assert (
                hit.getall(name)
                == miss.getall(name)
                == [dict(given)[{"etag": "ETag"}.get(name, "Last-Modified")]]
            )
    for condition, status in [
        ({"If-None-Match": miss["etag"]}, 304),
        ({"If-Modified-Since": miss["last-modified"]}, 304),
        ({"If-Match": '"another"'}, 412),
    ]:
        assert (await get("/k", condition))[0] == status, condition
    status, _, body = await get("/k", {"Range": "bytes=1000-", "If-Range": miss["etag"]})
    assert (status, body) == (206, BODY[1000:])


async def test_a_herd_through_nginx_over_two_fronts_is_one_fetch(site, chaos):
    _, _fronts, get = site
    chaos.put("/k", BODY)
    chaos.script("/k", "slow_body,step=100000,interval=0.2")
    replies = await asyncio.gather(*(get("/k") for _ in range(100)))
    assert all(status == 200 and body == BODY for status, _, body in replies)
    assert chaos.count("/k") == 1
    for _ in range(20):
        assert (await get("/k"))[2] == BODY
    assert chaos.count("/k") == 1


async def test_a_cut_body_stays_cut_behind_nginx(site, chaos):
    """P3 through a proxy."""
    port, _, _ = site
    chaos.put("/k", BODY)
    for step in ("no_last_chunk", "truncate,at=100000,resume=no"):
        key = f"/{step.partition(',')[0]}"
        chaos.put(key, BODY)
        chaos.script(key, step)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {key} HTTP/1.1\r\nHost: files.example\r\nConnection: close\r\n\r\n".encode())
        data = b""
        with contextlib.suppress(ConnectionError):
            data = await reader.read(-1)
        writer.close()
        assert b"0\r\n\r\n" not in data[-7:]
        length = re.search(rb"(?i)content-length: (\d+)", data)
        if length is not None and data.startswith(b"HTTP/1.1 200"):
            assert len(data.partition(b"\r\n\r\n")[2]) < int(length[1])


async def test_errors_pass_and_writes_and_our_own_keys_do_not(site, chaos):
    _, _, get = site
    chaos.script("/none", "status,code=404")
    status, _, body = await get("/none")
    assert status == 404
    assert b"NoSuchKey" in body
    chaos.script("/bad", "status,code=500")
    status, _headers, body = await get("/bad")
    assert status == 424
    assert b"MirrorFailed" in body
    assert (await get("/x", method="PUT"))[0] == 405
    assert (await get("/.ferryman/report"))[0] == 404
    status, _, body = await get("/none", method="HEAD")
    assert (status, body) == (404, b"")


async def test_no_spelling_of_a_path_leads_to_another_key_room_or_bucket(site, seaweed, chaos, bucket):
    port, fronts, _ = site
    store = fronts[0].services.store
    other = f"{bucket}-other"
    await asyncio.to_thread(publish, seaweed, other)
    await store.put_small(other, "secret", OTHERS, content_type="text/plain")
    for key, body in SECRETS.items():
        await store.put_small(bucket, key, body, content_type="text/plain")
    assert await misled(port, fronts[0].port, host="files.example", other=other) == {}
