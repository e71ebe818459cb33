"""The model with an origin behind: the second side is a bucket of which part is still in an old one.

The first side is a bucket of the store that had everything from the start.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from hypothesis import strategies as st
from hypothesis.stateful import rule

from support.s3.machine import NAMES, S3Machine, body_of, names

if TYPE_CHECKING:
    from support.s3.wire import Answer, Wire

#: What an object is; the rest of an answer's headers is whoever sent it.
_OF_THE_OBJECT = frozenset({"cache-control", "content-length", "content-range", "content-type", "etag"})
#: In the old bucket only, and in both of them with the store's as the newer one.
_OLD = ("a", "deep/er/k", "ä/中.txt", "q?v=1&w=2", "~'()*!,;:@$", "x%41", "a-b")
_BOTH = ("K", "a_b/c")


class BehindMachine(S3Machine):
    """`stored` and `old` are the store's own bucket of the gateway, and the one that the rule's origin is."""

    def __init__(self, direct: Wire, through: Wire, stored: Wire, old: Wire) -> None:
        super().__init__(direct, through)
        self.stored = stored
        kind = {"content-type": "o/p", "x-amz-meta-from": "old", "cache-control": "max-age=7"}
        for at, name in enumerate((*_OLD, *_BOTH)):
            body = body_of(((0, 10, 5000, 70_000)[at % 4], at))
            for side in (direct, old):
                assert side.call("PUT", self.prefix + name, body=body, headers=kind).status == 200
        for name in _BOTH:
            for side in (direct, stored):
                assert side.call("PUT", self.prefix + name, body=b"newer", headers=kind).status == 200

    def seen(self, answer: Answer) -> Any:
        headers = {
            n: v for n, v in answer.headers.items() if n in _OF_THE_OBJECT or n.startswith("x-amz-meta-")
        }
        return answer.status, headers, answer.body

    def arrive(self, name: str) -> None:
        """Ask for a key, and wait until the store has it."""
        first, _ = self.both("GET", name)
        deadline = time.monotonic() + 20
        while first.status == 200 and self.stored.call("HEAD", self.prefix + name).status != 200:
            assert time.monotonic() < deadline, f"{name} does not arrive"

    # What the store is asked for an object that it has: it never comes from the origin by these.

    @rule(name=names, method=st.sampled_from(["GET", "PUT", "DELETE"]))
    def tag(self, name: str, method: str) -> None:
        self.arrive(name)
        super().tag(name, method)

    @rule(name=names)
    def attributes(self, name: str) -> None:
        self.arrive(name)
        super().attributes(name)

    @rule(
        name=names,
        method=st.sampled_from(["GET", "HEAD"]),
        condition=st.sampled_from(["if-match", "if-none-match"]),
        right=st.booleans(),
        query=st.sampled_from([{}, {"response-content-type": "a/b"}]),
    )
    def read_if(self, name: str, method: str, condition: str, right: bool, query: dict[str, str]) -> None:
        if condition == "if-none-match":
            self.arrive(name)  # until then the answer may be the whole object
        super().read_if(name, method, condition, right, query)

    # Order and pages are the union's own, which are those of S3 where the store's are not.

    @rule(
        below=st.sampled_from(["", "a", "deep/", "ä/", "nothing/"]), size=st.sampled_from(["1", "3", "1000"])
    )
    def list_page(self, below: str, size: str) -> None:
        direct = self.entries(self.sides[0], self.prefix + below, "1000")
        through = self.entries(self.sides[1], self.prefix + below, size)
        assert through == sorted(direct), f"{below} by {size}\n{sorted(direct)}\n{through}"

    def list_all(self) -> None:
        """Paging is in `list_page`."""

    def entries(self, side: Wire, below: str, size: str) -> list[tuple[bytes, str, str]]:
        """Key, ETag and size of all that is listed."""
        found: list[tuple[bytes, str, str]] = []
        token = ""
        for _ in range(3 * len(NAMES)):
            query = {"list-type": "2", "prefix": below, "max-keys": size, "encoding-type": "url"}
            page = side.call("GET", query=query | ({"continuation-token": token} if token else {}))
            assert page.status == 200, page
            keys = page.texts("Key")
            found += zip(
                [unquote_to_bytes(key) for key in keys], page.texts("ETag"), page.texts("Size"), strict=True
            )
            if page.text("IsTruncated") != "true":
                return found
            token = page.text("NextContinuationToken")
        raise AssertionError("the listing does not end")
