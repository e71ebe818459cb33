"""A synthetic S3 bucket for benchmarks: ListObjectsV2 over keys that are made while they are listed.

    python bench/listing_server.py COUNT        prints the port it got

It takes every signature for good.
"""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import parse_qs, urlsplit

PAGE = 1_000
FOLDER = 10_000
_HEAD = (
    "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
    "<Name>b</Name><Prefix></Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys>"
    "<EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>{token}"
)


def key_of(number: int) -> str:
    return f"img/{number // FOLDER:05d}/photo-{number:09d}.jpg"


def size_of(number: int) -> int:
    return 16_384 + number % 97


def page(begin: int, count: int) -> bytes:
    end = min(begin + PAGE, count)
    more = end < count
    token = f"<NextContinuationToken>{end}</NextContinuationToken>" if more else ""
    entries = "".join([
        f"<Contents><Key>{key_of(n)}</Key>"
        f"<LastModified>2026-01-02T03:{n // 60 % 60:02d}:{n % 60:02d}.000Z</LastModified>"
        f"<ETag>&quot;{n:032x}&quot;</ETag><Size>{size_of(n)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for n in range(begin, end)
    ])  # fmt: skip
    head = _HEAD.format(count=end - begin, more=str(more).lower(), token=token)
    return (head + entries + "</ListBucketResult>").encode()


async def serve(count: int) -> None:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                query = parse_qs(urlsplit(head.split(b" ", 2)[1].decode()).query)
                body = page(int(query.get("continuation-token", ["0"])[0]), count)
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
    asyncio.run(serve(int(sys.argv[1])))
