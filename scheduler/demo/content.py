"""The sample origin's files: a few hundred, of several kinds, the same at every run.

Owns names, bytes and the headers they are served with. Nothing is random: the same tree comes out everywhere.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The one that does not fit one part: multipart at the store.
LARGE_KEY = "video/film.mp4"
LARGE_BYTES = 60 * 1024 * 1024
#: Served slowly, to show that the first byte does not wait for the last.
SLOW_KEY = "live/slow.bin"
SLOW_BYTES = 2 * 1024 * 1024
#: Left to the scan: nobody asks for these.
ARCHIVE_PREFIX = "archive/"
#: Names that break tools which decode once too often, or not at all.
ODD_NAMES = (
    "names/with space.txt",
    "names/plus+sign.txt",
    "names/100%.txt",
    "names/a b.txt",
    "names/a+b.txt",
    "names/a%20b.txt",
    "names/straße-über.html",
    "names/日本語.txt",
    "names/c'est (ça) & co; =,@$!*.txt",
    "names/nfc-\u00e9.txt",
    "names/nfd-e\u0301.txt",
    "names/no-extension",
    "names/empty.txt",
)

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".gz": "application/gzip",
    ".mp4": "video/mp4",
    ".bin": "application/octet-stream",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One file of the sample origin."""

    key: str
    path: Path
    size: int
    #: Sent with it, beside what every answer has.
    headers: tuple[tuple[str, str], ...]


def make_content(root: Path) -> dict[str, Sample]:
    """Write the whole tree below `root`; the samples by key."""
    samples: dict[str, Sample] = {}
    for key, body in _bodies():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        samples[key] = Sample(key=key, path=path, size=len(body), headers=_headers(key))
    return samples


def _headers(key: str) -> tuple[tuple[str, str], ...]:
    suffix = key[key.rfind(".") :] if "." in key.rsplit("/", 1)[-1] else ""
    headers = [("Content-Type", _TYPES.get(suffix, "application/octet-stream"))]
    if key.startswith("data/packed-"):
        headers.append(("Content-Encoding", "gzip"))
    if key.startswith("img/"):
        headers.append(("Cache-Control", "max-age=86400"))
    if key.startswith("downloads/"):
        headers.append(("Content-Disposition", f'attachment; filename="{key.rsplit("/", 1)[-1]}"'))
    return tuple(headers)


def _bodies() -> Iterator[tuple[str, bytes]]:
    yield "index.html", _page("Sample site", [f"pages/page-{n:03}.html" for n in range(60)])
    for n in range(60):
        yield f"pages/page-{n:03}.html", _page(f"Page {n}", [f"img/icon-{n % 80:03}.png"])
    for n in range(80):
        yield f"img/icon-{n:03}.png", _png(16 + n, n)
    for n in range(8):
        yield f"img/shape-{n}.svg", _svg(n)
    for n in range(4):
        yield (
            f"assets/style-{n}.css",
            b"".join(b".c%d { margin: %dpx; }\n" % (i, i % 40) for i in range(200 * n + 5)),
        )
        yield (
            f"assets/app-{n}.js",
            b"".join(b"export const v%d = %d;\n" % (i, i * n) for i in range(300 * n + 5)),
        )
    for n in range(20):
        rows = [{"id": i, "name": f"row {i}", "value": i * n} for i in range(20 * n)]
        yield f"data/table-{n:02}.json", json.dumps(rows).encode()
        # Stored as it travels: packed bytes, with their Content-Encoding.
        yield f"data/packed-{n:02}.json", gzip.compress(json.dumps(rows).encode(), 6, mtime=0)
    for n in range(6):
        yield f"downloads/release-{n}.tar.gz", gzip.compress(_noise(n, 40_000 * (n + 1)), 1, mtime=0)
    for name in ODD_NAMES:
        yield name, b"" if name.endswith("empty.txt") else f"the object named {name}\n".encode()
    for n in range(100):
        yield f"{ARCHIVE_PREFIX}{1990 + n // 10}/letter-{n:03}.txt", _noise(n, 2000 + 37 * n).hex().encode()
    yield SLOW_KEY, _noise(7, SLOW_BYTES)
    yield LARGE_KEY, _noise(1, LARGE_BYTES)


def _page(title: str, links: list[str]) -> bytes:
    items = "".join(f'<li><a href="/{link}">{link}</a></li>\n' for link in links)
    return f"<!doctype html>\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n{items}</ul>\n".encode()


def _svg(n: int) -> bytes:
    circles = "".join(f'<circle cx="{i * 9}" cy="{i * n}" r="{i}"/>' for i in range(20))
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 200">{circles}</svg>\n'.encode()


def _noise(seed: int, size: int) -> bytes:
    """Bytes that do not compress, from a seed."""
    return hashlib.shake_128(b"ferryman demo %d" % seed).digest(size)


def _png(side: int, seed: int) -> bytes:
    """A real picture: `side` pixels square, a gradient."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(
        b"\0" + bytes(v for x in range(side) for v in ((x * 3 + seed) % 256, (y * 5) % 256, (x ^ y) % 256))
        for y in range(side)
    )
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 6))
        + chunk(b"IEND", b"")
    )
