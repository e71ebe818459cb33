"""Inventory sources that need no server."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import hashlib
import json
from types import SimpleNamespace

import pytest

from scheduler.scan.inventory import SOURCES, open_source
from scheduler.scan.inventory.entry import Collation, Entry
from scheduler.scan.inventory.manifest import ManifestBroken, read
from scheduler.scan.inventory.sorting import read_sorted, sort_to_file
from workers.errors import ConfigError

MD5 = hashlib.md5(b"x").hexdigest()
MD5_BASE64 = base64.b64encode(hashlib.md5(b"x").digest()).decode()


def manifest(tmp_path, text, name="list.txt", **options):
    path = tmp_path / name
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return list(read(path, shown=str(path), **options))


async def collected(inventory, tmp_path):
    services = SimpleNamespace(settings=SimpleNamespace(data_dir=tmp_path))
    return [entry async for entry in open_source(inventory, services=services)]


@pytest.mark.parametrize("name", ["keys.txt", "keys.txt.gz"])
def test_plain_lines_are_keys_or_urls_decoded_once(tmp_path, name):
    text = "a b.txt\r\n/lead.txt\nhttp://o.example/d/a%20b%2525.txt?v=1\nhttps://o.example//x\n\n中/é.txt\n"
    keys = [entry.key for entry in manifest(tmp_path, text, name)]
    assert keys == ["a b.txt", "lead.txt", "d/a b%25.txt", "x", "中/é.txt"]


def test_p18_two_queries_of_one_path_are_the_same_key(tmp_path):
    keys = [entry.key for entry in manifest(tmp_path, "http://o/a?v=1\nhttp://o/a?v=2\n")]
    assert keys == ["a", "a"]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (f"key,size,md5\na,1,{MD5}\n", Entry("a", 1, f"md5:{MD5}")),
        (f"URL,Content-MD5,Size\nhttp://o/a,{MD5_BASE64},1\n", Entry("a", 1, f"md5:{MD5}")),
        (f"a,1,{MD5}\n", Entry("a", 1, f"md5:{MD5}")),
        ('"a,b ""q""",7\n', Entry('a,b "q"', 7)),
        (
            'key,etag,last_modified\na,"""x-2""",2026-01-01T00:00:00Z\n',
            Entry("a", None, "etag:x-2", 1767225600.0),
        ),
    ],
)
def test_csv_with_and_without_a_header(tmp_path, text, want):
    assert manifest(tmp_path, text, "list.csv") == [want]


def test_json_lines(tmp_path):
    text = (
        json.dumps({"key": "a", "size": 3, "mtime": 5}) + "\n" + json.dumps({"url": "http://o/b%2Bc"}) + "\n"
    )
    assert manifest(tmp_path, text) == [Entry("a", 3, None, 5.0), Entry("b+c")]


def test_tsv_of_storage_transfer(tmp_path):
    text = f"TsvHttpData-1.0\nhttp://o/a\t1\t{MD5_BASE64}\nhttp://o/b\n"
    assert manifest(tmp_path, text) == [Entry("a", 1, f"md5:{MD5}"), Entry("b")]


def test_httplist_of_ossimport(tmp_path):
    assert manifest(tmp_path, "http://o/aa/  bb c.jpg\nhttp://o/bb\tcc.jpg\n") == [
        Entry("bb c.jpg"),
        Entry("cc.jpg"),
    ]


@pytest.mark.parametrize(
    ("text", "name", "line", "what"),
    [
        (b"a\n\xff\xfe\n", "k.txt", 2, "not UTF-8"),
        ("key,size\na,1\nb,x\n", "k.csv", 3, "invalid literal"),
        ('{"key": "a"}\n{"key": \n', "k.jsonl", 2, "unexpected end|EOF|expect"),
        ('{"size": 1}\n', "k.jsonl", 1, "no key"),
        (f"key,md5\na,{MD5[:-1]}\n", "k.csv", 2, "neither hex nor base64"),
        ("http://o/\n", "k.txt", 1, "names no object"),
    ],
)
def test_a_broken_line_fails_with_file_and_line(tmp_path, text, name, line, what):
    with pytest.raises(ManifestBroken, match=rf"{name}:{line}: .*({what})"):
        manifest(tmp_path, text, name)


