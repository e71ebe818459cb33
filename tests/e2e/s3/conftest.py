"""Gateways with a client's key over the real store, and an origin behind."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from support.gateway import running_gateway
from support.origin.chaos import ChaosOrigin
from support.store.s3_calls import KEY_ID, SECRET, S3Caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from support.gateway import Front

#: A key that may everything, one that only reads, and one for another bucket.
KEYS = [
    {"id": KEY_ID, "secret": SECRET, "may": ["read", "list", "write", "delete", "manage"]},
    {"id": "READER", "secret": "reader-secret"},
    {"id": "OTHER", "secret": "other-secret", "may": ["read", "write"], "buckets": ["elsewhere"]},
    {"id": "WRITER", "secret": "writer-secret", "may": ["list", "write"]},
]


@pytest.fixture
async def chaos() -> AsyncIterator[ChaosOrigin]:
    async with ChaosOrigin() as origin:
        yield origin


@pytest.fixture
async def start(seaweed: Any, valkey_url: str, bucket: str) -> AsyncIterator[Callable[..., Awaitable[Front]]]:
    """Start a gateway with the keys above and these rules; it ends with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(*rules: Any, **more: Any) -> Front:
            gateway = {"listen": "127.0.0.1:0", "access_keys": KEYS, **more.pop("gateway", {})}
            return await stack.enter_async_context(
                running_gateway(
                    seaweed,
                    valkey_url,
                    more.pop("bucket", bucket),
                    list(rules) or None,
                    gateway=gateway,
                    **more,
                )
            )

        yield begin


@pytest.fixture
def client() -> Iterator[Callable[..., Any]]:
    """boto3 clients of a gateway, by one of the keys; they are closed with the test."""
    with contextlib.ExitStack() as stack:

        def make(front: Front, key_id: str = KEY_ID, **config: Any) -> Any:
            secret = next(key["secret"] for key in KEYS if key["id"] == key_id)
            made = boto3.client(
                "s3",
                endpoint_url=f"http://127.0.0.1:{front.port}",
                aws_access_key_id=key_id,
                aws_secret_access_key=secret,
                region_name="us-east-1",
                config=Config(
                    **{"s3": {"addressing_style": "path"}, "retries": {"max_attempts": 1}, **config}
                ),
            )
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def caller() -> Callable[[Front], S3Caller]:
    """A client that signs by hand."""
    return lambda front: S3Caller(port=front.port)
