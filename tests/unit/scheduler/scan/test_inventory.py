"""Inventory sources that need no server."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import hashlib
import json
import os
from types import SimpleNamespace

import pytest

from scheduler.scan.compare.sorted_file import read_blocks
from scheduler.scan.compare.sorting import Sorter
from scheduler.scan.inventory.entry import Collation, Columns, Entry, order_of
from scheduler.scan.inventory.manifest import ManifestBroken, read
from scheduler.scan.inventory.opening import SOURCES, open_source
from scheduler.scan.inventory.sitemap import w3c_time
from scheduler.scan.inventory.walk import Unread, Walk, shown
from support.scan.free_control import FreeControl
from workers.errors import ConfigError

MD5 = hashlib.md5(b"x").hexdigest()
MD5_BASE64 = base64.b64encode(hashlib.md5(b"x").digest()).decode()


def manifest(tmp_path, text, name="list.txt", **options):
    path = tmp_path / name
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return list(read(path, shown=str(path), **options))


async def collected(inventory, tmp_path):
    services = SimpleNamespace(settings=SimpleNamespace(data_dir=tmp_path), control=FreeControl())
    return [entry async for block in open_source(inventory, services=services) for entry in block]


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
        ("key,size\na,1\nb,x\n", "k.csv", 3, "size 'x' is no whole number of bytes"),
        ("key,size\na,-1\n", "k.csv", 2, "size '-1' is no whole number"),
        ("key,size\na,1.5\n", "k.csv", 2, "size '1.5' is no whole number"),
        ("key,size\na,b.jpg,5\n", "k.csv", 2, "3 cells where 2 are expected"),
        ("file,bytes\na,1\n", "k.csv", 1, "a header with one of key, url"),
        ('key,size\n"a,1\nb,2\nc,3\n', "k.csv", 4, "a quote left open. This row begins in line 2"),
        ("key,mtime\na,yesterday\n", "k.csv", 2, "neither Unix seconds nor ISO 8601"),
        ("key,mtime\na,nan\n", "k.csv", 2, "is no time"),
        ('{"key": "a"}\n[1]\n', "k.jsonl", 2, "one JSON object a line"),
        ('{"key": 5}\n', "k.jsonl", 1, "is no text"),
        ('{"key": "a", "size": [1]}\n', "k.jsonl", 1, "no whole number"),
        ('{"key": "a", "size": true}\n', "k.jsonl", 1, "no whole number"),
        ('{"key": "a", "etag": "x\\ty"}\n', "k.jsonl", 1, "characters that no ETag has"),
        ('[{"key": "a"}]\n', "k.json", 1, "a JSON array"),
        ("key\n".encode("utf-16"), "k.csv", 1, "UTF-16; UTF-8 is expected"),
        ("http://o/ a\nhttp://o/b\n", "k.txt", 2, "a URL, white space and a name"),
        ("ok\nhttp://[::1/x\n", "k.txt", 2, "IPv6"),
        ('{"key": "a"}\n{"key": \n', "k.jsonl", 2, "unexpected end|EOF|expect"),
        ('{"size": 1}\n', "k.jsonl", 1, "no key"),
        (f"key,md5\na,{MD5[:-1]}\n", "k.csv", 2, "neither hex nor base64"),
        ("http://o/\n", "k.txt", 1, "names no object"),
    ],
)
def test_a_broken_line_fails_with_file_and_line(tmp_path, text, name, line, what):
    with pytest.raises(ManifestBroken, match=rf"{name}:{line}: .*({what})"):
        manifest(tmp_path, text, name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("\ufeffa\nb\n", "k.txt"),
        ("\ufeffkey,size\r\na,\r\nb,\r\n", "k.csv"),
        ('\ufeff"key","size"\na,\nb,\n', "k.csv"),
        ('\ufeff{"key": "a"}\n{"key": "b"}\n', "k.jsonl"),
        ("key;size\na;\nb;\n", "k.csv"),
        ("size\tkey\n\ta\n\tb\n", "k.txt"),
    ],
)
def test_marks_of_byte_order_and_other_separators_are_no_part_of_a_key(tmp_path, text, name):
    assert manifest(tmp_path, text, name) == [Entry("a"), Entry("b")]


@pytest.mark.parametrize(
    ("text", "name"), [("", "k.txt"), ("", "k.csv"), ("key,size\n", "k.csv"), ("\n\n", "k")]
)
def test_an_empty_list_names_nothing(tmp_path, text, name):
    assert manifest(tmp_path, text, name) == []


def test_a_damaged_gzip_is_told_with_its_file(tmp_path):
    path = tmp_path / "k.gz"
    path.write_bytes(gzip.compress(bytes(range(97, 122)) * 500)[:40] + b"zzzz")
    with pytest.raises(ManifestBroken, match=r"k\.gz:0: "):
        list(read(path, shown="k.gz"))


@pytest.mark.parametrize(
    ("line", "options", "what"),
    [
        (b"a\ncaf\xe9\n", {}, "2: not UTF-8"),
        (b"1;a\n-3;b\n", {"format": "sp"}, "2: size '-3'"),
        (b"zz;a\n", {"format": "hp"}, "1: md5 'zz' is neither hex nor base64"),
    ],
)
async def test_a_broken_line_of_rclone_fails_with_file_and_line(tmp_path, line, options, what):
    path = tmp_path / "lsf"
    path.write_bytes(line)
    with pytest.raises(ManifestBroken, match=f"lsf:{what}"):
        await collected({"rclone_lsf": str(path), **options}, tmp_path)


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
        ({"manifest": "/nowhere", "strip_prefix": 5}, "strip_prefix 5: a text"),
        ({"rclone_lsf": "/nowhere", "format": "pp"}, "format 'pp'"),
        ({"rclone_lsf": "/nowhere", "separator": ""}, "separator: it cannot be empty"),
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
        source = importlib.import_module(f"scheduler.scan.inventory.{module}")
        assert callable(getattr(source, "blocks", None) or source.entries)


SORTABLE = [
    Entry("k/a-1", 5, "md5:00", 1.5),
    Entry("k/a/2"),
    Entry("中", 0, None, 2.0),
    Entry("a;b c\\", 1),
    Entry("k/a", 7),
]


def sorted_file(tmp_path, collation, *entry_blocks):
    sorter = Sorter(tmp_path / "inventory", collation)
    for block in entry_blocks:
        sorter.add(block)
    return sorter.finish()


def entries_of(blocks):
    return [entry for block in blocks for entry in block.items]


@pytest.mark.parametrize("collation", list(Collation))
@pytest.mark.parametrize("in_order", [True, False])
def test_sorting_outside_memory_keeps_every_field_and_resumes_behind_a_key(tmp_path, collation, in_order):
    place = order_of(collation)
    want = sorted(SORTABLE, key=lambda entry: place(entry.key))
    given = want if in_order else SORTABLE
    found = sorted_file(tmp_path, collation, given[:2], given[2:])
    assert (found.keys, found.duplicates) == (5, 0)
    assert entries_of(read_blocks(found.path, collation)) == want
    for at, entry in enumerate(want):
        assert entries_of(read_blocks(found.path, collation, after=entry.key)) == want[at + 1 :]
    assert [file.name for file in tmp_path.iterdir()] == ["inventory"]


def test_a_key_that_is_named_again_is_kept_once_as_it_was_named_first(tmp_path):
    found = sorted_file(tmp_path, Collation.BYTES, [Entry("b", 1), Entry("a")], [Entry("b", 2)])
    assert (found.keys, found.duplicates) == (2, 1)
    assert entries_of(read_blocks(found.path, Collation.BYTES)) == [Entry("a"), Entry("b", 1)]


def test_an_aborted_sort_leaves_nothing_behind(tmp_path):
    for given in ([Entry("a")], [Entry("b"), Entry("a")]):
        sorter = Sorter(tmp_path / "inventory", Collation.BYTES)
        sorter.add(given)
        sorter.abort()
        assert list(tmp_path.iterdir()) == []


def test_columns_are_the_entries_they_were_made_of():
    columns = Columns(["a", "b"], ["1", ""], None, ["1.5", "2.0"])
    assert list(columns) == [Entry("a", 1, None, 1.5), Entry("b", None, None, 2.0)]
    assert list(columns[1:]) == [Entry("b", None, None, 2.0)]
    assert columns.sizes == ["1", ""]
    assert Columns(["a"], None, None, None).sizes is None


def test_the_time_of_a_manifest_without_zone_is_utc(tmp_path):
    found = manifest(tmp_path, "key,mtime\na,2026-01-01 00:00:00\n", "k.csv")
    assert found[0].mtime == dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()


async def test_no_secret_of_a_manifests_address_is_in_its_error(tmp_path):
    place = "http://me:hidden@127.0.0.1:9/list.csv?sig=hidden"
    with pytest.raises(ManifestBroken, match=r"^http://127\.0\.0\.1:9/list\.csv: ") as caught:
        await collected({"manifest": place}, tmp_path)
    assert "hidden" not in str(caught.value)


async def test_keys_of_an_s3_inventory_that_are_not_utf8_stay_apart_and_a_short_row_is_told(tmp_path):
    def report(rows):
        (tmp_path / "part.csv.gz").write_bytes(gzip.compress(rows.encode()))
        record = {"fileFormat": "CSV", "fileSchema": "Bucket, Key, Size", "files": [{"key": "part.csv.gz"}]}
        (tmp_path / "manifest.json").write_text(json.dumps(record))
        return collected({"s3_inventory": str(tmp_path / "manifest.json")}, tmp_path)

    found = await report("b,X%FF,1\nb,X%FE,2\n")
    assert [shown(entry.key) for entry in found] == ["X%FF", "X%FE"]
    with pytest.raises(ManifestBroken, match=r"part\.csv\.gz: a row of 2 cells where 3 are expected"):
        await report("b,a\n")


async def test_a_directory_that_cannot_be_read_is_named_and_the_walk_goes_on(tmp_path, monkeypatch):
    for path in ("a/x", "b/y"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(b"x")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("scheduler.scan.inventory.directory.os.scandir", refusing)
    walk = Walk()
    services = SimpleNamespace(settings=None)
    source = open_source({"directory": str(tmp_path)}, services=services, walk=walk)
    assert [entry.key async for block in source for entry in block] == ["b/y"]
    assert walk.unread == [Unread(str(tmp_path / "a"), "Permission denied")]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("2026", 1767225600.0),
        ("2026-02", 1769904000.0),
        ("2026-01-01", 1767225600.0),
        ("2026-01-01T00:00+01:00", 1767222000.0),
        ("2026-01-01T00:00:00Z", 1767225600.0),
        ("", None),
        ("1767225600", None),
        ("2026-13", None),
        ("soon", None),
    ],
)
def test_a_lastmod_may_be_a_year_and_is_no_unix_time(text, want):
    assert w3c_time(text) == want
