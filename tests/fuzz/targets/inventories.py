"""Lists of what an origin has: manifests, S3 Inventory, rclone's lists, sitemaps, index pages."""

# ruff: noqa: E501 -- inputs and words of a format read best unbroken

from __future__ import annotations

import asyncio
import atexit
import csv
import functools
import gzip
import io
import shutil
import tempfile
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError

from fuzz.target import Target
from scheduler.rules.keys import KeyRefused
from scheduler.scan.inventory import rclone_lsf, s3_inventory, sitemap
from scheduler.scan.inventory.index_page import read_html, read_json
from scheduler.scan.inventory.locations import Location
from scheduler.scan.inventory.manifest import ManifestBroken, read
from workers.errors import ConfigError

if TYPE_CHECKING:
    from scheduler.scan.inventory.entry import Entry

_HERE = Location("http://o.example", "/files/a/")
_PARQUET = Path(__file__).parents[2] / "data" / "parquet"


@functools.cache
def _place() -> Path:
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder, "list")


def _file_of(data: bytes) -> Path:
    """One file, written anew for each input: making and removing one would cost more than most readers."""
    _place().write_bytes(data)
    return _place()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """One loop, and with it one thread that reads files, for all inputs."""
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


def _checked(entry: Entry) -> None:
    assert isinstance(entry.key, str)
    assert entry.size is None or entry.size >= 0
    assert entry.mtime is None or entry.mtime == entry.mtime
    assert entry.digest is None or entry.digest.isprintable()


def _manifest(data: bytes) -> None:
    for entry in read(_file_of(data), shown="list"):
        _checked(entry)


def _manifest_as(data: bytes) -> None:
    form, _, rest = data.partition(b"\n")
    name = {b"0": "plain", b"1": "csv", b"2": "jsonl", b"3": "tsv", b"4": "httplist"}.get(form, "find0")
    for entry in read(_file_of(rest), shown="list", form=name, strip="a/"):
        _checked(entry)


def _lsf(data: bytes) -> None:
    place = _file_of(data)
    for letters in ("p", "sp", "tshp"):
        try:
            for entry in rclone_lsf._read(place, letters, ";"):
                _checked(entry)
        except ManifestBroken:
            continue


def _s3_csv(data: bytes) -> None:
    body = data if data[:2] == b"\x1f\x8b" else gzip.compress(data, 1, mtime=0)
    for names in (
        ["Bucket", "Key"],
        ["Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", "Size", "LastModifiedDate", "ETag"],
    ):
        try:
            for entry in s3_inventory._latest(s3_inventory._csv(body, names)):
                _checked(entry)
        except (ValueError, KeyError, OSError, EOFError, zlib.error, csv.Error):
            continue


def _s3_parquet(data: bytes) -> None:
    for entry in s3_inventory._latest(s3_inventory._parquet(data, [])):
        _checked(entry)


def _s3_manifest(data: bytes) -> None:
    _loop().run_until_complete(_read_manifest(str(_file_of(data))))


async def _read_manifest(place: str) -> None:
    async for _ in s3_inventory.blocks(place, {}, None, None):
        pass


def _sitemap(data: bytes) -> None:
    for one in sitemap._parsed(data):
        assert isinstance(one.location, str)
        assert one.changed is None or one.changed == one.changed


def _page(data: bytes, *, json: bool) -> None:
    charset, _, body = data.partition(b"\n")
    listed = read_json(_HERE, body) if json else read_html(_HERE, body, charset.decode("latin-1") or None)
    for one in listed:
        one.target.url.encode("ascii")
        _checked(one.entry)


_PACKED = io.BytesIO()
with gzip.GzipFile(fileobj=_PACKED, mode="wb", mtime=0) as _file:
    _file.write(b"key,size,md5\na/b,3,900150983cd24fb0d6963f7d28e17f72\n")
_URLSET = (
    b'<?xml version="1.0" encoding="UTF-8"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url>'
    b"<loc>http://o.example/a?b&amp;c</loc><lastmod>2026-11-21T03:56:35+02:00</lastmod></url></urlset>"
)
_HTML = (
    b'<html><head><title>Index of /files/a/</title></head><body><h1>Index of /files/a/</h1><pre><a href="../">../</a>\n'
    b'<a href="b%20c.jpg">b c.jpg</a>   21-Nov-2026 03:56   12345\n<a href="d/">d/</a>  21-Nov-2026 03:56  -\n</pre></body></html>'
)
_APACHE = (
    b'<table><tr><th><a href="?C=N;O=D">Name</a></th></tr><tr><td><a href="/files/">Parent Directory</a></td></tr><tr><td>'
    b'<a href="a-long-name.jpg">a-long-na..&gt;</a></td><td align="right">2026-11-21 03:56</td><td>1.2K</td></tr></table>'
)

