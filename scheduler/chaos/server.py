"""The misbehaving origin's server: connections, scripts, the request log and its control endpoint.

Owns which behaviour a path gets: a script first, then the path's first segment, then a stored object, else
404. Path form: `/truncate,at=700,size=1024/img/a.jpg`; the query may carry parameters as well. Control
endpoint, on the same port:

    GET    /_chaos/requests            JSON list of what was asked
    DELETE /_chaos/requests            forget it, and the counters
    GET    /_chaos/behaviours          JSON catalogue
    PUT    /_chaos/scripts             {"path": "/img/a.jpg", "steps": ["status,code=503", "ok"]}
    PUT    /_chaos/objects             {"path": "/img/a.jpg", "body": "text", "headers": [["ETag", "x"]]}

The last step of a script repeats.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

import orjson
import structlog

from scheduler.chaos.catalogue import CATALOGUE
from scheduler.chaos.content import DEFAULT_SIZE, Shelf, make_object
from scheduler.chaos.exchange import MAX_HEAD_BYTES, ChaosRequest, Exchange, read_request
from workers.errors import described

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from pathlib import Path

    from scheduler.chaos.behaviour import Behaviour

log = structlog.get_logger()

CONTROL = "/_chaos/"

#: Requests kept in the log; older ones are forgotten.
MAX_LOG = 100_000


@dataclass(slots=True, kw_only=True)
class LoggedRequest:
    """One request and how it was answered."""

    number: int
    at: float
    method: str
    target: str
    #: Decoded path without query.
    path: str
    headers: tuple[tuple[str, str], ...]
    connection: int
    behaviour: str
    status: int = 0
    sent_bytes: int = 0

    def header(self, name: str) -> str | None:
        """The first value of `name`, without regard to case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def parse_step(text: str) -> tuple[str, dict[str, str]]:
    """Split `truncate,at=700` into a behaviour's name and its parameters."""
    name, *rest = text.split(",")
    return name, {key: value for key, _, value in (part.partition("=") for part in rest)}


class ChaosServer:
    """An origin that misbehaves on request; `async with`, or `start` and `stop`."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        root: Path | None = None,
        default_size: int = DEFAULT_SIZE,
        tls: ssl.SSLContext | None = None,
        latency_s: float = 0.0,
    ) -> None:
        self.host, self.port = host, port
        self.shelf = Shelf(root)
        self.requests: list[LoggedRequest] = []
        self._tls = tls
        self._latency_s = latency_s
        self._default_size = default_size
        self._scripts: dict[str, tuple[str, ...]] = {}
        self._script_step: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._behaviours: dict[str, Behaviour] = dict(CATALOGUE)
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._number = 0
        self._connections = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def authority(self) -> str:
        """Own `host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Own URL, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://{self.authority}"

    async def start(self) -> None:
        """Listen; `port` then holds the real port."""
        self._server = await asyncio.start_server(
            self._connected, self.host, self.port, ssl=self._tls, limit=MAX_HEAD_BYTES
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and end every open connection, stalled ones included."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._open.values()):
            writer.transport.abort()
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def put(self, path: str, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Register an object under a decoded path."""
        self.shelf.put(path, make_object(path, body, tuple(headers)))

    def script(self, path: str, *steps: str) -> None:
        """Give a decoded path a sequence of behaviours, one a request; the last one repeats.

        Raises:
            KeyError: a step names no behaviour.
        """
        for step in steps:
            self._behaviours[parse_step(step)[0]]
        self._scripts[path] = steps
        self._script_step.pop(path, None)

    def forget(self) -> None:
        """Empty the log and the counters; scripts start over."""
        self.requests.clear()
        self._counts.clear()
        self._script_step.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        self._connections += 1
        connection = self._connections
        try:
            keep = True
            while keep and (request := await read_request(reader)) is not None:
                keep = await self._answer(request, writer, connection)
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            log.debug("chaos_client_gone", connection=connection)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            del self._open[task]
            writer.close()
            with suppress(ConnectionError, TimeoutError, OSError):
                await writer.wait_closed()

    async def _answer(self, request: ChaosRequest, writer: asyncio.StreamWriter, connection: int) -> bool:
        raw_path, _, query = request.target.partition("?")
        path = unquote(raw_path, errors="surrogateescape")
        if path.startswith(CONTROL):
            await self._control(request, path, writer)
            return True
        self._counts[path] += 1
        chosen, name, params = self._choose(path, raw_path)
        pairs = (pair.partition("=") for pair in query.split("&"))
        params |= {key: unquote(value) for key, _, value in pairs if key}
        size = int(params["size"]) if params.get("size", "").isdigit() else self._default_size
        exchange = Exchange(
            request=request,
            writer=writer,
            item=self.shelf.find_or_generate(name, size),
            name=name,
            params=params,
            count=self._counts[path],
            authority=self.authority,
        )
        self._number += 1
        entry = LoggedRequest(
            number=self._number,
            at=time.time(),
            method=request.method,
            target=request.target,
            path=path,
            headers=request.headers,
            connection=connection,
            behaviour=chosen or "not_found",
        )
        self._remember(entry)
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        try:
            if chosen:
                await self._behaviours[chosen].run(exchange)
            else:
                await exchange.head(404, [("Content-Type", "text/plain"), ("Content-Length", "10")])
                if request.method != "HEAD":
                    await exchange.raw(b"not found\n")
        finally:
            entry.status, entry.sent_bytes = exchange.status, exchange.sent_bytes
        return exchange.keep and (request.header("connection") or "").lower() != "close"

    def _choose(self, path: str, raw_path: str) -> tuple[str, str, dict[str, str]]:
        """The behaviour's name (empty: not found), the object's path, and the parameters."""
        steps = self._scripts.get(path)
        if steps:
            step = steps[min(self._script_step[path], len(steps) - 1)]
            self._script_step[path] += 1
            name, params = parse_step(step)
            return name, path, params
        first, _, rest = raw_path[1:].partition("/")
        name, params = parse_step(unquote(first))
        if name in self._behaviours:
            return name, "/" + unquote(rest, errors="surrogateescape"), params
        return ("ok" if self.shelf.find(path) else ""), path, {}

    def _remember(self, entry: LoggedRequest) -> None:
        if len(self.requests) >= MAX_LOG:
            del self.requests[: MAX_LOG // 10]
        self.requests.append(entry)

    async def _control(self, request: ChaosRequest, path: str, writer: asyncio.StreamWriter) -> None:
        status, answer = self._controlled(request, path.removeprefix(CONTROL))
        body = orjson.dumps(answer)
        head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    def _controlled(self, request: ChaosRequest, what: str) -> tuple[int, object]:
        match request.method, what:
            case "GET", "requests":
                return 200, [asdict(entry) for entry in self.requests]
            case "DELETE", "requests":
                self.forget()
                return 200, {}
            case "GET", "behaviours":
                return 200, [
                    {"name": known.name, "summary": known.summary, "params": dict(known.params)}
                    for known in self._behaviours.values()
                ]
            case "PUT", ("scripts" | "objects") as kind:
                try:
                    document = orjson.loads(request.body)
                    if kind == "scripts":
                        self.script(document["path"], *document["steps"])
                    else:
                        headers = [(str(name), str(value)) for name, value in document.get("headers", [])]
                        self.put(document["path"], document["body"].encode(), headers)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    return 400, {"error": described(error)}
                return 200, {}
            case _:
                return 404, {"error": "no such control"}
