"""Who uses the site meanwhile: visitors, senders of events, logs.

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

from torture.content import BACK, N_BACK, N_BAD, N_BIG, N_FLUX, N_GONE, N_RW, body_of
from torture.layout import BUCKET
from torture.oracle import ABSENT, value_of
from torture.people.named import named
from workers.errors import StoreError

if TYPE_CHECKING:
    from torture.oracle import Oracle
    from torture.system import System

PATIENCE_S: Final = 30.0


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
        while not self._stopped.wait(self._chance.expovariate(1 / self._system.pause_s)):
            try:
                self.turn()
            except StoreError:
                self._counted("the store cannot be looked at")
            except Exception as error:  # noqa: BLE001 -- a thread's exception would be lost
                self._oracle.violated(f"{self.name}: {type(error).__name__}: {error}")
            self.turns += 1

    @abstractmethod
    def turn(self) -> None:
        """One request."""

    def _counted(self, answer: str) -> None:
        self.answers[answer] = self.answers.get(answer, 0) + 1

    def _gateway(self) -> int:
        return self._system.door(self._chance.choice(("front-a", "front-b")))


class Visitor(Client):
    """GETs, whole and in ranges, and HEADs."""

    def turn(self) -> None:
        key = self._key()
        since = time.monotonic()
        method = "HEAD" if self._chance.random() < 0.1 else "GET"
        wanted = (100, 999) if method == "GET" and self._chance.random() < 0.15 else None
        headers = {"Range": f"bytes={wanted[0]}-{wanted[1]}"} if wanted else {}
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway(), timeout=PATIENCE_S)
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
        if draw < 0.86:
            return f"{self._chance.choice(BACK)}{self._chance.randrange(N_BACK)}"
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
            self._oracle.violated(f"GET {key}: 200 with {named(key, body)}{self._oracle.story(key)}")
        elif status == 404 and ABSENT not in possible:
            self._oracle.violated(f"GET {key}: 404, and it is there{self._oracle.story(key)}")
        elif status == 206 and wanted is not None and not key.startswith(("rw/", *BACK)):
            versions = range(self._oracle.version(key) + 1)
            slices = {body_of(key, version)[wanted[0] : wanted[1] + 1] for version in versions}
            if body not in slices:
                self._oracle.violated(f"GET {key} {wanted}: 206 with {len(body)} other bytes ({length})")


class Sender(Client):
    """Posts miss events, sometimes the same ones twice."""

    def turn(self) -> None:
        keys = [self._numbers.fresh() for _ in range(self._chance.randrange(1, 12))]
        keys.append(f"gone/{self._chance.randrange(N_GONE)}")
        keys.append(f"bad/{self._chance.randrange(N_BAD)}")
        body = "\n".join(json.dumps({"bucket": BUCKET, "key": key}) for key in keys).encode()
        port = self._system.door(self._chance.choice(("admin-a", "admin-b")))
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
        line = f'127.0.0.1 - - [{when}] "GET /{key} HTTP/1.1" 404 153 "-" "torture"'
        if self._system.disk.write_line(line):
            self._oracle.want(key)
            self._counted("logged")
        else:
            self._counted("not logged")
