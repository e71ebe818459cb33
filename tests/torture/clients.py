"""Who uses the site meanwhile: visitors, applications that write and delete, senders of events, logs.

Owns what each sends and what its answer tells the oracle. Each runs in a thread of its own, from a seed of
its own, until it is told to stop.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time
from abc import ABC, abstractmethod
from itertools import count
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from torture.content import N_BAD, N_BIG, N_FLUX, N_GONE, N_RW, at_origin, body_of, written_by
from torture.oracle import ABSENT, value_of
from torture.system import BUCKET

if TYPE_CHECKING:
    from torture.oracle import Oracle
    from torture.system import System

#: Seconds between two requests of one client, on average.
_PAUSE_S: Final = 0.04
_PATIENCE_S: Final = 30.0


class Numbers:
    """Keys of `pub/` that nobody has asked for yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = count()
        self.given = 0

    def fresh(self) -> str:
        """The next one."""
        with self._lock:
            self.given += 1
            return f"pub/{next(self._next)}"


class Client(threading.Thread, ABC):
    """One of them."""

    def __init__(self, name: str, system: System, numbers: Numbers, *, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.turns = 0
        #: Answers by their kind, so that a run that only saw errors is found out.
        self.answers: dict[str, int] = {}
        self._system = system
        self._oracle: Oracle = system.oracle
        self._numbers = numbers
        self._chance = random.Random(f"{name} {seed}")
        self._stopped = threading.Event()
        self._seed = seed

    def stop(self) -> None:
        """After its next turn."""
        self._stopped.set()

    def run(self) -> None:
        """Turn after turn; a fault of this suite is a violation, so that it is seen."""
        while not self._stopped.wait(self._chance.expovariate(1 / _PAUSE_S)):
            try:
                self.turn()
            except Exception as error:  # noqa: BLE001 -- a thread's exception would be lost
                self._oracle.violated(f"{self.name}: {type(error).__name__}: {error}")
            self.turns += 1

    @abstractmethod
    def turn(self) -> None:
        """One request."""

    def _counted(self, answer: str) -> None:
        self.answers[answer] = self.answers.get(answer, 0) + 1

    def _gateway(self) -> int:
        return self._chance.choice((self._system.gateway_a, self._system.gateway_b))


class Visitor(Client):
    """GETs, whole and in ranges, and HEADs."""

    def turn(self) -> None:
        key = self._key()
        since = time.monotonic()
        method = "HEAD" if self._chance.random() < 0.1 else "GET"
        wanted = (100, 999) if method == "GET" and self._chance.random() < 0.15 else None
        headers = {"Range": f"bytes={wanted[0]}-{wanted[1]}"} if wanted else {}
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway(), timeout=_PATIENCE_S)
        try:
            with contextlib.closing(connection):
                connection.request(method, f"/{BUCKET}/{key}", headers=headers)
                answer = connection.getresponse()
                length = answer.getheader("Content-Length")
                body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._counted(type(error).__name__)
            return
        self._counted(str(answer.status))
        if method == "GET":
            self._judge(key, since, answer.status, body, wanted, length)

    def _key(self) -> str:
        draw = self._chance.random()
        if draw < 0.45:
            return self._numbers.fresh()
        if draw < 0.65:
            return f"pub/{self._chance.randrange(max(1, self._numbers.given))}"
        if draw < 0.75:
            return f"flux/{self._chance.randrange(N_FLUX)}"
        if draw < 0.80:
            return f"gone/{self._chance.randrange(N_GONE)}"
        if draw < 0.82:
            return f"big/{self._chance.randrange(N_BIG)}"
        return f"rw/{self._chance.randrange(N_RW)}"

    def _judge(
        self,
        key: str,
        since: float,
        status: int,
        body: bytes,
        wanted: tuple[int, int] | None,
        length: str | None,
    ) -> None:
        possible = self._oracle.possible(key, since)
        if status == 200 and value_of(body) not in possible:
            self._oracle.violated(f"GET {key}: 200 with {_named(key, body)}{self._oracle.story(key)}")
        elif status == 404 and ABSENT not in possible:
            self._oracle.violated(f"GET {key}: 404, and it is there{self._oracle.story(key)}")
        elif status == 206 and wanted is not None and not key.startswith("rw/"):
            versions = range(self._oracle.version(key) + 1)
            slices = {body_of(key, version)[wanted[0] : wanted[1] + 1] for version in versions}
            if body not in slices:
                self._oracle.violated(f"GET {key} {wanted}: 206 with {len(body)} other bytes ({length})")


