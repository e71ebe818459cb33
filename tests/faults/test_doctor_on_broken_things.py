"""Doctor against servers that are deliberately broken: each is one failed line with a remedy that fits it."""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING

import pytest
import redis as redis_client

from scheduler.config.load import load_settings
from scheduler.doctor import redis, store
from scheduler.doctor.examine import examine
from scheduler.doctor.model import Finding, Level
from support.certificates import Authority
from support.store.fake_s3 import FakeS3, running_fake_s3
from support.valkey import running_valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.config.settings import Settings


def settings_of(tmp_path, text: str) -> Settings:
    path = tmp_path / "config.yaml"
    path.write_text(f"data_dir: {tmp_path}/data\n{text}")
    return load_settings(path, env={})


def bad(findings: list[Finding]) -> dict[str, tuple[str, str]]:
    """Check to (message, remedy) of what is failed."""
    failed = [one for one in findings if one.level is Level.FAILED]
    assert len({one.check for one in failed}) == len(failed), failed
    return {one.check: (one.message, one.remedy) for one in failed}


def with_store(fake: FakeS3) -> str:
    """The section of the configuration."""
    keys = "access_key_id: a, secret_access_key: b, max_retries: 0"
    return f"store: {{endpoint: '{fake.endpoint}', {keys}}}\n"


# ---------------------------------------------------------------- Redis


@pytest.fixture(scope="module")
def own_valkey() -> Iterator[str]:
    """A server that tests may reconfigure."""
    with running_valkey() as url:
        yield url


@pytest.mark.real
@pytest.mark.parametrize(
    ("broken", "well", "check", "words"),
    [
        (
            ["CONFIG SET maxmemory-policy allkeys-lru"],
            ["CONFIG SET maxmemory-policy noeviction"],
            "eviction",
            ("allkeys-lru", "noeviction"),
        ),
        (["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"], "writes", ("memory", "more memory")),
        (["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"], "writes", ("read only", "the primary")),
        (["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"], "role", ("replica", "the primary")),
        (
            ["ACL SETUSER default -set"],
            ["ACL SETUSER default +@all"],
            "writes",
            ("permission", "write and run scripts"),
        ),
    ],
    ids=["evicts", "full", "replica", "replica-role", "no-right"],
)
async def test_a_server_that_loses_or_refuses_work_is_failed(
    tmp_path, own_valkey, broken, well, check, words
):
    settings = settings_of(tmp_path, f"broker: {{url: '{own_valkey}'}}\n")
    with redis_client.Redis.from_url(own_valkey) as admin:
        assert not bad(await redis.check(settings))
        for order in broken:
            admin.execute_command(*order.split())
        try:
            found = bad(await redis.check(settings))
        finally:
            for order in well:
                admin.execute_command(*order.split())
    message, remedy = found[check]
    assert words[0] in message
    assert words[1] in remedy


# ---------------------------------------------------------------- the store


def refusing(action: str, status: int, code: str):
    return lambda request: (status, code) if action in {request.action, "all"} else None


def hiding() -> FakeS3:
    """Says 403 where a key is missing, as S3 does without s3:ListBucket."""
    fake = FakeS3()
    fake.fault = lambda one: (403, "") if one.action == "head" and one.key not in fake.objects else None
    return fake


@pytest.mark.parametrize(
    ("fake", "check", "words"),
    [
        (
            FakeS3(fault=refusing("all", 403, "SignatureDoesNotMatch")),
            "credentials",
            ("SignatureDoesNotMatch", "secret_access_key"),
        ),
        (FakeS3(fault=refusing("all", 403, "RequestTimeTooSkewed")), "clock", ("Skewed", "NTP")),
        (FakeS3(fault=refusing("all", 403, "AccessDenied")), "permissions", ("AccessDenied", "s3:GetObject")),
        (
            FakeS3(fault=refusing("list", 403, "AccessDenied")),
            "permissions",
            ("s3:ListBucket (AccessDenied)", "ListBucket"),
        ),
        (
            FakeS3(fault=refusing("delete", 403, "AccessDenied")),
            "permissions",
            ("s3:DeleteObject (AccessDenied)", "DeleteObject"),
        ),
        (
            FakeS3(fault=refusing("all", 404, "NoSuchBucket")),
            "answers",
            ("NoSuchBucket", "create the bucket"),
        ),
        (hiding(), "missing_key", ("answers 403", "s3:ListBucket")),
    ],
    ids=["wrong-secret", "skewed", "denied", "no-list", "no-delete", "no-bucket", "403-for-missing"],
)
async def test_a_store_that_refuses_says_what_is_missing(tmp_path, fake, check, words):
    async with running_fake_s3(fake):
        settings = settings_of(
            tmp_path,
            f"{with_store(fake)}buckets: {{site: {{}}}}\n",
        )
        message, remedy = bad(await store.check(settings))[check]
    assert words[0] in message
    assert words[1] in remedy


async def test_a_store_without_create_only_writes_is_a_warning_and_nothing_is_left_behind(tmp_path):
    fake = FakeS3(create_only="ignores")
    async with running_fake_s3(fake):
        settings = settings_of(
            tmp_path,
            f"{with_store(fake)}buckets: {{site: {{}}}}\n",
        )
        found = await store.check(settings)
    assert not bad(found)
    levels = {one.check: one.level for one in found}
    assert levels["create_only"] is Level.WARNING
    assert levels["permissions"] is Level.OK
    assert fake.objects == {}


# ---------------------------------------------------------------- origins


class Sloppy(http.server.BaseHTTPRequestHandler):
    """Says 200 to everything."""

    def do_GET(self) -> None:
        body = b"<html><title>Not found</title>nothing here</html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 -- http.server's name

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def sloppy(tmp_path, request) -> Iterator[str]:
    """Its URL; over TLS with a certificate of nobody we know when asked for."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sloppy) as server:
        scheme = "http"
        if request.param == "self-signed":
            scheme = "https"
            server.socket = Authority(tmp_path).server_context().wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("sloppy", "check", "level", "words"),
    [
        ("plain", "soft_404", Level.WARNING, ("gets 200", "soft_404: learn")),
        ("self-signed", "reachable", Level.FAILED, ("certificate", "origin.ca_file")),
    ],
    indirect=["sloppy"],
)
async def test_an_origin_that_cannot_be_believed_is_told(tmp_path, sloppy, check, level, words):
    fake = FakeS3()
    async with running_fake_s3(fake):
        settings = settings_of(
            tmp_path,
            "broker: {url: 'redis://127.0.0.1:1/0'}\n"
            f"{with_store(fake)}buckets: {{site: {{rules: [{{origins: ['{sloppy}']}}]}}}}\n",
        )
        found = await examine(settings)
    (told,) = [one for one in found if one.check == check]
    assert told.level is level
    assert words[0] in told.message
    assert words[1] in told.remedy
