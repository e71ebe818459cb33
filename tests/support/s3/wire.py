"""One S3 call over a plain connection, and its answer without what no two answers share.

A model of S3 sends the same calls to two sides; each has its own endpoint, key pair and bucket.
"""

from __future__ import annotations

import hashlib
import http.client
import time
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import quote

from lxml import etree

from workers.store.wire.addressing import encode_query
from workers.store.wire.signing import Credentials, Signer

#: Headers that are the connection's, a date's or a request's.
_PASSING_HEADERS = frozenset({
    "connection", "date", "keep-alive", "last-modified", "server", "transfer-encoding", "x-amz-id-2",
    "x-amz-request-id", "x-cos-request-id", "x-oss-request-id",
})  # fmt: skip
#: Elements of documents that are a date's or a request's; what an error says in words is whoever found it.
_PASSING_ELEMENTS = frozenset({
    "ContinuationToken", "HostId", "Initiated", "LastModified", "Message", "NextContinuationToken",
    "NextUploadIdMarker", "RequestId", "UploadId", "UploadIdMarker",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came, comparable."""

    status: int
    headers: dict[str, str]
    #: An XML document as nested lists, or the bytes.
    body: Any
    raw: bytes = field(compare=False, repr=False, default=b"")

    def text(self, name: str) -> str:
        """The first element of this name."""
        return self.raw.partition(f"<{name}>".encode())[2].partition(f"</{name}>".encode())[0].decode()

    def texts(self, name: str) -> list[str]:
        """All elements of this name."""
        parts = self.raw.split(f"<{name}>".encode())[1:]
        return [unescape(part.partition(f"</{name}>".encode())[0].decode()) for part in parts]


@dataclass(slots=True, kw_only=True)
class Wire:
    """One side: an endpoint, a key pair, a bucket."""

    name: str
    endpoint: str
    key_id: str
    secret: str
    bucket: str
    signer: Signer = field(default_factory=lambda: Signer("us-east-1"))
    connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def call(
        self,
        method: str,
        key: str = "",
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        payload: str = "",
    ) -> Answer:
        """Send one call; `{bucket}` in header values is this side's."""
        authority = self.endpoint.removeprefix("http://")
        path = f"/{self.bucket}" + (f"/{quote(key, safe='/-._~')}" if key else "")
        coded = encode_query((query or {}).items())
        given = {name: value.replace("{bucket}", self.bucket) for name, value in (headers or {}).items()}
        given["host"] = authority
        digest = payload or hashlib.sha256(body).hexdigest()
        self.signer.sign(
            Credentials(self.key_id, self.secret), method, path, coded, given, payload_sha256=digest,
            now=time.time(),
        )  # fmt: skip
        target = f"{path}?{coded}" if coded else path
        try:
            return self._exchange(method, target, given, body)
        except (http.client.HTTPException, ConnectionError):
            # A connection that was kept can end between two calls; on a new one there is no such excuse.
            self.close()
            return self._exchange(method, target, given, body)

    def _exchange(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.endpoint.removeprefix("http://"), timeout=60)
        self.connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.connection.putheader(name, value.encode())
        self.connection.endheaders(body)
        got = self.connection.getresponse()
        data = got.read()
        found = {name.lower(): value for name, value in got.getheaders()}
        if found.get("connection", "").lower() == "close":
            self.close()
        return self._plain(got.status, found, data)

    def _plain(self, status: int, headers: dict[str, str], data: bytes) -> Answer:
        kept = {
            name: value.replace(self.bucket, "BUCKET")
            for name, value in headers.items()
            if name not in _PASSING_HEADERS and not name.startswith("x-ferryman-")
        }
        kind = kept.get("content-type", "")
        if status >= 400:
            kept = {}  # what is refused here and what is refused there
        body: Any = data
        if data[:64].lstrip().startswith(b"<") and "xml" in kind:
            body = _tree(etree.fromstring(data), self.bucket)
            kept.pop("content-length", None)
        return Answer(status=status, headers=kept, body=body, raw=data)


def _tree(element: etree._Element, bucket: str, root: str = "") -> Any:
    name = etree.QName(element).localname
    root = root or name
    if root == "Error":
        code = element.find("{*}Code")
        return ["Error", "" if code is None else code.text]
    children = [
        _tree(child, bucket, root)
        for child in element
        if etree.QName(child).localname not in _PASSING_ELEMENTS
    ]
    if name == "DeleteResult":
        children.sort(key=str)  # they are deleted side by side
    return [name, children or (element.text or "").strip().replace(bucket, "BUCKET")]