class Application(Client):
    """An S3 client that writes, reads and deletes keys of its own, through both fronts."""

    def __init__(self, name: str, system: System, numbers: Numbers, *, seed: int, keys: list[str]) -> None:
        super().__init__(name, system, numbers, seed=seed)
        self._keys = keys
        self._turn = 0
        self._clients = [
            boto3.client(
                "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                aws_access_key_id="app", aws_secret_access_key="app-secret",
                config=Config(
                    retries={"total_max_attempts": 1}, read_timeout=_PATIENCE_S, connect_timeout=5,
                    s3={"addressing_style": "path"},
                ),
            )
            for port in (system.gateway_a, system.gateway_b)
        ]  # fmt: skip

    def turn(self) -> None:
        self._turn += 1
        key = self._chance.choice(self._keys)
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

    def _write(self, call, key: str, value: str) -> None:
        self._oracle.begins(key, value)
        try:
            call()
        except (ClientError, BotoCoreError, OSError) as error:
            self._counted(f"write {_code(error)}")
            self._oracle.unknown(key, value)
        else:
            self._counted("deleted" if value == ABSENT else "written")
            self._oracle.ended(key, value)

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
            self._oracle.violated(f"GetObject {key}: {_named(key, body)}{self._oracle.story(key)}")


class Racer(Application):
    """Writes or deletes a key for the first time while its pull is under way at the other front."""

    def turn(self) -> None:
        self._turn += 1
        key = f"race/{self._seed % 1000 * 1000 + self._turn}"
        ports = [self._system.gateway_a, self._system.gateway_b]
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
        visitor.join(_PATIENCE_S)
        for _ in range(3):
            self._read(self._chance.choice(self._clients), key, time.monotonic())
            self._stopped.wait(self._chance.uniform(0.0, 0.7))

    def _visit(self, port: int, key: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", f"/{BUCKET}/{key}")
            connection.getresponse().read()


class Sender(Client):
    """Posts miss events, sometimes the same ones twice."""

    def turn(self) -> None:
        keys = [self._numbers.fresh() for _ in range(self._chance.randrange(1, 12))]
        keys.append(f"gone/{self._chance.randrange(N_GONE)}")
        keys.append(f"bad/{self._chance.randrange(N_BAD)}")
        body = "\n".join(json.dumps({"bucket": BUCKET, "key": key}) for key in keys).encode()
        port = self._chance.choice((self._system.admin_a, self._system.admin_b))
        status, _ = self._system.ask(port, "/v1/miss-events", body)
        self._counted(f"event {status}")
        if status == 202:
            for key in keys:
                self._oracle.want(key)
        self._stopped.wait(0.3)


class Gateway(Client):
    """A server in front that writes an access log with the misses it saw."""

    def turn(self) -> None:
        key = self._numbers.fresh()
        when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
        line = f'127.0.0.1 - - [{when}] "GET /{key} HTTP/1.1" 404 153 "-" "torture"\n'
        with self._system.log.open("a") as file:
            file.write(line)
        self._oracle.want(key)
        self._counted("logged")


def _code(error: Exception) -> str:
    if isinstance(error, ClientError):
        return str(error.response["Error"]["Code"])
    return type(error).__name__


def _named(key: str, body: bytes) -> str:
    """Whose bytes they are, as far as they say so."""
    if at_origin(key):
        for version in range(50):
            if body == body_of(key, version):
                return f"the origin's version {version}"
    return f"{len(body)} bytes {body[:40]!r}"


def make_clients(system: System, numbers: Numbers, *, seed: int) -> list[Client]:
    """All that a run has."""
    writers = 4
    keys = [[f"rw/{n}" for n in range(N_RW) if n % writers == writer] for writer in range(writers)]
    return [
        *(Visitor(f"visitor-{n}", system, numbers, seed=seed) for n in range(4)),
        *(Application(f"application-{n}", system, numbers, seed=seed, keys=keys[n]) for n in range(writers)),
        *(Racer(f"racer-{n}", system, numbers, seed=seed + n, keys=[]) for n in range(3)),
        Sender("sender", system, numbers, seed=seed),
        Gateway("gateway", system, numbers, seed=seed),
    ]