def test_a_cut_gzip_is_no_short_list(tmp_path):
    path = tmp_path / "k.gz"
    path.write_bytes(gzip.compress(("key\n" * 5000).encode())[:-12])
    with pytest.raises(ManifestBroken):
        list(read(path, shown="k.gz"))


async def test_a_directory_is_walked_with_odd_names(tmp_path):
    for name in ("a b+c%20.txt", "d/é", "d/e/.hidden"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"12")
    found = await collected({"directory": str(tmp_path / "in")}, tmp_path)
    assert sorted((entry.key, entry.size) for entry in found) == [
        ("a b+c%20.txt", 2),
        ("d/e/.hidden", 2),
        ("d/é", 2),
    ]


async def test_rclone_lsf_lines(tmp_path):
    path = tmp_path / "lsf"
    path.write_text(f"3;a;b.txt;{MD5}\n-1;dir/;\n7;c;\n")
    found = await collected({"rclone_lsf": str(path), "format": "sph"}, tmp_path)
    assert found == [Entry("a;b.txt", 3, f"md5:{MD5}"), Entry("c", 7)]


async def test_s3_inventory_csv_takes_latest_versions_only(tmp_path):
    rows = 'b,a%20b.txt,true,false,5,"e-1"\nb,old,false,false,5,x\nb,gone,true,true,,\n'
    body = gzip.compress(rows.encode())
    (tmp_path / "part.csv.gz").write_bytes(body)
    record = {
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, IsLatest, IsDeleteMarker, Size, ETag",
        "files": [{"key": "inv/data/part.csv.gz", "MD5checksum": hashlib.md5(body).hexdigest()}],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    found = await collected({"s3_inventory": str(tmp_path / "manifest.json")}, tmp_path)
    assert found == [Entry("a b.txt", 5)]
    (tmp_path / "part.csv.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(ManifestBroken, match="MD5"):
        await collected({"s3_inventory": str(tmp_path / "manifest.json")}, tmp_path)


@pytest.mark.parametrize(
    ("inventory", "what"),
    [
        ({}, "found nothing"),
        ({"manifst": "x"}, "found 'manifst'"),
        ({"manifest": "/nowhere/list"}, "No such file"),
        ({"manifest": "/nowhere", "formt": "csv"}, "unknown option 'formt'"),
        ({"directory": "/nowhere"}, "no such directory"),
        ({"sitemap": "x"}, r"no http\(s\) URL"),
        ({"http_index": "x"}, r"no http\(s\) URL"),
        ({"rclone_lsf": "/nowhere"}, "No such file"),
        ({"s3_inventory": "/nowhere"}, "No such file"),
    ],
)
async def test_a_wrong_source_is_a_configuration_error(tmp_path, inventory, what):
    with pytest.raises(ConfigError, match=what):
        await collected(inventory, tmp_path)


def test_every_source_is_a_module():
    import importlib

    for module in SOURCES.values():
        assert callable(importlib.import_module(f"scheduler.scan.inventory.{module}").entries)


@pytest.mark.parametrize("collation", list(Collation))
async def test_sorting_outside_memory_keeps_every_field_and_resumes_behind_a_key(tmp_path, collation):
    entries = [
        Entry("k/a-1", 5, "md5:00", 1.5),
        Entry("k/a/2"),
        Entry("中", 0, None, 2.0),
        Entry("a;b c\\", 1),
        Entry("k/a", 7),
    ]

    async def stream():
        for entry in entries:
            yield entry

    path = await sort_to_file(stream(), collation, directory=tmp_path)
    place = (lambda key: key) if collation is Collation.BYTES else (lambda key: key.replace("/", "\x01"))
    want = sorted(entries, key=lambda entry: place(entry.key))
    assert list(read_sorted(path, order=collation)) == want
    for at, entry in enumerate(want):
        assert list(read_sorted(path, after=entry.key, order=collation)) == want[at + 1 :]


def test_the_time_of_a_manifest_without_zone_is_utc(tmp_path):
    found = manifest(tmp_path, "key,mtime\na,2026-01-01 00:00:00\n", "k.csv")
    assert found[0].mtime == dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()
