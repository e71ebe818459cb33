"""A bucket of the gateway where no rule matches answers as the store itself, in any order."""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from support.s3.machine import S3Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
NEVER = {"when": {"prefix": "never/"}, "origins": ["http://127.0.0.1:9"]}


def run(buckets, how):
    direct, through = buckets.named("the store"), buckets.gateway(NEVER)
    run_state_machine_as_test(lambda: S3Machine(direct, through), settings=how)


def test_on_seaweedfs(seaweed, buckets, sized):
    run(buckets(seaweed), sized(8, 25))


@pytest.mark.slow
def test_on_seaweedfs_for_longer(seaweed, buckets, sized):
    run(buckets(seaweed), sized(40, 50))


@pytest.mark.slow
def test_on_ceph(ceph, buckets, sized):
    run(buckets(ceph), sized(12, 40))
