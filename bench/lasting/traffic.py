"""A site under mixed traffic: visitors, events, a log and S3 clients, as fast as answered or on time.

Owns the clients' side and what came of it; looks at the admin side and straight at the store go by
connections of their own, so that they do not wait behind the load.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError
from machine import static_origin
from yarl import URL

from workers.plan import Lane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.installation import Up
    from workers.queue.queue import JobQueue

BUCKET = "site"
#: What every key below `k/` holds.
BODY = random.Random(2).randbytes(16_384)
#: What one turn of a client is, and how many of a hundred turns.
MIX = {"hit": 60, "miss": 20, "absent": 5, "event": 5, "log": 4, "write": 3, "read": 2, "delete": 1}

#: By how much the rate is lowered until all is answered as it comes.
_SLOWER = 0.94


@contextlib.contextmanager
def endless_origin(root: Path) -> Iterator[str]:
    """nginx with an object for every key below `k/`, and no other; yields its URL."""
    www = root / "www"
    www.mkdir()
    (www / "body").write_bytes(BODY)
    with static_origin(www, root, "location /k/ { try_files /body =404; }") as url:
        yield url


@dataclass(slots=True)
class Seen:
    """What came of the load."""

    #: Kind of turn -> seconds of those since the last sample.
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    #: Turns that began later than their time, because too many were under way.
    late: int = 0


class Traffic:
    """One site under load."""

    def __init__(self, up: Up, log: Path, *, front: Any, store: Any, clients: int) -> None:
        """`front`, `store`: boto3 clients of the S3 front, and of the store behind it."""
        self.up, self.log = up, log
        self.seen = Seen()
        self.clients = clients
        self._numbers = itertools.count()
        self._own: list[str] = []
        self._hits: list[str] = []
        self._chance = random.Random(1)
        self._http = _session(clients)
        self._aside = _session(4)
        self._headers = {"Authorization": f"Bearer {up.token}", "Content-Type": "application/x-ndjson"}
        self._s3, self._s3_store = front, store

    async def close(self) -> None:
        await self._http.close()
        await self._aside.close()

    def _fresh(self) -> str:
        return f"k/{next(self._numbers)}"

    async def warm(self) -> None:
        """Objects for hits, and a scan to look at."""
        order = {"name": BUCKET}
        headers = {**self._headers, "Content-Type": "application/json"}
        async with self._http.post(f"{self.up.admin}/v1/scans", json=order, headers=headers) as answer:
            await answer.read()
        for _ in range(200):
            key = self._fresh()
            await self._get(key, 200)
            self._hits.append(key)

    async def turn(self) -> None:
        kind = self._chance.choices(list(MIX), weights=list(MIX.values()))[0]
        began = time.perf_counter()
        try:
            await getattr(self, f"_{kind}")()
        except (aiohttp.ClientError, BotoCoreError, ClientError, OSError) as error:
            self.seen.answers[f"{kind} {type(error).__name__}"] += 1
            return
        self.seen.answers[kind] += 1
        self.seen.took[kind].append(time.perf_counter() - began)

    async def _get(self, key: str, status: int) -> None:
        async with self._http.get(f"{self.up.gateway}/{BUCKET}/{key}") as answer:
            body = await answer.read()
        if answer.status != status or (status == 200 and body != BODY):
            self.seen.wrong.append(f"GET {key}: {answer.status}, {len(body)} bytes")

    async def look(self, path: str) -> tuple[float, str]:
        """Seconds of one look at the admin side, and what it answered."""
        return await self._asked(f"{self.up.admin}{path}", self._headers)

    async def straight(self) -> float:
        """Seconds of one GET that the store itself answers: nothing of ours is asked."""
        url = self._s3_store.generate_presigned_url(
            "get_object", Params={"Bucket": BUCKET, "Key": self._hits[0]}
        )
        return (await self._asked(url, {}))[0]

    async def _asked(self, url: str, headers: dict[str, str]) -> tuple[float, str]:
        began = time.perf_counter()
        async with self._aside.get(URL(url, encoded=True), headers=headers) as answer:
            body = await answer.read()
        if answer.status != 200:
            self.seen.wrong.append(f"{url.partition('?')[0]}: {answer.status} {body[:200]!r}")
        return time.perf_counter() - began, body.decode(errors="replace")

    async def _hit(self) -> None:
        await self._get(self._chance.choice(self._hits), 200)

    async def _miss(self) -> None:
        await self._get(self._fresh(), 200)

    async def _absent(self) -> None:
        await self._get(f"nowhere/{next(self._numbers)}", 404)

    async def _event(self) -> None:
        lines = "".join(f'{{"bucket": "{BUCKET}", "key": "{self._fresh()}"}}\n' for _ in range(5))
        url = f"{self.up.admin}/v1/miss-events"
        async with self._http.post(url, data=lines, headers=self._headers) as answer:
            body = await answer.read()
        if answer.status not in {202, 503}:
            self.seen.wrong.append(f"event: {answer.status} {body[:200]!r}")

    async def _log(self) -> None:
        when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
        with self.log.open("a") as file:
            file.write(f'127.0.0.1 - - [{when}] "GET /{self._fresh()} HTTP/1.1" 404 153 "-" "-"\n')

    async def _write(self) -> None:
        key = f"own/{next(self._numbers) % 500}"
        await asyncio.to_thread(self._s3.put_object, Bucket=BUCKET, Key=key, Body=BODY)
        self._own = [*self._own[-99:], key]

    async def _read(self) -> None:
        if self._own:
            key = self._chance.choice(self._own)
            with contextlib.suppress(ClientError):  # it may have been deleted since
                await asyncio.to_thread(self._s3.head_object, Bucket=BUCKET, Key=key)

    async def _delete(self) -> None:
        if self._own:
            key = self._own.pop(0)
            await asyncio.to_thread(self._s3.delete_object, Bucket=BUCKET, Key=key)

    async def best_rate(self, seconds: float, queue: JobQueue) -> float:
        """Turns a second that are answered as they come, workers and all; found out in a few times `seconds`.

        Clients that ask when they are answered come to more than those who ask when they like, for whom the
        machine wakes up each time. What they come to is the first rate that is tried, and the highest.
        """
        done, began = 0, time.monotonic()

        async def client() -> None:
            nonlocal done
            while time.monotonic() < began + seconds / 2:
                await self.turn()
                done += 1

        await asyncio.gather(*(client() for _ in range(self.clients)))
        await _drained(queue)
        rate = done / (time.monotonic() - began)
        while await self.run(rate, seconds / 4) > self.clients:
            await _drained(queue)
            rate *= _SLOWER
        return rate

    async def run(self, rate: float, seconds: float) -> int:
        """At this rate, on time; no more than ten times the clients under way. How many were at the end."""
        began, running = time.monotonic(), set[asyncio.Task[None]]()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            if len(running) >= 10 * self.clients:
                self.seen.late += 1
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self.turn())
            running.add(task)
            task.add_done_callback(running.discard)
        left = len(running)
        await asyncio.gather(*running)
        return left


async def _drained(queue: JobQueue) -> None:
    for lane in Lane:
        while (depth := await queue.depth(lane)).waiting + depth.running + depth.delayed:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


def _session(connections: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=30),
        skip_auto_headers=("Accept-Encoding",),
    )
