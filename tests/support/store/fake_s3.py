"""A small S3 on raw asyncio that misbehaves on demand: the test double of the store's fault tests.

It keeps objects and multipart uploads in memory and believes every signature. `faults` are asked for each
request, before it has any effect and again before its answer is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


@dataclass(slots=True)
class Stored:
    body: bytes
    headers: dict[str, str]
    etag: str
    #: Unix time in seconds, by the store's clock, at which it became an object; ours where a test puts it in.
    at: float = field(default_factory=time.time)


@dataclass(slots=True)
class Request:
    method: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    #: As it stood in the request line.
    target: str = ""

    @property
    def action(self) -> str:
        """put, get, head, delete, list, create, part, complete, abort, uploads, versioning, bucket."""
        if not self.key:
            if "uploads" in self.query:
                return "uploads"
            if "versioning" in self.query:
                return "versioning"
            return "list" if "list-type" in self.query else "bucket"
        if "uploads" in self.query:
            return "create"
        if "partNumber" in self.query:
            return "part"
        if "uploadId" in self.query:
            return {"POST": "complete", "DELETE": "abort"}[self.method]
        return self.method.lower()


#: What a fault does: a status with a code instead of the effect; or the connection is cut before the effect,
#: after it (the answer is lost), or in the middle of the answer.
Fault = tuple[int, str] | Literal["cut", "lose_answer", "truncate"]


@dataclass
class FakeS3:
    """The server's state; `endpoint` once it runs."""

    #: obeys, ignores or inverts If-None-Match: *.
    create_only: Literal["obeys", "ignores", "inverts"] = "obeys"
    #: The same for completing a multipart upload; as `create_only` when None.
    complete_only: Literal["obeys", "ignores", "inverts"] | None = None
    #: A vendor's own header that is obeyed, such as x-oss-forbid-overwrite.
    forbid_header: str = ""
    #: Refuse `aws-chunked` bodies and checksum trailers, as many compatible stores do (P40).
    refuse_trailers: bool = True
    #: Forget bodies: only lengths are kept, so that gigabytes may come.
    discard: bool = False
    #: Called for each request; may return a Fault.
    fault: Callable[[Request], Fault | None] | None = None
    #: Seconds that an action takes before its effect.
    takes_s: dict[str, float] = field(default_factory=dict)
    #: Called when an object is about to be committed (to race with it).
    before_commit: Callable[[str], None] | None = None
    objects: dict[str, Stored] = field(default_factory=dict)
    #: By id: the key, its headers, its parts, and when it was begun by the store's clock.
    uploads: dict[str, tuple[str, dict[str, str], dict[int, Stored], float]] = field(default_factory=dict)
    #: Seconds that its clock is ahead of ours.
    ahead_s: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    requests: list[Request] = field(default_factory=list)
    endpoint: str = ""
    _serial: int = 0
    _serving: dict[asyncio.Task[object], asyncio.StreamWriter] = field(default_factory=dict)

    def now(self) -> float:
        """Unix time in seconds, by its own clock."""
        return time.time() + self.ahead_s

    def user_keys(self) -> set[str]:
        """Keys of everybody but Ferryman itself."""
        return {key for key in self.objects if not key.startswith(".ferryman/")}

    def place(self, key: str, body: bytes, **headers: str) -> None:
        """Somebody else writes an object."""
        self.objects[key] = Stored(body, dict(headers), hashlib.md5(body).hexdigest(), self.now())

    # ------------------------------------------------------------------ HTTP

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._one(reader, writer):
                    pass
        finally:
            del self._serving[task]
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def stop(self) -> None:
        """Cut all connections and wait until nobody serves one."""
        tasks = list(self._serving)
        for writer in list(self._serving.values()):
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.rstrip().split("\r\n")
        method, target, _ = line.split(" ")
        headers = {}
        for entry in rest:
            name, _, value = entry.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        if self.discard and length > 65536:
            left = length
            while left:
                left -= len(await reader.readexactly(min(left, 65536)))
            body = b""
            headers["x-discarded"] = str(length)
        else:
            body = await reader.readexactly(length)
        path, _, query = target.partition("?")
        _, _bucket, key = (*path.split("/", 2), "")[:3]
        pairs = dict(parse_qsl(query, keep_blank_values=True))
        request = Request(method, unquote(key), pairs, headers, body, target)
        self.seen[request.action] += 1
        self.requests.append(request)
        if self.discard:
            self.requests.clear()
        if self.takes_s:
            await asyncio.sleep(self.takes_s.get(request.action, 0.0))
        fault = self.fault(request) if self.fault is not None else None
        if fault == "cut":
            writer.transport.abort()
            return False
        if isinstance(fault, tuple):
            status, answer_headers, content = self._error(*fault)
        else:
            status, answer_headers, content = self._do(request)
        if fault == "lose_answer":
            writer.transport.abort()
            return False
        shown = {"Content-Length": str(len(content)), "Date": formatdate(usegmt=True), **answer_headers}
        text = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in shown.items())
        data = text.encode() + b"\r\n" + (b"" if method == "HEAD" else content)
        if fault == "truncate":
            writer.write(data[:-10])
            await writer.drain()
            writer.close()
            return False
        writer.write(data)
        await writer.drain()
        return True

    # ------------------------------------------------------------------ S3

    @staticmethod
    def _error(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
        return status, {}, f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()

    def _refused(self, request: Request, mode: str) -> bool:
        """Whether the create-only condition stops this commit."""
        taken = request.key in self.objects
        if self.forbid_header and request.headers.get(self.forbid_header) == "true":
            return taken
        if request.headers.get("if-none-match") == "*":
            return {"obeys": taken, "ignores": False, "inverts": not taken}[mode]
        wanted = request.headers.get("if-match")
        if wanted is not None:
            return not taken or self.objects[request.key].etag != wanted.strip('"')
        return False

    def _commit(
        self, request: Request, stored: Stored, mode: str
    ) -> tuple[int, dict[str, str], bytes] | None:
        if self.before_commit is not None and not request.key.startswith(".ferryman/"):
            self.before_commit(request.key)
        if self._refused(request, mode):
            if self.forbid_header and request.headers.get(self.forbid_header) == "true":
                return self._error(409, "FileAlreadyExists")
            return self._error(412, "PreconditionFailed")
        stored.at = self.now()
        self.objects[request.key] = stored
        return None

    @staticmethod
    def _kept_headers(headers: dict[str, str]) -> dict[str, str]:
        kept = ("content-type", "cache-control", "expires", "content-disposition", "content-encoding",
                "content-language")  # fmt: skip
        return {
            name: value for name, value in headers.items() if name in kept or name.startswith("x-amz-meta-")
        }

    def _do(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        headers = request.headers
        if self.refuse_trailers and (
            "x-amz-trailer" in headers or "aws-chunked" in headers.get("content-encoding", "")
        ):
            return self._error(400, "InvalidArgument")
        size = int(headers.get("x-discarded", len(request.body)))
        match request.action:
            case "bucket":
                return 200, {}, b""
            case "versioning":
                return 200, {}, b"<VersioningConfiguration/>"
            case "put":
                etag = hashlib.md5(request.body).hexdigest()
                stored = Stored(request.body, self._kept_headers(headers), etag)
                refused = self._commit(request, stored, self.create_only)
                return refused or (200, {"ETag": f'"{etag}"'}, b"")
            case "head" | "get":
                found = self.objects.get(request.key)
                if found is None:
                    return self._error(404, "NoSuchKey")
                shown = {**found.headers, "ETag": f'"{found.etag}"', "Last-Modified": formatdate(usegmt=True)}
                if request.method == "HEAD":
                    shown["Content-Length"] = found.headers.get("x-amz-meta-fake-size", str(len(found.body)))
                return 200, shown, found.body
            case "delete":
                self.objects.pop(request.key, None)
                return 204, {}, b""
            case "create":
                self._serial += 1
                upload_id = f"upload-{self._serial}"
                self.uploads[upload_id] = (request.key, self._kept_headers(headers), {}, self.now())
                return 200, {}, f"<R><UploadId>{upload_id}</UploadId></R>".encode()
            case "part":
                upload = self.uploads.get(request.query["uploadId"])
                if upload is None:
                    return self._error(404, "NoSuchUpload")
                etag = hashlib.md5(request.body).hexdigest()
                upload[2][int(request.query["partNumber"])] = Stored(request.body, {"size": str(size)}, etag)
                return 200, {"ETag": f'"{etag}"'}, b""
            case "abort":
                return (
                    (204, {}, b"")
                    if self.uploads.pop(request.query["uploadId"], None)
                    else self._error(404, "NoSuchUpload")
                )
            case "complete":
                return self._complete(request)
            case "uploads":
                entries = "".join(
                    f"<Upload><Key>{escape(key)}</Key><UploadId>{name}</UploadId>"
                    f"<Initiated>{iso(at)}</Initiated></Upload>"
                    for name, (key, _, _, at) in self.uploads.items()
                )
                return 200, {}, f"<L><IsTruncated>false</IsTruncated>{entries}</L>".encode()
            case "list":
                return self._list(request)
        return self._error(501, "NotImplemented")

    def _complete(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        upload = self.uploads.get(request.query["uploadId"])
        if upload is None:
            return self._error(404, "NoSuchUpload")
        key, headers, parts, _ = upload
        named = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", request.body)]
        if named != sorted(parts):
            return self._error(400, "InvalidPart")
        body = b"".join(parts[number].body for number in named)
        digest = hashlib.md5(b"".join(bytes.fromhex(parts[number].etag) for number in named)).hexdigest()
        etag = f"{digest}-{len(named)}"
        if self.discard:
            total = sum(int(part.headers["size"]) for part in parts.values())
            headers = {**headers, "x-amz-meta-fake-size": str(total)}
        refused = self._commit(request, Stored(body, headers, etag), self.complete_only or self.create_only)
        if refused is not None:
            return refused
        del self.uploads[request.query["uploadId"]]
        return 200, {}, f"<R><Key>{escape(key)}</Key><ETag>&quot;{etag}&quot;</ETag></R>".encode()

    def _list(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        after = request.query.get("continuation-token") or request.query.get("start-after") or ""
        limit = int(request.query.get("max-keys", "1000"))
        prefix, delimiter = request.query.get("prefix", ""), request.query.get("delimiter", "")
        names: dict[str, bool] = {}
        for key in sorted(self.objects):
            end = key.find(delimiter, len(prefix)) if delimiter and key.startswith(prefix) else -1
            name = key if end < 0 else key[: end + len(delimiter)]
            if key.startswith(prefix) and name > after and key > after:
                names[name] = end >= 0
        page, more = list(names)[:limit], len(names) > limit
        entries = "".join(
            f"<CommonPrefixes><Prefix>{escape(key)}</Prefix></CommonPrefixes>"
            if names[key]
            else f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key].body)}</Size>"
            f"<ETag>{self.objects[key].etag}</ETag>"
            f"<LastModified>{iso(self.objects[key].at)}</LastModified></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        truncated = "true" if more else "false"
        text = f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{token}{entries}</ListBucketResult>"
        return 200, {}, text.encode()


@contextlib.asynccontextmanager
async def running_fake_s3(fake: FakeS3, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeS3]:
    """Serve it on a free port until the block ends."""
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, limit=1024 * 1024, ssl=tls)
    fake.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        server.close()
        await fake.stop()
        await server.wait_closed()
