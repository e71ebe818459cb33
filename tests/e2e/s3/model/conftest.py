"""Two sides of the model: a bucket of the store, and one of a gateway over the same store."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from support.gateway import gateway_in_a_thread
from support.s3.wire import Wire
from support.store.s3_calls import KEY_ID, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEYS = [{"id": KEY_ID, "secret": SECRET, "may": ["read", "list", "write", "delete", "manage"]}]


@dataclass(slots=True, kw_only=True)
class Buckets:
    """Buckets of one store, and gateways before them."""

    store: Any
    valkey_url: str
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def named(self, name: str, bucket: str = "") -> Wire:
        """A bucket of the store itself, made where it is not there yet."""
        found = Wire(
            name=name,
            endpoint=self.store.endpoint,
            key_id=self.store.access_key_id,
            secret=self.store.secret_access_key,
            bucket=bucket or f"m-{uuid.uuid4().hex[:16]}",
        )
        if not bucket:
            assert found.call("PUT").status == 200
        self.stack.callback(found.close)
        return found

    def gateway(self, rule: Any, **more: Any) -> Wire:
        """A bucket of a gateway with one rule."""
        bucket = f"g-{uuid.uuid4().hex[:16]}"
        given = gateway_in_a_thread(
            self.store, self.valkey_url, bucket, [rule], gateway={"access_keys": KEYS}, **more
        )
        front = self.stack.enter_context(given)
        endpoint = f"http://127.0.0.1:{front.port}"
        found = Wire(name="the gateway", endpoint=endpoint, key_id=KEY_ID, secret=SECRET, bucket=bucket)
        self.stack.callback(found.close)
        return found


@pytest.fixture
def buckets(valkey_url: str) -> Iterator[Callable[[Any], Buckets]]:
    with contextlib.ExitStack() as stack:

        def make(store: Any) -> Buckets:
            return Buckets(store=store, valkey_url=valkey_url, stack=stack)

        yield make


@pytest.fixture
def sized() -> Callable[[int, int], settings]:
    """So many runs of so many steps, the same ones each time."""
    return lambda examples, steps: settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
