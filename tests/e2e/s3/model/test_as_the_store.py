"""A bucket of the gateway where no rule matches answers as the store itself, in any order."""

from __future__ import annotations

import contextlib
import uuid

import boto3
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from support.gateway import gateway_in_a_thread
from support.s3.machine import S3Machine
from support.s3.wire import Wire
from support.store.s3_calls import KEY_ID, SECRET

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
KEYS = [{"id": KEY_ID, "secret": SECRET, "may": ["read", "list", "write", "delete", "manage"]}]
NEVER = {"when": {"prefix": "never/"}, "origins": ["http://127.0.0.1:9"]}


def sized(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )


@contextlib.contextmanager
def two_sides(store, valkey_url):
    direct, plain = f"d-{uuid.uuid4().hex[:16]}", f"p-{uuid.uuid4().hex[:16]}"
    own = {"aws_access_key_id": store.access_key_id, "aws_secret_access_key": store.secret_access_key}
    s3 = boto3.client("s3", endpoint_url=store.endpoint, region_name="us-east-1", **own)
    s3.create_bucket(Bucket=direct)
    s3.close()
    with gateway_in_a_thread(store, valkey_url, plain, [NEVER], gateway={"access_keys": KEYS}) as front:
        sides = (
            Wire(
                name="the store",
                endpoint=store.endpoint,
                key_id=store.access_key_id,
                secret=store.secret_access_key,
                bucket=direct,
            ),
            Wire(
                name="the gateway",
                endpoint=f"http://127.0.0.1:{front.port}",
                key_id=KEY_ID,
                secret=SECRET,
                bucket=plain,
            ),
        )
        yield sides
        for side in sides:
            side.close()


def run(store, valkey_url, how):
    with two_sides(store, valkey_url) as (direct, through):
        run_state_machine_as_test(lambda: S3Machine(direct, through), settings=how)


def test_on_seaweedfs(seaweed, valkey_url):
    run(seaweed, valkey_url, sized(8, 25))


@pytest.mark.slow
def test_on_seaweedfs_for_longer(seaweed, valkey_url):
    run(seaweed, valkey_url, sized(40, 50))


@pytest.mark.slow
def test_on_ceph(ceph, valkey_url):
    run(ceph, valkey_url, sized(12, 40))
