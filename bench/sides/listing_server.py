"""A synthetic S3 bucket for benchmarks: ListObjectsV2 over keys that are made while they are listed.

    python bench/sides/listing_server.py COUNT [DELAY_MS]        prints the port it got

Up to MOST_RENDERED keys are written out before the port is printed, so that a page is cut out of what is
there and costs next to nothing: on a machine of few cores the server would else take one of them from what is
measured.
Every bucket has the same keys. `prefix`, `start-after`, `delimiter=/` and `max-keys` are obeyed, every
signature is taken for good, and each page is answered DELAY_MS after it was asked for, however many are.
"""

from __future__ import annotations

import asyncio
import sys
from array import array
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import uvloop

PAGE = 1_000
_END = b"</Contents>"
FOLDER = 10_000
MOST_RENDERED = 4_000_000
_HEAD = (
    "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
    "<Name>b</Name><Prefix>{prefix}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys>"
    "<EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>{token}"
)
_ENTRY = (
    "<Contents><Key>img/%05d/photo-%09d.jpg</Key><LastModified>2026-01-02T03:%02d:%02d.000Z</LastModified>"
    "<ETag>&quot;%032x&quot;</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


def key_of(number: int) -> str:
    return f"img/{number // FOLDER:05d}/photo-{number:09d}.jpg"


def size_of(number: int) -> int:
    return 16_384 + number % 97


def at_or_behind(key: str, count: int) -> int:
    """Number of the first key that is not before this one."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if key_of(middle) < key:
            low = middle + 1
        else:
            high = middle
    return low


def entries(begin: int, end: int) -> str:
    cells: list[int] = []
    for n in range(begin, end):
        cells += (n // FOLDER, n, n // 60 % 60, n % 60, n, size_of(n))
    return _ENTRY * (end - begin) % tuple(cells)


class Rendered:
    """The entries of the first so many keys, written out, and where each begins."""

    def __init__(self, count: int) -> None:
        self.begins = array("Q", [0])
        whole = bytearray()
        for begin in range(0, count, PAGE):
            text = entries(begin, min(begin + PAGE, count)).encode()
            at = len(whole)
            for one in text.split(_END)[:-1]:
                at += len(one) + len(_END)
                self.begins.append(at)
            whole += text
        self.whole = memoryview(bytes(whole))

    def part(self, begin: int, end: int) -> memoryview:
        """What `entries` gives."""
        return self.whole[self.begins[begin] : self.begins[end]]


#: Nothing, until the server has written them out.
rendered = Rendered(0)


def page(begin: int, count: int, *, prefix: str = "", most: int = PAGE) -> bytes:
    end = min(begin + most, count)
    more = end < count
    token = f"<NextContinuationToken>{end}</NextContinuationToken>" if more else ""
    head = _HEAD.format(prefix=escape(prefix), count=end - begin, more=str(more).lower(), token=token)
    if begin < end < len(rendered.begins):
        return b"".join((head.encode(), rendered.part(begin, end), b"</ListBucketResult>"))
    return (head + entries(begin, end) + "</ListBucketResult>").encode()


def folders(begin: int, count: int, *, prefix: str, most: int) -> bytes:
    """A page by `delimiter=/`: what stands below a folder is named once."""
    found: list[str] = []
    while begin < count and len(found) < most:
        rest = key_of(begin)[len(prefix) :]
        if "/" in rest:
            below = prefix + rest[: rest.index("/") + 1]
            found.append(f"<CommonPrefixes><Prefix>{below}</Prefix></CommonPrefixes>")
            begin = at_or_behind(below + "\U0010ffff", count)
        else:
            found.append(entries(begin, begin + 1))
            begin += 1
    more = begin < count
    token = f"<NextContinuationToken>{begin}</NextContinuationToken>" if more else ""
    head = _HEAD.format(prefix=escape(prefix), count=len(found), more=str(more).lower(), token=token)
    return (head + "".join(found) + "</ListBucketResult>").encode()


def answer(target: str, count: int) -> bytes:
    """The page that a request asks for."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
    prefix = query.get("prefix", "")
    begin = at_or_behind(prefix, count)
    end = at_or_behind(prefix + "\U0010ffff", count) if prefix else count
    if "continuation-token" in query:
        begin = int(query["continuation-token"])
    elif "start-after" in query:
        begin = max(begin, at_or_behind(query["start-after"] + "\0", count))
    most = min(PAGE, int(query.get("max-keys", PAGE)))
    make = folders if query.get("delimiter") == "/" else page
    return make(begin, end, prefix=prefix, most=most)


async def serve(count: int, delay_ms: float) -> None:
    global rendered  # noqa: PLW0603 -- this process is the server
    if count <= MOST_RENDERED:
        rendered = Rendered(count)

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = answer(head.split(b" ", 2)[1].decode(), count)
                if delay_ms:
                    await asyncio.sleep(delay_ms / 1000)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n"
                    % len(body)
                )
                writer.write(body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
