"""A real gateway inside a test: its own Services and port, over the real store and the real Redis.

async with running_gateway(seaweed, valkey_url, bucket, rules) as front:
    answer = await front.get("/key")
    raw = await front.raw(b"GET /...")
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from scheduler.config.settings import Settings
from scheduler.front.gateway import Gateway
from scheduler.front.server import serve_app
from scheduler.machine.listen import bind
from scheduler.machine.startup import make_ready
from scheduler.runtime import open_services
from support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from scheduler.runtime import Services
    from support.store.seaweed import Seaweed


@dataclass(slots=True, kw_only=True)
class Reply:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(slots=True, kw_only=True)
class RawReply:
    """What came over a raw connection until it ended."""

    data: bytes
    #: The connection ended with a reset.
    reset: bool

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]

    @property
    def status(self) -> int:
        return int(self.data[9:12])


@dataclass(slots=True, kw_only=True)
class Front:
    """One running gateway."""

    port: int
    bucket: str
    services: Services
    gateway: Gateway
    session: aiohttp.ClientSession
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str, bucket: str | None = None) -> URL:
        return URL(f"http://127.0.0.1:{self.port}/{bucket or self.bucket}{path}", encoded=True)

    async def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any
    ) -> Reply:
        """One request, redirects not followed, body not decoded; path as it stands on the wire."""
        bucket = more.pop("bucket", None)
        async with self.session.request(
            method, self.url(path, bucket), headers=headers, allow_redirects=False, **more
        ) as response:
            body = await response.read()
            found = {name.lower(): value for name, value in response.headers.items()}
            return Reply(status=response.status, headers=found, body=body)

    async def get(self, path: str, headers: dict[str, str] | None = None, **more: Any) -> Reply:
        return await self.request("GET", path, headers, **more)

    async def head(self, path: str, headers: dict[str, str] | None = None, **more: Any) -> Reply:
        return await self.request("HEAD", path, headers, **more)

    async def raw(self, data: bytes, *, timeout_s: float = PATIENCE_S) -> RawReply:
        """Send bytes and read until the connection ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        got = bytearray()
        reset = False
        try:
            writer.write(data)
            await writer.drain()
            async with asyncio.timeout(timeout_s):
                while chunk := await reader.read(65536):
                    got += chunk
        except ConnectionError:
            reset = True
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return RawReply(data=bytes(got), reset=reset)

    async def raw_get(self, path: str, *more: str, timeout_s: float = PATIENCE_S) -> RawReply:
        """A GET over a raw connection that is closed behind the answer."""
        lines = [f"GET /{self.bucket}{path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *more]
        return await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), timeout_s=timeout_s)

    async def stored(self, key: str) -> bytes | None:
        """What the store has under a key, asked directly."""
        async with await self.services.store.get(self.bucket, key) as response:
            return None if response.status == 404 else await response.read()

    async def until_stored(self, key: str, *, timeout_s: float = PATIENCE_S) -> bytes:
        """What the store has, as soon as it has it."""
        return await until(lambda: self.stored(key), timeout_s=timeout_s)

    async def idle(self, *, timeout_s: float = PATIENCE_S) -> None:
        """Wait until no pull runs in this process."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while len(self.gateway.parts.herd) or self.gateway.parts.jobs.pending:
            assert asyncio.get_running_loop().time() < deadline, "a pull still runs"
            await asyncio.sleep(0.01)

    async def queued(self) -> int:
        """Messages on the hot lane."""
        from workers.plan import Lane

        return (await self.services.queue.depth(Lane.HOT)).waiting


async def until(look: Callable[[], Any], *, timeout_s: float = PATIENCE_S) -> Any:
    """Poll an asynchronous question until its answer is true."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        found = await look()
        if found or (isinstance(found, bytes) and found is not None):
            return found
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def until_asked(chaos: Any, path: str) -> None:
    """Wait until the origin has been asked for a path."""

    async def asked() -> bool:
        return bool(chaos.count(path))

    await until(asked)


def gateway_settings(
    seaweed: Seaweed,
    valkey_url: str,
    bucket: str,
    rules: Sequence[Any] | None,
    *,
    data_dir: Path,
    namespace: str | None = None,
    bucket_settings: dict[str, Any] | None = None,
    **sections: Any,
) -> Settings:
    """Settings of a front on test servers; `sections` are merged over the defaults."""
    raw: dict[str, Any] = {
        "gateway": {"listen": "127.0.0.1:0"},
        "store": {
            "endpoint": seaweed.endpoint,
            "access_key_id": seaweed.access_key_id,
            "secret_access_key": seaweed.secret_access_key,
            "max_retries": 1,
            "create_only": "if-none-match",
        },
        "broker": {"url": valkey_url, "namespace": namespace or f"t{uuid.uuid4().hex[:8]}"},
        "buckets": {bucket: {"rules": rules, **(bucket_settings or {})}},
        "limits": {"drain_s": 2},
        "data_dir": str(data_dir),
    }
    for name, section in sections.items():
        raw[name] = {**raw.get(name, {}), **section} if isinstance(section, dict) else section
    return Settings.model_validate(raw)


@contextlib.asynccontextmanager
async def running_gateway(
    seaweed: Seaweed,
    valkey_url: str,
    bucket: str,
    rules: Sequence[Any] | None,
    *,
    installation: str = "test-installation",
    **more: Any,
) -> AsyncIterator[Front]:
    """A gateway on a free port until the block ends; `more` as `gateway_settings`."""
    async with contextlib.AsyncExitStack() as stack:
        if "data_dir" not in more:
            more["data_dir"] = Path(stack.enter_context(TemporaryDirectory(prefix="front-")))
        settings = gateway_settings(seaweed, valkey_url, bucket, rules, **more)
        services = await stack.enter_async_context(open_services(settings, installation=installation))
        await make_ready(services, who="test")
        sock = bind("gateway", "127.0.0.1:0")
        port = sock.getsockname()[1]
        gateway = await stack.enter_async_context(Gateway(services))
        stop = asyncio.Event()
        serving = asyncio.create_task(
            serve_app(gateway, [sock], stop, settings=settings.gateway, drain_s=1), name="test-gateway"
        )
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                auto_decompress=False,
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=60),
            )
        )
        try:
            yield Front(
                port=port, bucket=bucket, services=services, gateway=gateway, session=session, stop=stop
            )
        finally:
            await session.close()
            stop.set()
            await serving


@contextlib.contextmanager
def gateway_in_a_thread(*given: Any, **more: Any) -> Iterator[Front]:
    """As `running_gateway`, for tests that block: its loop has a thread of its own."""
    started: concurrent.futures.Future[Front] = concurrent.futures.Future()
    ending: list[Callable[[], None]] = []

    async def run() -> None:
        done, loop = asyncio.Event(), asyncio.get_running_loop()
        ending.append(lambda: loop.call_soon_threadsafe(done.set))
        try:
            async with running_gateway(*given, **more) as front:
                started.set_result(front)
                await done.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="test-gateway")
    thread.start()
    try:
        yield started.result(60)
    finally:
        ending[0]()
        thread.join(60)
