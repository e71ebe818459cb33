"""Odd input of an inventory is told in words of the inventory, never in those of a library or of Python."""

from __future__ import annotations

import gzip
import hashlib
import json
from types import SimpleNamespace

import httpx
import pytest

from scheduler.scan.inventory import sitemap
from scheduler.scan.inventory.index_page import read_html, read_json
from scheduler.scan.inventory.locations import location
from scheduler.scan.inventory.manifest import ManifestBroken, read
from scheduler.scan.inventory.opening import open_source
from support.scan.free_control import FreeControl
from workers.errors import ConfigError

HERE = location("http://o.example/d/")
LISTING = "<title>Index of /d/</title><pre>{}</pre>"


async def entries(inventory, tmp_path):
    services = SimpleNamespace(settings=SimpleNamespace(data_dir=tmp_path), control=FreeControl())
    return [entry async for block in open_source(inventory, services=services) for entry in block]


def s3_inventory(tmp_path, rows, **manifest):
    body = gzip.compress(rows.encode())
    (tmp_path / "d.csv.gz").write_bytes(body)
    files = [{"key": "x/d.csv.gz", "MD5checksum": hashlib.md5(body).hexdigest()}]
    whole = {"fileFormat": "CSV", "fileSchema": "Bucket, Key, Size", "files": files, **manifest}
    (tmp_path / "manifest.json").write_text(json.dumps(whole))
    return {"s3_inventory": str(tmp_path / "manifest.json")}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('"b","a","5"\n"b","c"\n', "a row of 2 cells where 3 are expected (Bucket, Key, Size), in line 2"),
        ('"b","a","5","x"\n', "a row of 4 cells where 3 are expected (Bucket, Key, Size), in line 1"),
        ('"b","a","five"\n', "size 'five' is no whole number of bytes"),
    ],
)
async def test_a_row_of_an_s3_inventory_that_is_none_is_named_with_its_line(tmp_path, rows, message):
    with pytest.raises(ManifestBroken) as caught:
        await entries(s3_inventory(tmp_path, rows), tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"fileSchema": "Bucket, Size"}, "has no Key"),
        ({"fileSchema": None}, "fileFormat, fileSchema and files"),
        ({"files": None}, "fileFormat, fileSchema and files"),
    ],
)
async def test_a_manifest_of_an_s3_inventory_that_is_none_is_refused(tmp_path, manifest, message):
    with pytest.raises(ConfigError) as caught:
        await entries(s3_inventory(tmp_path, "", **manifest), tmp_path)
    assert message in str(caught.value)
    assert "NoneType" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"), [("a.txt", "b\nhttp://[::1/a\n"), ("a.csv", "key,size\nhttp://[::1/a,5\n")]
)
def test_a_line_with_a_broken_url_is_named(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ManifestBroken, match=r":2: 'http://\[::1/a' is no URL"):
        list(read(path, shown=name))


@pytest.mark.parametrize("source", ["sitemap", "http_index"])
async def test_a_start_that_is_no_url_is_refused_by_its_name(tmp_path, source):
    with pytest.raises(ConfigError, match=rf"{source}: 'http://\[::1/x' is no http\(s\) URL"):
        await entries({source: "http://[::1/x"}, tmp_path)


def test_a_loc_that_is_no_url_does_not_end_the_reading_of_its_sitemap():
    body = b"<urlset><url><loc>http://[::1/</loc></url><url><loc>http://o/a</loc></url></urlset>"
    assert [one.location for one in sitemap._parsed(body)] == ["http://[::1/", "http://o/a"]


@pytest.mark.parametrize("charset", [None, "gbk"])
def test_an_index_page_in_gbk_is_read(charset):
    page = '<meta charset="GBK">' + LISTING.format('<a href="../">../</a>\n<a href="中.txt">中.txt</a>\n')
    paths = [one.target.path for one in read_html(HERE, page.encode("gbk"), charset)]
    assert "/d/%E4%B8%AD.txt" in paths


def test_a_date_that_there_is_not_says_nothing_about_its_file():
    page = LISTING.format('<a href="a">a</a>   31-Feb-2020 10:00    12\n')
    (one,) = read_html(HERE, page.encode(), None)
    assert (one.entry.size, one.entry.mtime) == (12, None)
    (one,) = read_json(HERE, b'[{"name": "a", "type": "file", "mtime": "yesterday", "size": 3}]')
    assert (one.entry.size, one.entry.mtime) == (3, None)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_sitemap_as_text_is_one_url_a_line(end):
    body = f"\ufeffhttp://o/a%20b{end}{end}http://o/b c.txt{end}".encode()
    assert [one.location for one in sitemap._parsed(body)] == ["http://o/a%20b", "http://o/b c.txt"]
    with pytest.raises(ValueError, match="line 2: 'login first'; in a sitemap as text each line is a URL"):
        sitemap._parsed(b"http://o/a\nlogin first\n")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx.Response(404), "http://o/s.xml: status 404"),
        (httpx.Response(200, text='{"a": 1}'), "no XML"),
        (
            httpx.Response(200, text='<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><urlset>&e;</urlset>'),
            "it declares a document type or an entity of its own (EntitiesForbidden); none is read",
        ),
    ],
    ids=["status", "json", "entity"],
)  # fmt: skip
async def test_why_an_answer_is_no_sitemap_is_one_line_in_our_words(answer, message):
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer)) as client:
        with pytest.raises(ManifestBroken) as caught:
            body = await sitemap._fetched(client, "http://o/s.xml", FreeControl())
            await sitemap._read("http://o/s.xml", body)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "developer.mozilla.org" not in str(caught.value)
