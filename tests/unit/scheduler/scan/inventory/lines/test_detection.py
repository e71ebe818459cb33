"""Which format a manifest has, and when nobody can say."""

from __future__ import annotations

import gzip
import subprocess

import pytest

from scheduler.commands.scan import MANIFEST_FORMATS
from scheduler.scan.inventory.entry import Entry
from scheduler.scan.inventory.lines.detection import detect
from scheduler.scan.inventory.manifest import FORMATS, ManifestBroken, read


def entries(tmp_path, body, name="list", **options):
    path = tmp_path / name
    raw = body.encode() if isinstance(body, str) else body
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return list(read(path, shown=str(path), **options))


@pytest.mark.parametrize(
    ("text", "name", "form"),
    [
        ("", "k", "plain"),
        ("", "k.csv", "csv"),
        ("a.txt\nb c.txt\n", "k", "plain"),
        ("https://o/docs/my report.pdf\nhttps://o/docs/other.pdf\n", "k", "plain"),
        ("https://o/docs/other.pdf\nhttps://o/docs/my report.pdf\n", "k", "plain"),
        ("https://o/docs/ a.pdf\nhttps://o/img/  b c.pdf\n", "k", "httplist"),
        ("https://o/docs\ta.pdf\n", "k", "httplist"),
        ("\n\nkey,size\na,1\n", "k", "csv"),
        ('\n{"key": "a"}\n', "k", "jsonl"),
        ("  \nTsvHttpData-1.0\nhttp://o/a\n", "k", "tsv"),
        ("a,1.txt\nb,2.txt\n", "k", "plain"),
        ("a,1\nb.txt\n", "k", "plain"),
        ("{curly}.txt\nb\n", "k", "plain"),
        ("name of a file\nb\n", "k", "plain"),
        ("5 a.txt\n12 b.txt\n", "k", "plain"),
        ("2024\n12 b.txt\n", "k", "plain"),
    ],
)
def test_a_format_is_told_from_more_than_the_first_line(text, name, form):
    assert detect(text.splitlines(keepends=True), name) == form


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("https://o/docs/my report.pdf\nhttps://o/docs/your report.pdf\n", "plain or httplist"),
        ("https://o/docs/ a.pdf\nhttps://o/docs/my report.pdf\n", "httplist or plain"),
        ("a,1\nb,2\n", "csv or plain"),
        ("a.txt;7;2026-01-01\n", "csv or plain"),
        ("Files of the site\nkey,size\na,1\n", "csv or plain"),
        ("key\na\nb\n", "csv or plain"),
        ('list\n{"key": "a"}\n', "jsonl or plain"),
        ("<!DOCTYPE html>\n<html>\n", "HTML or XML"),
        ('<?xml version="1.0"?><urlset/>\n', "--source sitemap=URL"),
        ("d41d8cd98f00b204e9800998ecf8427e  a.txt\n", "md5sum"),
        ("2026-01-01 10:00:00        123 a.txt\n", "aws s3 ls"),
        ("      123 2026-01-01 10:00:00.000000000 a.txt\n", "rclone lsl"),
        ("-rw-r--r-- 1 me me 3 Jan  1 10:00 a.txt\n", "ls -l"),
        ("123 1700000000.5 a.txt\n", "cannot break"),
        ("total 8\n-rw-r--r-- 1 me me 3 Jan  1 10:00 a.txt\n", "ls -l"),
        ("-rw-r--r-- me/me         3 2026-01-01 10:00 a.txt\n", "tar -tv"),
        ("        5 a.txt\n     1234 dir/b c.txt\n", "rclone ls`"),
        ("[2026-01-01 10:00:00 UTC]     5B STANDARD a.txt\n[2026-01-01 10:00:00 CET] 1.2KiB d/b\n", "mc ls"),
        ("         5  2026-01-01T10:00:00Z  gs://b/a.txt\nTOTAL: 1 objects, 5 bytes (5 B)\n", "gsutil ls -l"),
        ("   131073      4 -rw-r--r--   1 me  me  3 Jan  1 10:00 ./a.txt\n", "find -ls"),
        ("4\t./a.txt\n12\t./d\n", "du -a"),
        ("s3://site/a.txt\ns3://site/b.txt\n", "URLs that are not HTTP"),
    ],
)
def test_when_it_is_not_sure_it_stops_and_names_the_candidates(text, what):
    with pytest.raises(ValueError, match=what):
        detect(text.splitlines(keepends=True), "list.txt")


