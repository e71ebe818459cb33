"""Applications that write, read and delete by S3, and what their answers tell the oracle.

Each key has one writer. Of keys that are written back before the answer, the old bucket is looked at as soon
as it comes.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from torture.content import written_by
from torture.layout import BUCKET
from torture.oracle import ABSENT, value_of
from torture.people.clients import PATIENCE_S, Client
from torture.people.named import named

if TYPE_CHECKING:
    from torture.people.clients import Numbers
    from torture.system import System

#: Seconds of a round of those who rest, and of these the ones in which they write.
_ROUND_S: Final = 15.0
_AT_WORK_S: Final = 9.0


class Application(Client):
    """An S3 client that writes, reads and deletes keys of its own, through both fronts."""

    def __init__(self, name: str, system: System, numbers: Numbers, *, seed: int, keys: list[str]) -> None:
        super().__init__(name, system, numbers, seed=seed)
        self._keys = keys
        self._turn = 0
        #: Whether the last write was answered with success.
        self.succeeded = False
        self._clients = [
            boto3.client(
                "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                aws_access_key_id="app", aws_secret_access_key="app-secret",
                config=Config(
                    retries={"total_max_attempts": 1}, read_timeout=PATIENCE_S, connect_timeout=5,
                    s3={"addressing_style": "path"},
                ),
            )
            for port in (system.door("front-a"), system.door("front-b"))
        ]  # fmt: skip

    def turn(self) -> None:
        self._turn += 1
        key = self._next_key()
        client = self._chance.choice(self._clients)
        draw = self._chance.random()
        since = time.monotonic()
        if draw < 0.45:
            self._read(client, key, since)
        elif draw < 0.75:
            body = written_by(self.name, key, self._turn)
            self._write(lambda: client.put_object(Bucket=BUCKET, Key=key, Body=body), key, value_of(body))
        else:
            self._write(lambda: client.delete_object(Bucket=BUCKET, Key=key), key, ABSENT)

    def _next_key(self) -> str:
        return self._chance.choice(self._keys)

    def _write(self, call, key: str, value: str) -> None:
        self._oracle.begins(key, value)
        self.succeeded = False
        try:
            call()
        except (ClientError, BotoCoreError, OSError) as error:
            self._counted(f"write {_code(error)}")
            self._oracle.unknown(key, value)
        else:
            self._counted("deleted" if value == ABSENT else "written")
            self._oracle.ended(key, value)
            self.succeeded = True

    def _read(self, client, key: str, since: float) -> None:
        try:
            body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except ClientError as error:
            self._counted(f"read {_code(error)}")
            if error.response["Error"]["Code"] == "NoSuchKey" and ABSENT not in self._oracle.possible(
                key, since
            ):
                self._oracle.violated(f"GetObject {key}: NoSuchKey, and it is there{self._oracle.story(key)}")
            return
        except (BotoCoreError, OSError) as error:
            self._counted(f"read {_code(error)}")
            return
        self._counted("read")
        if value_of(body) not in self._oracle.possible(key, since):
            self._oracle.violated(f"GetObject {key}: {named(key, body)}{self._oracle.story(key)}")


class Racer(Application):
    """Writes or deletes a key for the first time while its pull is under way at the other front."""

    def turn(self) -> None:
        self._turn += 1
        key = f"race/{self._seed % 1000 * 1000 + self._turn}"
        ports = [self._system.door("front-a"), self._system.door("front-b")]
        self._chance.shuffle(ports)
        visitor = threading.Thread(target=self._visit, args=(ports[0], key), daemon=True)
        visitor.start()
        time.sleep(self._chance.uniform(0.0, 0.5))
        client = self._chance.choice(self._clients)
        if self._chance.random() < 0.5:
            body = written_by(self.name, key, self._turn)
            self._write(lambda: client.put_object(Bucket=BUCKET, Key=key, Body=body), key, value_of(body))
        else:
            self._write(lambda: client.delete_object(Bucket=BUCKET, Key=key), key, ABSENT)
        visitor.join(PATIENCE_S)
        for _ in range(3):
            self._read(self._chance.choice(self._clients), key, time.monotonic())
            self._stopped.wait(self._chance.uniform(0.0, 0.7))

    def _visit(self, port: int, key: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", f"/{BUCKET}/{key}")
            connection.getresponse().read()


class Back(Application):
    """An application of which one could go back to the old bucket: it rests now and then.

    It comes back to a key it has just had more often than not, while that is on its way to the bucket.
    """

    _key = ""

    def _next_key(self) -> str:
        if not self._key or self._chance.random() < 0.4:
            self._key = self._chance.choice(self._keys)
        return self._key

    def turn(self) -> None:
        if time.monotonic() % _ROUND_S < _AT_WORK_S:
            super().turn()
        else:
            self._stopped.wait(0.5)


class Sync(Back):
    """One whose writes have reached the old bucket when they are answered."""

    def _write(self, call, key: str, value: str) -> None:
        sent = time.monotonic()
        super()._write(call, key, value)
        there = self._system.bucket.now(key)
        possible = self._oracle.possible(key, time.monotonic())
        if self.succeeded and there not in possible and self._oracle.is_certain(sent):
            self._oracle.violated(
                f"{key} was answered and the old bucket has {there[:8]}{self._oracle.story(key)}"
            )


def _code(error: Exception) -> str:
    if isinstance(error, ClientError):
        return str(error.response["Error"]["Code"])
    return type(error).__name__
