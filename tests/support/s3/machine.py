"""The model: a random sequence of S3 calls, the same to two sides, with equal answers after each.

The first side is the store itself, so the model needs no idea of what S3 is.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
import zlib
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

if TYPE_CHECKING:
    from support.s3.wire import Answer, Wire

#: Names with what clients, proxies and stores quote differently.
NAMES = (
    "a", "a b+c", "deep/er/k", "deep/x", "ä/中.txt", "x%41", "q?v=1&w=2", "~'()*!,;:@$", "end.", "#hash",
    "dir/", "K", "a-b", "a_b/c", "none",
)  # fmt: skip
_RUNS = itertools.count(1)

names = st.sampled_from(NAMES)
sizes = st.sampled_from([0, 1, 10, 5000, 70_000])
#: A body is told by its size and a number, so that a failing run is short to read.
bodies = st.tuples(sizes, st.integers(0, 2))
digests = st.sampled_from(
    ["none", "none", "md5", "crc32", "sha256", "wrong md5", "wrong crc32", "wrong payload"]
)
kinds = st.sampled_from(
    [{}, {"x-amz-meta-who": "me"}, {"cache-control": "no-store", "content-type": "text/x"}]
)
ranges = st.sampled_from(["", "", "bytes=0-3", "bytes=2-", "bytes=-4", "bytes=5-4", "bytes=100000-", "x=1"])


def body_of(told: tuple[int, int]) -> bytes:
    size, number = told
    return random.Random(number).randbytes(size)


def promised(body: bytes, how: str) -> tuple[dict[str, str], str]:
    """Headers that promise something of a body, and what the signature says of it."""
    said = b"something else" if how.startswith("wrong") else body
    match how.removeprefix("wrong "):
        case "md5":
            return {"content-md5": base64.b64encode(hashlib.md5(said).digest()).decode()}, ""
        case "crc32":
            value = base64.b64encode(zlib.crc32(said).to_bytes(4, "big")).decode()
            return {"x-amz-checksum-crc32": value}, "UNSIGNED-PAYLOAD"
        case "sha256":
            value = base64.b64encode(hashlib.sha256(said).digest()).decode()
            return {"x-amz-checksum-sha256": value}, ""
        case "payload":
            return {}, hashlib.sha256(said).hexdigest()
        case _:
            return {}, ""


class S3Machine(RuleBasedStateMachine):
    """Calls below a prefix of each run's own."""

    #: SeaweedFS keeps each body that was sent for a part, and lists them in any order.
    replaces_parts = False

    def __init__(self, direct: Wire, through: Wire) -> None:
        super().__init__()
        self.sides = (direct, through)
        self.prefix = f"run{next(_RUNS)}/"
        #: By name: the upload's id on each side, and the ETags of its parts.
        self.uploads: dict[str, tuple[tuple[str, str], dict[int, str]]] = {}

    # ------------------------------------------------------------ the same to both

    def seen(self, answer: Answer) -> Any:
        """What of an answer must be equal."""
        return answer

    def both(self, method: str, name: str | None, **given: Any) -> tuple[Answer, Answer]:
        key = "" if name is None else self.prefix + name
        queries = given.get("query")
        if not isinstance(queries, tuple):
            queries = (queries, queries)
        first, second = (
            side.call(method, key, **{**given, "query": query})
            for side, query in zip(self.sides, queries, strict=True)
        )
        told = {n: v if n != "body" else len(v) for n, v in given.items()}
        note(f"{method} {key} {told}: {first.status}")
        assert self.seen(second) == self.seen(first), (
            f"{method} {key!r} {told}\n{self.sides[0].name}: {first}\n{self.sides[1].name}: {second}"
        )
        return first, second

    # ------------------------------------------------------------ objects

    @rule(
        name=names,
        told=bodies,
        how=digests,
        condition=st.sampled_from(["", "", "", "*"]),
        more=st.sampled_from(
            [{}, {"x-amz-meta-who": "me"}, {"cache-control": "no-store", "content-type": "text/x"}]
        ),
    )
    def put(self, name: str, told: tuple[int, int], how: str, condition: str, more: dict[str, str]) -> None:
        body = b"" if name.endswith("/") else body_of(told)
        headers, payload = promised(body, how)
        given = {**headers, **more, **({"if-none-match": condition} if condition else {})}
        if how.startswith("wrong"):
            self.refused(how, name, headers=given, body=body, payload=payload)
        else:
            self.both("PUT", name, headers=given, body=body, payload=payload)

    def refused(self, how: str, name: str, **given: Any) -> None:
        """A body that is not what was promised: the gateway stores nothing of it, whatever the store does."""
        answer = self.sides[1].call("PUT", self.prefix + name, **given)
        note(f"PUT {name} with {how}: {answer.status}")
        code = "XAmzContentSHA256Mismatch" if how == "wrong payload" else "BadDigest"
        assert (answer.status, answer.text("Code")) in {(400, code), (412, "PreconditionFailed")}, answer

    @rule(name=names, method=st.sampled_from(["GET", "HEAD"]), wanted=ranges)
    def read(self, name: str, method: str, wanted: str) -> None:
        self.both(method, name, headers={"range": wanted} if wanted else {})

    @rule(
        name=names,
        method=st.sampled_from(["GET", "HEAD"]),
        condition=st.sampled_from(["if-match", "if-none-match"]),
        right=st.booleans(),
        query=st.sampled_from([{}, {"response-content-type": "a/b"}, {"partNumber": "1"}]),
    )
    def read_if(self, name: str, method: str, condition: str, right: bool, query: dict[str, str]) -> None:
        etag = self.sides[0].call("HEAD", self.prefix + name).headers.get("etag", '"none"')
        self.both(method, name, headers={condition: etag if right else '"other"'}, query=query)

    @rule(name=names, source=names, replaced=st.booleans())
    def copy(self, name: str, source: str, replaced: bool) -> None:
        if name == source or name.endswith("/") or source.endswith("/"):
            return
        path = self.prefix + source
        coded = "".join(c if (c.isalnum() and c.isascii()) or c in "/-._~" else _percent(c) for c in path)
        given = {"x-amz-copy-source": "/{bucket}/" + coded}
        if replaced:
            given |= {"x-amz-metadata-directive": "REPLACE", "x-amz-meta-of": "copy", "content-type": "c/d"}
        self.both("PUT", name, headers=given)

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.both("DELETE", name)

    @rule(some=st.lists(names, min_size=1, max_size=4, unique=True), quiet=st.booleans())
    def delete_many(self, some: list[str], quiet: bool) -> None:
        inner = "".join(f"<Object><Key>{escape(self.prefix + name)}</Key></Object>" for name in some)
        body = f"<Delete>{'<Quiet>true</Quiet>' if quiet else ''}{inner}</Delete>".encode()
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
        self.both("POST", None, query={"delete": ""}, body=body, headers={"content-md5": md5})

    @rule(name=names, method=st.sampled_from(["GET", "PUT", "DELETE"]))
    def tag(self, name: str, method: str) -> None:
        if name.endswith("/"):
            return
        body = b""
        if method == "PUT":
            body = b"<Tagging><TagSet><Tag><Key>k</Key><Value>v w</Value></Tag></TagSet></Tagging>"
        self.both(method, name, query={"tagging": ""}, body=body)

    @rule(name=names)
    def attributes(self, name: str) -> None:
        if not name.endswith("/"):
            wanted = {"x-amz-object-attributes": "ETag,ObjectSize,StorageClass"}
            self.both("GET", name, query={"attributes": ""}, headers=wanted)

    # ------------------------------------------------------------ listings

    @rule(
        version=st.sampled_from(["1", "2"]),
        below=st.sampled_from(["", "a", "deep/", "ä/", "nothing/"]),
        delimiter=st.sampled_from(["", "/"]),
        most=st.sampled_from(["", "1", "3", "0"]),
        after=st.sampled_from(["", "a", "deep/er/k", "zz"]),
        encoded=st.booleans(),
    )
    def list_page(
        self, version: str, below: str, delimiter: str, most: str, after: str, encoded: bool
    ) -> None:
        query = {"prefix": self.prefix + below}
        query |= {"list-type": "2"} if version == "2" else {}
        query |= {"delimiter": delimiter} if delimiter else {}
        query |= {"max-keys": most} if most else {}
        query |= {("start-after" if version == "2" else "marker"): self.prefix + after} if after else {}
        query |= {"encoding-type": "url"} if encoded else {}
        self.both("GET", None, query=query)

    @rule(size=st.sampled_from(["1", "2"]), delimiter=st.sampled_from(["", "/"]))
    def list_all(self, size: str, delimiter: str) -> None:
        tokens = ("", "")
        for _ in range(len(NAMES)):  # a SeaweedFS can give a page for ever
            query = {"list-type": "2", "max-keys": size, "prefix": self.prefix}
            query |= {"delimiter": delimiter} if delimiter else {}
            pages = self.both(
                "GET",
                None,
                query=tuple(query | ({"continuation-token": token} if token else {}) for token in tokens),
            )
            if pages[0].text("IsTruncated") != "true":
                return
            tokens = (pages[0].text("NextContinuationToken"), pages[1].text("NextContinuationToken"))

    # ------------------------------------------------------------ uploads in parts

    @rule(name=names)
    def begin(self, name: str) -> None:
        if name in self.uploads or name.endswith("/"):
            return
        first, second = self.both("POST", name, query={"uploads": ""}, headers={"content-type": "p/q"})
        if first.status == 200:
            self.uploads[name] = ((first.text("UploadId"), second.text("UploadId")), {})

    def of(self, name: str, **more: str) -> tuple[dict[str, str], dict[str, str]]:
        ids = self.uploads[name][0]
        return {"uploadId": ids[0], **more}, {"uploadId": ids[1], **more}

    @precondition(lambda self: self.uploads)
    @rule(data=st.data(), number=st.integers(1, 2), told=bodies, how=digests)
    def part(self, data: st.DataObject, number: int, told: tuple[int, int], how: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.uploads)))
        if number in self.uploads[name][1] and not self.replaces_parts:
            return
        headers, payload = promised(body_of(told), how)
        given = self.of(name, partNumber=str(number))
        if how.startswith("wrong"):
            self.refused(how, name, query=given[1], body=body_of(told), headers=headers, payload=payload)
            return
        first, _ = self.both("PUT", name, query=given, body=body_of(told), headers=headers, payload=payload)
        if first.status == 200:
            self.uploads[name][1][number] = first.headers["etag"]

    @precondition(lambda self: self.uploads)
    @rule(data=st.data(), how=st.sampled_from(["parts", "complete", "wrongly", "abort", "get"]))
    def end(self, data: st.DataObject, how: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.uploads)))
        given, etags = self.of(name), self.uploads[name][1]
        if how == "parts":
            self.both("GET", name, query=given)
        elif how == "abort":
            self.both("DELETE", name, query=given)
            self.both("GET", name, query=given)
            del self.uploads[name]
        elif how == "get":
            self.both("GET", name)
        elif etags:
            shown = {number: '"0"' if how == "wrongly" else etag for number, etag in sorted(etags.items())}
            inner = "".join(
                f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
                for number, etag in shown.items()
            )
            body = f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()
            first, _ = self.both("POST", name, query=given, body=body)
            if first.status == 200:
                del self.uploads[name]
                self.both("GET", name)

    # ------------------------------------------------------------ the end

    def teardown(self) -> None:
        for name in NAMES:
            self.both("GET", name)
        for name in list(self.uploads):
            for side, query in zip(self.sides, self.of(name), strict=True):
                side.call("DELETE", self.prefix + name, query=query)


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())
