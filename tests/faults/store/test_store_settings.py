"""What the configuration says reaches the wire: encryption, class, owner, addressing, credentials, TLS."""

from __future__ import annotations

import base64
import hashlib
import socket

import pytest
from pydantic import ValidationError

from support.certificates import Authority
from support.store.fake_s3 import FakeS3, running_fake_s3
from support.store.stores import MIB, put, read, store_at
from workers.errors import ConfigError, StoreUnavailable
from workers.settings import LimitSettings, StoreSettings
from workers.store.client import ObjectStore
from workers.store.wire.credentials import CredentialSource

BUCKET = "site"
KEY = base64.b64encode(b"k" * 32).decode()
KEY_MD5 = base64.b64encode(hashlib.md5(b"k" * 32).digest()).decode()
SSE = "x-amz-server-side-encryption"


def sent(fake: FakeS3, action: str) -> dict[str, str]:
    """Headers of the last request of a kind about the test's own key."""
    return [one.headers for one in fake.requests if one.action == action and one.key == "k"][-1]


@pytest.mark.parametrize(
    ("settings", "created", "moved"),
    [
        ({"sse": "AES256"}, {SSE: "AES256"}, {}),
        (
            {"sse": "aws:kms", "sse_kms_key_id": "key-1"},
            {SSE: "aws:kms", f"{SSE}-aws-kms-key-id": "key-1"},
            {},
        ),
        (
            {"sse": "customer", "sse_customer_key": KEY},
            {},
            {
                f"{SSE}-customer-algorithm": "AES256",
                f"{SSE}-customer-key": KEY,
                f"{SSE}-customer-key-md5": KEY_MD5,
            },
        ),
        ({"storage_class": "STANDARD_IA", "acl": "public-read"},
         {"x-amz-storage-class": "STANDARD_IA", "x-amz-acl": "public-read"}, {}),
        ({"expected_bucket_owner": "123456789012"}, {}, {"x-amz-expected-bucket-owner": "123456789012"}),
    ],
)  # fmt: skip
async def test_write_settings_go_with_every_request_that_needs_them(settings, created, moved):
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint, **settings) as store:
        assert (await put(store, BUCKET, "k", b"small")).created
        await read(store, BUCKET, "k")
        await store.head(BUCKET, "k")
        await store.delete(BUCKET, "k")
        assert (await put(store, BUCKET, "k", b"x" * (6 * MIB))).created
        for action in ("put", "create"):
            assert {**created, **moved}.items() <= sent(fake, action).items()
        for action in ("part", "get", "head", "complete"):
            assert moved.items() <= sent(fake, action).items()
            assert not created.keys() & sent(fake, action).keys()


async def test_virtual_hosted_style_names_the_bucket_in_the_host(monkeypatch):
    found = socket.getaddrinfo

    def resolve(host, port, *rest, **named):
        return found("127.0.0.1" if host.endswith("s3.test") else host, port, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with running_fake_s3(FakeS3()) as fake:
        port = fake.endpoint.rpartition(":")[2]
        async with store_at(f"http://s3.test:{port}", addressing="virtual") as store:
            await store.head(BUCKET, "a b/c")
        request = fake.requests[-1]
        assert request.headers["host"] == f"site.s3.test:{port}"
        assert request.target == "/a%20b/c"


async def test_session_token_is_signed_and_sent():
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint, session_token="token==") as store:
        await store.head(BUCKET, "k")
        headers = fake.requests[-1].headers
        assert headers["x-amz-security-token"] == "token=="
        assert "x-amz-security-token" in headers["authorization"]


async def test_credentials_of_the_chain_are_found_and_an_expired_token_is_renewed(monkeypatch):
    """Environment first, as boto3 does; after ExpiredToken the chain is asked before the next attempt."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-env")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    async def no_sleep(_seconds: float) -> None:
        pass

    async with running_fake_s3(FakeS3()) as fake:
        settings = StoreSettings(endpoint=fake.endpoint, max_retries=2)
        async with ObjectStore(settings, LimitSettings(), sleep=no_sleep) as store:
            assert await store.head(BUCKET, "k") is None
            assert "Credential=from-env/" in fake.requests[-1].headers["authorization"]
            asked = len(fake.requests)
            fake.fault = lambda _: (400, "ExpiredToken") if len(fake.requests) == asked + 1 else None
            async with await store.get(BUCKET, "k") as response:
                assert response.status == 404
            assert len(fake.requests) == asked + 2


def test_no_credentials_anywhere_is_a_configuration_error(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no credentials"):
        CredentialSource(StoreSettings(endpoint="http://x"))._ask()


@pytest.mark.parametrize("key", ["not base64!", base64.b64encode(b"short").decode()])
def test_bad_customer_key_is_a_configuration_error(key):
    with pytest.raises(ConfigError, match="sse_customer_key"):
        store_at("http://x", sse="customer", sse_customer_key=key)


@pytest.mark.parametrize("endpoint", ["http://user@host", "http://host/?q=1", "http://"])
def test_bad_endpoint_is_a_configuration_error(endpoint):
    with pytest.raises((ConfigError, ValidationError), match="endpoint"):
        store_at(endpoint)


async def test_private_authority_is_trusted_only_when_named(tmp_path):
    authority = Authority(tmp_path)
    async with running_fake_s3(FakeS3(), tls=authority.server_context()) as fake:
        endpoint = fake.endpoint.replace("127.0.0.1", "localhost")
        async with store_at(endpoint, ca_file=authority.ca) as store:
            assert await store.head(BUCKET, "k") is None
        async with store_at(endpoint, max_retries=0) as store:
            with pytest.raises(StoreUnavailable, match="certificate"):
                await store.head(BUCKET, "k")
    with pytest.raises(ConfigError, match=r"store\.ca_file"):
        async with store_at(endpoint, ca_file=tmp_path / "none.pem"):
            pass
