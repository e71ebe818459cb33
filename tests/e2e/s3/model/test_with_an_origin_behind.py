"""A bucket of the gateway before an old one answers as a bucket that had everything from the start."""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from support.s3.behind import BehindMachine

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


def run(buckets, how):
    old = buckets.named("the old bucket")
    host = {
        "host": old.endpoint.removeprefix("http://"),
        "base_path": f"/{old.bucket}/",
        "credential": "old",
    }
    rule = {"name": "r", "type": "mirror", "request": {"protocol": "http"}, "origin": {"hosts": [host]}}
    key = {"type": "s3v4", "access_key_id": old.key_id, "secret_access_key": old.secret}
    through = buckets.gateway(rule, origin={"credentials": {"old": key}}, bucket_settings={"list": "union"})
    direct, stored = buckets.named("the store"), buckets.named("the store's own", through.bucket)
    run_state_machine_as_test(lambda: BehindMachine(direct, through, stored, old), settings=how)


def test_on_seaweedfs(seaweed, buckets, sized):
    run(buckets(seaweed), sized(4, 25))


@pytest.mark.slow
def test_on_seaweedfs_for_longer(seaweed, buckets, sized):
    run(buckets(seaweed), sized(12, 30))
