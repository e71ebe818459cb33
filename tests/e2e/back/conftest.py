"""Gateways whose rule writes back to a bucket of a second, real S3 store, and whoever brings it there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from support.back import ORIGIN_KEY, back_rule, draining, origin_sections
from support.gateway import running_gateway
from support.store.s3_calls import KEY_ID, SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from support.gateway import Front

KEYS = [{"id": KEY_ID, "secret": SECRET, "may": ["read", "list", "write", "delete", "manage"]}]


@pytest.fixture
def origin(moto: str, bucket: str) -> Iterator[Any]:
    """A boto3 client of the origin, whose bucket has the same name."""
    made = boto3.client(
        "s3",
        endpoint_url=moto,
        aws_access_key_id=ORIGIN_KEY,
        aws_secret_access_key="origin-secret",
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    made.create_bucket(Bucket=bucket)
    yield made
    made.close()


@pytest.fixture
async def start(
    seaweed: Any, valkey_url: str, moto: str, bucket: str, origin: Any
) -> AsyncIterator[Callable[..., Awaitable[Front]]]:
    """Start a gateway whose rule writes back to the origin; `worker=True` starts who brings it there."""
    del origin
    async with contextlib.AsyncExitStack() as stack:

        async def begin(mode: str = "async", *, worker: bool = True, **more: Any) -> Front:
            rule = more.pop("rule", None) or back_rule(moto, bucket, mode=mode, **more.pop("changes", {}))
            front = await stack.enter_async_context(
                running_gateway(
                    seaweed,
                    valkey_url,
                    bucket,
                    [rule],
                    gateway={"listen": "127.0.0.1:0", "access_keys": KEYS},
                    **{**origin_sections(), **more},
                )
            )
            if worker:
                await stack.enter_async_context(draining(front.services))
            return front

        yield begin


@pytest.fixture
def client() -> Iterator[Callable[..., Any]]:
    """boto3 clients of a gateway."""
    with contextlib.ExitStack() as stack:

        def make(front: Front) -> Any:
            made = boto3.client(
                "s3",
                endpoint_url=f"http://127.0.0.1:{front.port}",
                aws_access_key_id=KEY_ID,
                aws_secret_access_key=SECRET,
                region_name="us-east-1",
                config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
            )
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def call() -> Callable[..., Awaitable[Any]]:
    """Call something that blocks beside the event loop on which the gateway runs."""

    async def do(act: Any, **arguments: Any) -> Any:
        return await asyncio.to_thread(act, **arguments)

    return do
