"""S3 clients through the gateways of others, with the very files of deploy/: signatures survive the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from scheduler.config.ports import free_ports
from support.gateway import until
from support.real import skip_or_fail
from support.store.s3_calls import KEY_ID, SECRET

pytestmark = [pytest.mark.real, pytest.mark.slow]

DEPLOY = Path(__file__).parents[3] / "deploy"
BODY = os.urandom(300_000)
LARGE = os.urandom(1 << 20) * 12


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One gateway: its file, what to replace in it ({port}, {front}), a check of the file, and its start."""

    file: str
    places: dict[str, str]
    check: tuple[str, ...]
    #: A name of metadata; Caddy drops headers with an underscore.
    meta: str = "a_b"
    command: tuple[str, ...]


_AROUND = (
    "{user} daemon off; worker_processes 1; pid {root}/pid; error_log {root}/error.log;\n"
    "events {{ worker_connections 1024; }}\n"
    "http {{ access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p;\n"
    "fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n"
    "include {root}/s3.conf; }}\n"
)
ENDPOINTS = {
    "nginx": Endpoint(
        file="nginx/s3.conf",
        places={"listen 9000;": "listen 127.0.0.1:{port};", "127.0.0.1:8080": "127.0.0.1:{front}"},
        check=("nginx", "-t", "-c", "{root}/around.conf", "-p", "{root}"),
        command=("nginx", "-c", "{root}/around.conf", "-p", "{root}"),
    ),
    "haproxy": Endpoint(
        file="haproxy/s3.cfg",
        places={"bind :9000": "bind 127.0.0.1:{port}", "127.0.0.1:8080": "127.0.0.1:{front}"},
        check=("haproxy", "-c", "-f", "{root}/s3.cfg"),
        command=("haproxy", "-db", "-f", "{root}/s3.cfg"),
    ),
    "caddy": Endpoint(
        file="caddy/s3.Caddyfile",
        places={
            "s3.example.com {{\n": "{{\n admin off\n auto_https off\n persist_config off\n}}\n"
            "http://127.0.0.1:{port} {{\n bind 127.0.0.1\n",
            "127.0.0.1:8080": "127.0.0.1:{front}",
        },
        meta="a-b",
        check=("caddy", "validate", "--adapter", "caddyfile", "--config", "{root}/s3.Caddyfile"),
        command=("caddy", "run", "--adapter", "caddyfile", "--config", "{root}/s3.Caddyfile"),
    ),
}


def program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        skip_or_fail(f"{name} is not installed")
    return found


@contextlib.asynccontextmanager
async def running(endpoint: Endpoint, root: Path, front: int):
    (port,) = free_ports(1)
    user = "user root;" if os.geteuid() == 0 else ""
    values = {"port": str(port), "front": str(front), "root": str(root), "user": user}
    text = (DEPLOY / endpoint.file).read_text(encoding="utf-8")
    for old, new in endpoint.places.items():
        assert old.format() in text, old
        text = text.replace(old.format(), new.format(**values))
    (root / Path(endpoint.file).name).write_text(text, encoding="utf-8")
    (root / "around.conf").write_text(_AROUND.format(**values), encoding="utf-8")
    env = {**os.environ, "HOME": str(root), "XDG_DATA_HOME": str(root), "XDG_CONFIG_HOME": str(root)}
    with (root / "out").open("wb") as output:

        async def start(command):
            return await asyncio.create_subprocess_exec(
                program(command[0]),
                *(part.format(**values) for part in command[1:]),
                cwd=root, stdout=output, stderr=output, env=env,
            )  # fmt: skip

        checked = await start(endpoint.check)
        assert await checked.wait() == 0, (root / "out").read_text(errors="replace")[-3000:]
        process = await start(endpoint.command)
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


@pytest.mark.parametrize("name", sorted(ENDPOINTS))
async def test_signed_calls_and_forms_reach_the_front_as_they_were_sent(name, start, mirror, chaos, tmp_path):
    chaos.put("/missing", BODY)
    front = await start(
        mirror(request={"protocol": "http"}),
        gateway={
            "listen": "127.0.0.1:0",
            "trusted_proxies": ["127.0.0.1/32"],
            "access_keys": [{"id": KEY_ID, "secret": SECRET, "may": ["read", "list", "write", "delete"]}],
        },
    )
    async with running(ENDPOINTS[name], tmp_path, front.port) as port:
        s3 = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )
        here, meta = {"Bucket": front.bucket}, ENDPOINTS[name].meta

        def calls():
            s3.put_object(**here, Key="dir/a b+c%2F(1).bin", Body=BODY, Metadata={meta: "c"})
            got = s3.get_object(**here, Key="dir/a b+c%2F(1).bin")
            # Caddy writes names in capitals.
            assert {name.lower(): value for name, value in got["Metadata"].items()} == {meta: "c"}
            assert got["Body"].read() == BODY
            (tmp_path / "large").write_bytes(LARGE)
            config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
            s3.upload_file(str(tmp_path / "large"), front.bucket, "large", Config=config)
            s3.download_file(front.bucket, "large", str(tmp_path / "back"), Config=config)
            assert (tmp_path / "back").read_bytes() == LARGE
            assert s3.get_object(**here, Key="missing")["Body"].read() == BODY
            keys = {one["Key"] for one in s3.list_objects_v2(**here, Prefix="")["Contents"]}
            assert {"dir/a b+c%2F(1).bin", "large"} <= keys
            with httpx.Client(trust_env=False, timeout=30) as http:
                link = s3.generate_presigned_url("get_object", Params={**here, "Key": "large"})
                assert http.get(link).content == LARGE
                form = s3.generate_presigned_post(front.bucket, "form", ExpiresIn=60)
                reply = http.post(form["url"], data=form["fields"], files={"file": ("f", LARGE)})
                assert reply.status_code == 204, reply.text
            s3.delete_objects(**here, Delete={"Objects": [{"Key": "form"}, {"Key": "large"}]})
            s3.delete_object(**here, Key="dir/a b+c%2F(1).bin")

        try:
            await asyncio.to_thread(calls)
        finally:
            s3.close()
    assert await front.stored("form") is None