def test_a_named_format_is_taken_as_it_is(tmp_path):
    assert entries(tmp_path, "a,1\nb,2\n", form="csv") == [Entry("a", 1), Entry("b", 2)]
    assert entries(tmp_path, "a,1\nb,2\n", form="plain") == [Entry("a,1"), Entry("b,2")]
    text = "https://o/docs/my report.pdf\n"
    assert entries(tmp_path, text, form="plain") == [Entry("docs/my report.pdf")]
    with pytest.raises(ManifestBroken, match=r"list:1: not sure what this is .* plain or httplist"):
        entries(tmp_path, text)


@pytest.mark.parametrize(
    "text", ["\n\nkey,size\na,1\n", "\r\n \r\nkey,size\r\na,1\r\n", '\n{"key": "a", "size": 1}\n']
)
def test_blank_lines_before_a_header_are_passed_over(tmp_path, text):
    assert entries(tmp_path, text) == [Entry("a", 1)]


def test_a_line_behind_blank_ones_is_told_by_its_own_number(tmp_path):
    with pytest.raises(ManifestBroken, match="list:5: size 'x'"):
        entries(tmp_path, "\n\nkey,size\na,1\nb,x\n")


@pytest.mark.parametrize("strip", ["img", "img/", "/img", "/img/"])
def test_what_is_cut_from_the_front_leaves_no_slash(tmp_path, strip):
    text = "img/a.txt\n/img/b.txt\nhttps://o/img/c.txt\nother/d.txt\n"
    keys = [entry.key for entry in entries(tmp_path, text, strip=strip)]
    assert keys == ["a.txt", "b.txt", "c.txt", "other/d.txt"]


@pytest.mark.parametrize("name", ["files", "files.gz"])
def test_records_of_find_hold_every_name_that_a_file_can_have(tmp_path, name):
    site = tmp_path / "site"
    names = [
        b"a,b;c\t.csv",
        b" lead and trail ",
        b"d/new\nline",
        b'd/"quote',
        b"X\xff",
        b"X\xfe",
        "中 é".encode(),
    ]
    for number, one in enumerate(names):
        path = site / one.decode("utf-8", "surrogateescape")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * number)
    printed = subprocess.run(
        ["find", ".", "-type", "f", "-printf", r"%s %T@ %P\0"], cwd=site, stdout=subprocess.PIPE, check=True
    ).stdout
    found = {
        entry.key.encode("utf-8", "surrogateescape"): entry for entry in entries(tmp_path, printed, name)
    }
    assert {key: entry.size for key, entry in found.items()} == {one: at for at, one in enumerate(names)}
    stat = (site / "中 é").stat()
    assert found["中 é".encode()].mtime == pytest.approx(stat.st_mtime)


@pytest.mark.parametrize(
    ("body", "options", "what"),
    [
        (b"1 5.0 a\x002 6.0 b", {}, "record 2: it is not ended by NUL: is the file cut"),
        (b"1 5.0 a\x00b\x00", {}, "record 2: 'b'|record 2: b'b': size, mtime and path"),
        (b"a\x00b\x00", {}, "NUL bytes, but not as find"),
        (b"k\x00e\x00y\x00", {}, "is it text in UTF-8"),
        (b"1 5.0 a\n2 6.0 b\n", {"form": "find0"}, "record 1: it is not ended by NUL"),
        (b"x" * 2_000_000, {"form": "find0"}, "record 1: no NUL within 65536 bytes"),
    ],
)
def test_what_is_no_record_of_find_fails_with_its_number(tmp_path, body, options, what):
    with pytest.raises(ManifestBroken, match=what):
        entries(tmp_path, body, **options)


def test_the_command_line_offers_every_format():
    assert MANIFEST_FORMATS == FORMATS
