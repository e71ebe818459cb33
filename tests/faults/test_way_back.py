"""Guarantee 11 while things break: at the end the origin has what the store has, and was acknowledged."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.server import ThreadedMotoServer

from scheduler.config.ports import free_ports
from support.back import ORIGIN_KEY, back_rule, draining
from support.gateway import running_gateway, until
from support.installation import descendants, running_up_with
from support.installation import until as until_so

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(400)]

WRITERS = 4
#: What is killed, by a word of its command line, once each while clients write.
KILLED = ("scheduler.cli front", "--queues cold", "valkey-server", "scheduler.cli front")


def client_of(endpoint, key_id, secret):
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, read_timeout=20),
    )


def contents(client, bucket):
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for one in page.get("Contents", ()):
            if not one["Key"].startswith(".ferryman/"):
                found[one["Key"]] = client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read()
    return found


class Writer(threading.Thread):
    """Writes and deletes keys of its own until told to stop; tries each change until it is acknowledged."""

    def __init__(self, endpoint, number, stop):
        super().__init__()
        self.client = client_of(endpoint, "app", "app-secret")
        self.rng = random.Random(number)
        self.number = number
        self.stop = stop
        self.acknowledged = {}
        self.refused = 0

    def run(self):
        turn = 0
        with contextlib.closing(self.client):
            while not self.stop.is_set():
                turn += 1
                key, body = f"{self.number}/{self.rng.randrange(25)}", f"{self.number} {turn}".encode() * 99
                deletes = self.rng.random() < 0.3
                while True:
                    try:
                        if deletes:
                            self.client.delete_object(Bucket="site", Key=key)
                        else:
                            self.client.put_object(Bucket="site", Key=key, Body=body)
                        break
                    except (ClientError, BotoCoreError):
                        self.refused += 1
                        time.sleep(0.1)
                if deletes:
                    self.acknowledged.pop(key, None)
                else:
                    self.acknowledged[key] = body


def test_a_front_a_worker_and_redis_are_killed_while_clients_write_and_both_sides_end_equal(
    tmp_path, seaweed, bucket
):
    old = client_of(seaweed.endpoint, seaweed.access_key_id, seaweed.secret_access_key)
    old.create_bucket(Bucket=bucket)
    rule = back_rule(seaweed.endpoint, bucket)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"""
gateway: {{access_keys: [{{id: app, secret: app-secret, may: [read, list, write, delete]}}]}}
origin:
  credentials:
    old:
      type: s3v4
      access_key_id: {seaweed.access_key_id}
      secret_access_key: {seaweed.secret_access_key}
broker: {{heartbeat_timeout_s: 6}}
buckets: {{site: {{access: signed, rules: [{rule!r}]}}}}
""".replace("'", '"'),
        encoding="utf-8",
    )
    with running_up_with(tmp_path / "up", "--config", str(config)) as up:
        stop = threading.Event()
        writers = [Writer(up.gateway, number, stop) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        for words in KILLED:
            time.sleep(3.0)  # clients write meanwhile
            victims = [pid for pid, line in descendants(up.process.pid).items() if words in line]
            assert victims, words
            os.kill(victims[-1], signal.SIGKILL)
        time.sleep(5.0)
        stop.set()
        for writer in writers:
            writer.join(60)
        assert not any(writer.is_alive() for writer in writers)
        token = up.token

        def equal():
            status, _, body = up.ask("/v1/back", token=token)
            return status == 200 and b'"could_go_back":true' in body

        until_so(equal, "the origin has every write", timeout_s=180)
        new = client_of(up.gateway, "app", "app-secret")
        ours = contents(new, "site")
        new.close()
    acknowledged = {key: body for writer in writers for key, body in writer.acknowledged.items()}
    assert ours == acknowledged
    assert contents(old, bucket) == acknowledged
    assert sum(len(writer.acknowledged) for writer in writers) > 0
    old.close()


@pytest.mark.parametrize("n", [1_500, 10_000])
async def test_an_origin_that_is_away_costs_no_write_and_lists_no_failure(seaweed, valkey_url, bucket, n):
    (port,) = free_ports(1)
    key = {"id": "app", "secret": "app-secret", "may": ["read", "list", "write", "delete"]}
    async with running_gateway(
        seaweed,
        valkey_url,
        bucket,
        [back_rule(f"http://127.0.0.1:{port}", bucket)],
        gateway={"listen": "127.0.0.1:0", "access_keys": [key]},
        origin={
            "credentials": {
                "old": {"type": "s3v4", "access_key_id": ORIGIN_KEY, "secret_access_key": "origin-secret"}
            }
        },
    ) as front:
        services = front.services
        await services.store.put_small(bucket, "shared", b"x", content_type="text/plain")
        for at in range(0, n, 500):
            keys = [f"k{number}" for number in range(at, at + 500)]
            await services.ledger.back.note(bucket, keys, "d")
        async with draining(services):

            async def all_wait() -> bool:
                due = f"{services.ledger.namespace}:back:due:{bucket}"
                return not await services.redis.zcount(due, "-inf", time.time() * 1000)

            await until(all_wait, timeout_s=100)
            state = await services.ledger.back.state(bucket)
            assert (state.pending, state.failed) == (n, 0)
            assert await services.ledger.failures.count(bucket) == 0
            server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
            server.start()
            try:
                made = client_of(f"http://127.0.0.1:{port}", ORIGIN_KEY, "origin-secret")
                made.create_bucket(Bucket=bucket)
                made.close()

                async def equal() -> bool:
                    return (await services.ledger.back.state(bucket)).pending == 0

                await until(equal, timeout_s=300)
            finally:
                server.stop()
        assert await services.ledger.failures.count(bucket) == 0
