"""Floors: the exchanges that a row cannot do without, over the same libraries, and nothing else.

Three bare proxies (a hit, a miss, a PUT) and a bare worker, which run by `children.child`, and a bare loop of
PUTs.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import dramatiq
import uvicorn
import uvloop
from dramatiq.brokers.redis import RedisBroker
from machine import cpu_s

from scheduler.config.settings import Settings
from sides.children import child, quiet_log
from workers.broker.clients import connect
from workers.plan import FetchPlan, Origin, OriginGroup
from workers.settings import BrokerSettings, LimitSettings, StoreSettings
from workers.store.client import ObjectStore
from workers.store.metadata import object_meta

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from redis.asyncio import Redis

#: Queue and actor of the floor of moves.
FLOOR: Final = "floor"


def bare_proxy(store: str, port: int, pipe: Connection) -> None:
    """A raw ASGI application on uvicorn that passes an unsigned GET on: no rules, no ranges, no replay."""
    session: aiohttp.ClientSession | None = None

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        nonlocal session
        if session is None:
            session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=256))
        async with session.get(f"{store}{scope['path']}") as response:
            headers = [
                (name.lower(), value)
                for name, value in response.raw_headers
                if name.lower() in {b"content-type", b"content-length", b"etag", b"last-modified"}
            ]
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    _serve(app, port, pipe)


def bare_tee(
    raw: dict[str, Any], bucket: str, origin: str, port: int, asks: bool, at_once: bool, pipe: Connection
) -> None:
    """The floor of a miss: the exchanges that it needs, over the same libraries, and nothing else.

    The store is asked (with `asks`), the origin read, the object stored, the client answered; with `at_once`
    the client is answered before the object is stored.
    """
    quiet_log()
    settings = Settings.model_validate(raw)
    store: ObjectStore | None = None
    session: aiohttp.ClientSession | None = None

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        nonlocal session, store
        if session is None or store is None:
            session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=256))
            store = await ObjectStore(settings.store, settings.limits).__aenter__()
        key = scope["path"].removeprefix(f"/{bucket}/")
        if asks and await store.head(bucket, key) is not None:
            raise SystemExit(f"{key} is there already")
        async with session.get(f"{origin}/{key}") as response:
            body = await response.read()
        length = str(len(body)).encode()

        async def answer() -> None:
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}
            )
            await send({"type": "http.response.body", "body": body})

        if at_once:
            await answer()
        await store.put_small(bucket, key, body, content_type="application/octet-stream")
        if not at_once:
            await answer()

    _serve(app, port, pipe)


def bare_put_proxy(raw: dict[str, Any], url: str, notes: bool, port: int, pipe: Connection) -> None:
    """The floor of a PUT: handed on over the same libraries, with `notes` beside a round trip to Redis."""
    store: ObjectStore | None = None
    redis: Redis | None = None
    settings = StoreSettings.model_validate(raw)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal store, redis
        if store is None or redis is None:
            redis = connect(BrokerSettings(url=url))
            store = await ObjectStore(settings, LimitSettings()).__aenter__()
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        _, bucket, key = scope["path"].split("/", 2)
        noting = asyncio.ensure_future(redis.set(f"{bucket}/{key}", "1", px=60_000)) if notes else None
        await store.put_small(bucket, key, body, content_type="text/plain")
        if noting is not None:
            await noting
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    _serve(app, port, pipe)


def _serve(app: Any, port: int, pipe: Connection) -> None:
    pipe.send(os.getpid())
    uvicorn.run(
        app, host="127.0.0.1", port=port, access_log=False, log_level="error", loop="uvloop", lifespan="off"
    )


async def bare_puts(settings: Settings, bucket: str, count: int, size: int) -> tuple[float, float]:
    """Objects/s and CPU µs of bare create-only PUTs from memory: what the store itself takes."""
    body = os.urandom(size)
    plan = FetchPlan(bucket=bucket, rule="r", groups=(OriginGroup(primary=Origin(host="o")),))
    async with ObjectStore(settings.store, settings.limits) as store:
        await store.ensure_bucket(bucket)
        await store.guarantees(bucket)
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                meta = object_meta((), plan, key=str(number), url="http://o/", attempt="a", fetched_at="x")
                async with store.upload(bucket, f"put/{number}", meta, attempt="a", size=size) as upload:
                    await upload.write(body)
                    await upload.commit()

        before = time.process_time()
        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(32)))
        return count / (time.perf_counter() - began), (time.process_time() - before) / count * 1e6


def bare_worker(settings: Settings, bucket: str, origin: str, pipe: Connection) -> None:
    """The floor of a move: keys by dramatiq, each read by GET and stored by a create-only PUT, nothing else.

    What is stored is what Ferryman stores; nobody claims a key, writes down what came of it or tries again.
    Keys of messages that ended are counted in Redis under `floor:ended`.
    """
    quiet_log()
    plan = FetchPlan(bucket=bucket, rule="r", groups=(OriginGroup(primary=Origin(host="o")),))
    loop = uvloop.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def opened() -> tuple[ObjectStore, aiohttp.ClientSession, asyncio.Semaphore, Redis]:
        store = await ObjectStore(settings.store, settings.limits).__aenter__()
        await store.ensure_bucket(bucket)
        await store.guarantees(bucket)
        return store, aiohttp.ClientSession(), asyncio.Semaphore(32), connect(settings.broker)

    store, session, places, redis = asyncio.run_coroutine_threadsafe(opened(), loop).result()

    async def one(key: str) -> None:
        async with places, session.get(f"{origin}/{key}") as answer:
            headers = [(name.decode(), value.decode()) for name, value in answer.raw_headers]
            meta = object_meta(
                headers, plan, key=key, url=f"{origin}/{key}", attempt="a", fetched_at="2026-11-29T00:00:00Z"
            )
            size = int(answer.headers["Content-Length"])
            async with store.upload(bucket, key, meta, attempt="a", size=size) as upload:
                async for block in answer.content.iter_any():
                    await upload.write(block)
                await upload.commit()

    async def some(keys: list[str]) -> None:
        await asyncio.gather(*map(one, keys))
        await redis.incrby("floor:ended", len(keys))

    broker = floor_broker(settings.broker.url)

    @dramatiq.actor(broker=broker, actor_name=FLOOR, queue_name=FLOOR)
    def move(keys: list[str]) -> None:
        asyncio.run_coroutine_threadsafe(some(keys), loop).result()

    dramatiq.Worker(broker, queues={FLOOR}, worker_threads=3).start()
    pipe.send(os.getpid())
    threading.Event().wait()


def floor_broker(url: str) -> RedisBroker:
    """Of the messages that a `bare_worker` takes."""
    broker = RedisBroker(url=url, namespace=FLOOR, middleware=[])
    broker.declare_queue(FLOOR)
    return broker


async def bare_moves(
    settings: Settings, bucket: str, keys: list[str], origin: str, warm: list[str], batch: int
) -> dict[str, float]:
    """Move the keys through dramatiq and a `bare_worker`: the floor."""
    broker, redis = floor_broker(settings.broker.url), connect(settings.broker)

    async def wave(some: list[str]) -> None:
        await redis.delete("floor:ended")
        for at in range(0, len(some), batch):
            broker.enqueue(
                dramatiq.Message(FLOOR, FLOOR, args=(some[at : at + batch],), kwargs={}, options={})
            )
        while True:
            if int(await redis.get("floor:ended") or 0) == len(some):
                break
            await asyncio.sleep(0.05)

    try:
        with child(bare_worker, settings, bucket, origin) as pid:
            await wave(warm)
            before, began = cpu_s([pid]) + time.process_time(), time.perf_counter()
            await wave(keys)
            seconds = time.perf_counter() - began
            used = cpu_s([pid]) + time.process_time() - before
    finally:
        await redis.aclose()
        broker.close()
    return {"rate": len(keys) / seconds, "cpu_us": used / len(keys) * 1e6}