TARGETS = (
    Target(
        name="manifests",
        read=_manifest,
        seeds=(
            b"a/b\nc d\nhttp://o.example/e%20f\n", b"key,size,md5\na,1,900150983cd24fb0d6963f7d28e17f72\n", b"a;b\nkey;size\n",
            b'{"key":"a","size":1,"mtime":"2026-11-21T03:56:35Z"}\n', b"TsvHttpData-1.0\nhttp://o.example/a\t1\tkAFQmDzST7DWlj99KOF/cg==\n",
            b"http://o.example/ a b\n", b"12 1795233395.5 a/b\x003 1 c\x00", _PACKED.getvalue(), b'"a\nb",3\n', b"\xef\xbb\xbfkey\tsize\na\t1\n",
        ),
        words=(b"\x1f\x8b\x08", b"key,size\n", b"url;bytes\n", b"TsvHttpData-1.0\n", b'"', b'{"key":', b"\xff\xfe", b"http://[", b"\x00"),
        refuses=(ManifestBroken, ConfigError),
    ),
    Target(
        name="manifests-of-a-format",
        read=_manifest_as,
        seeds=(
            b"0\na/b\n", b'1\nkey,size,last_modified,e_tag\na,1,2026-11-21,"x-2"\n', b'2\n{"key":"a","sha256":"00"}\n', b"3\nx\na\t1\t\n",
            b"4\nhttp://o.example/ a\n", b"5\n12 1.5 a\x00",
        ),
        words=(b"mtime", b"1e308", b"-inf", b"nan", b"crc32c", b"0001-01-01", b"9999-12-31T23:59:59-23:59", b"http://[::1", b"%00"),
        refuses=(ManifestBroken,),
    ),
    Target(
        name="rclone-lists",
        read=_lsf,
        seeds=(b"a/b\nc/\n", b"12;a;b\n-1;c\n", b"2026-11-21 03:56:35;3;900150983cd24fb0d6963f7d28e17f72;a\n"),
        words=(b";;", b"0001-01-01 00:00:00", b"9999-12-31 23:59:59"),
    ),
    Target(
        name="s3-inventories",
        read=_s3_csv,
        seeds=(b'"site","a%20b"\n', b'"site","a","v1","true","false","3","2026-11-21T03:56:35.000Z","900150983cd24fb0d6963f7d28e17f72"\n'),
        words=(b'","', b'"true"', b"%FF", b'""', b"\x1f\x8b\x08\x00", b"0001-01-01"),
    ),
    Target(
        name="s3-inventories-parquet",
        read=_s3_parquet,
        needs="pyarrow",
        seeds=tuple(path.read_bytes() for path in sorted(_PARQUET.glob("*.parquet"))),
        words=(b"PAR1", b"PARE", b"\x15\x00", b"\x15\x02", b"\x15\x80\x80\x80\x80\x10", b"\x19\x0c", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x08"),
        refuses=(ValueError, OSError),
    ),
    Target(
        name="s3-inventory-manifests",
        read=_s3_manifest,
        seeds=(
            b'{"fileFormat":"CSV","fileSchema":"Bucket, Key, Size","files":[{"key":"x/data/a.csv.gz","size":1,"MD5checksum":"00"}]}',
            b'{"fileFormat":"Parquet","fileSchema":"message s3.inventory {}","files":[]}',
        ),
        words=(b'"files":', b'"key":"../..', b'"size":-1', b"1e400", b"\\u0000", b"null", b'"fileFormat":"ORC"', b"[", b"{"),
        refuses=(ManifestBroken, ConfigError),
    ),
    Target(
        name="sitemaps",
        read=_sitemap,
        seeds=(
            _URLSET, b"<sitemapindex><sitemap><loc>http://o.example/b.xml.gz</loc></sitemap></sitemapindex>",
            b"http://o.example/a\nhttps://o.example/b\n", gzip.compress(_URLSET, mtime=0),
        ),
        words=(b"<url>", b"<loc>", b"<lastmod>", b"0001", b"9999-12", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"encoding='utf-7'", b"<!--"),
        refuses=(ValueError, EOFError, OSError, zlib.error, ParseError, DefusedXmlException, LookupError),
    ),
    Target(
        name="index-pages",
        read=partial(_page, json=False),
        seeds=(b"\n" + _HTML, b"utf-8\n" + _APACHE, b"latin-1\n<a href=b>b</a><a href='&copy=1'>x</a><base href=/c/><input type=password>"),
        words=(b"<a href=", b"<!", b"<![", b"<![CDATA[", b"<!--", b"<!doctype ", b"<?", b"</", b"<base href=", b"<meta charset=", b"&#x110000;",
               b"http://[", b"//", b"?C=", b"<title>", b"idna\n", b"utf-16\n", b"hex\n", b"punycode\n", b"utf-7\n", b"unicode_escape\n",
               b"<script>", b"<textarea>", b"<![if", b"<!ELEMENT"),
        refuses=(ValueError, KeyRefused),
    ),
    Target(
        name="index-pages-json",
        read=partial(_page, json=True),
        seeds=(
            b'\n[{"name":"a b","type":"file","mtime":"Sat, 21 Nov 2026 03:56:35 GMT","size":12},{"name":"d","type":"directory"}]',
        ),
        words=(b'"name":', b'"type":"directory"', b'"size":-1', b"..", b"/", b"http://"),
        refuses=(ValueError,),
    ),
)  # fmt: skip
