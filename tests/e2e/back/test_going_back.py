"""docs/operations.md, "Going back", word by word: a bucket moves under load, and back; nothing is lost.

Every block of the page is run as it stands; only places and secrets are exchanged. The origin is a real
SeaweedFS, the new store the embedded one.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from scheduler.config.ports import free_ports
from support.installation import plain_environment, until
from support.patience import PATIENCE_S
from support.processes import die_with_parent

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[3]
WRITERS = 6
TURNS = 60


def blocks() -> list[tuple[str, str]]:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = text.split("\n## Going back\n")[1].split("\n## ")[0]
    found = re.findall(r"```(sh|yaml)\n(.*?)```", section, flags=re.DOTALL)
    return [(language, textwrap.dedent(block)) for language, block in found]


def client_of(endpoint, key_id, secret):
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5, "mode": "standard"}),
    )


def contents(client, bucket):
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for one in page.get("Contents", ()):
            if not one["Key"].startswith(".ferryman/"):
                found[one["Key"]] = client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read()
    return found


class Operator:
    """Somebody who does what the page says, in a folder of his own."""

    def __init__(self, root, places):
        self.root = root
        self.places = places
        self.gateway, self.admin = free_ports(2)
        script = root / "bin" / "ferryman"
        script.parent.mkdir()
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m scheduler.cli "$@"\n')
        script.chmod(0o755)
        self.environment = {
            **plain_environment(),
            "PATH": f"{script.parent}:{os.environ['PATH']}",
            "FERRYMAN_GATEWAY__LISTEN": f"127.0.0.1:{self.gateway}",
            "FERRYMAN_ADMIN__LISTEN": f"127.0.0.1:{self.admin}",
            "PYTHONPATH": str(ROOT),
        }

    def fitted(self, text):
        for old, new in self.places.items():
            text = text.replace(old, new)
        return text

    def type(self, text):
        done = subprocess.run(
            ["bash", "-ec", self.fitted(text)],
            cwd=self.root, env=self.environment, capture_output=True, text=True, check=False,
            timeout=2 * PATIENCE_S,
        )  # fmt: skip
        if done.returncode != 0:
            pytest.fail(f"{text}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def up(self):
        path = self.root / "up.log"
        with path.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-ec", "exec ferryman up"], cwd=self.root, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 -- no lock is held that it needs
            )  # fmt: skip
        try:
            until(
                lambda: "Ctrl-C stops" in path.read_text() or process.poll() is not None,
                "ferryman up is ready", timeout_s=2 * PATIENCE_S,
            )  # fmt: skip
            assert process.poll() is None, path.read_text()
            yield
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Application:
    """Clients that write and delete at the same time, each over keys of its own, and what they expect."""

    def __init__(self, endpoint, oracle):
        self.endpoint = endpoint
        self.oracle = oracle
        self.errors = []
        # Dealt once: two writers of one key would not know which of them was the last.
        keys = sorted(oracle) + [f"new/{number:02d}" for number in range(20 * WRITERS)]
        self.keys = [keys[number::WRITERS] for number in range(WRITERS)]

    def work(self, number):
        rng = random.Random(number)
        client = client_of(self.endpoint, "app", "app-secret-value")
        mine = self.keys[number]
        key = turn = None
        try:
            for turn in range(TURNS):
                key = rng.choice(mine)
                kind = rng.random()
                if kind < 0.25:
                    client.delete_object(Bucket="site", Key=key)
                    self.oracle.pop(key, None)
                elif kind < 0.85:
                    body = f"{number} {turn} ".encode() * rng.randrange(1, 400)
                    client.put_object(Bucket="site", Key=key, Body=body, Metadata={"turn": str(turn)})
                    self.oracle[key] = body
                elif key in self.oracle:
                    found = client.get_object(Bucket="site", Key=key)["Body"].read()
                    assert found == self.oracle[key], key
        except Exception as error:  # noqa: BLE001 -- told by the test's own thread
            self.errors.append((key, turn, error))
        finally:
            client.close()

    def run(self):
        threads = [threading.Thread(target=self.work, args=(number,)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.errors == []


def test_a_bucket_moves_forward_and_back_as_the_page_says(tmp_path, seaweed, bucket):
    old = client_of(seaweed.endpoint, seaweed.access_key_id, seaweed.secret_access_key)
    old.create_bucket(Bucket=bucket)
    oracle = {f"img/{number:02d}": os.urandom(5_000) for number in range(40)}
    for key, body in oracle.items():
        old.put_object(Bucket=bucket, Key=key, Body=body)
    (tmp_path / "app-secret").write_text("app-secret-value\n")
    (tmp_path / "old-secret").write_text(f"{seaweed.secret_access_key}\n")
    operator = Operator(
        tmp_path,
        {
            "https://old.example.com/site/": f"{seaweed.endpoint}/{bucket}/",
            "OLD-KEY": seaweed.access_key_id,
        },
    )
    (_, configuration), *shell = blocks()
    assert [language for language, _ in shell] == ["sh"] * 4
    doctor, reverse, status, back = [text for _, text in shell]
    (tmp_path / "config.yaml").write_text(operator.fitted(configuration), encoding="utf-8")
    with operator.up():
        assert " 0 failed" in operator.type(doctor)
        application = Application(f"http://127.0.0.1:{operator.gateway}", oracle)
        application.run()
        assert "done" in operator.type(reverse)
        application.run()
        operator.type(f"until {status.strip()}; do sleep 1; done")
        told = operator.type(back)
        assert "0 differ" in told
        # What the gateway serves now, and what the application finds at the old store, is what it expects.
        new = client_of(f"http://127.0.0.1:{operator.gateway}", "app", "app-secret-value")
        for key, body in oracle.items():
            assert new.get_object(Bucket="site", Key=key)["Body"].read() == body, key
        new.close()
    assert contents(old, bucket) == oracle
    old.close()
