"""Columns that change in the middle of a file: what is behind the line that names them is read by them."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import orjson
import pytest

from scheduler.logs.checkpoint import Checkpoint
from scheduler.logs.collect import Collector, Recent, Tally
from scheduler.logs.consumer import Consumer, InputSpec
from scheduler.logs.filters import make_filter
from scheduler.logs.formats import envelope, gcs
from scheduler.logs.formats.catalog import FORMATS
from scheduler.logs.formats.detect import detect
from scheduler.logs.place import Place

if TYPE_CHECKING:
    from pathlib import Path

SITE = make_filter(Place(bucket="site"))


def iis(fields: str, *lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"#Fields: {fields}", *lines)).encode()


def cloudfront(fields: str, *rows: tuple[str, ...]) -> bytes:
    return "".join(f"{line}\n" for line in (f"#Fields: {fields}", *("\t".join(row) for row in rows))).encode()


def usage(names: list[str], **cells: str) -> bytes:
    row = dict.fromkeys(names, "") | {"time_micros": "1", "cs_host": "storage.googleapis.com"} | cells
    return "".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in (names, row.values())).encode()


MISS = {"cs_method": "GET", "sc_status": "404", "cs_bucket": "site"}
OTHER_ORDER = ["time_micros", *reversed(gcs.DEFAULT_FIELDS[1:])]
OTHERS = ("12:00:02 80 404 /two GET", "12:00:03 80 200 /n GET")
BLOCKS = {
    "iis": (
        iis("time cs-method cs-uri-stem sc-status s-port", "12:00:01 GET /one 404 80"),
        iis("time s-port sc-status cs-uri-stem cs-method", *OTHERS),
    ),
    "cloudfront": (
        cloudfront("cs-uri-stem cs-uri-query sc-status", ("/one", "-", "404")),
        # By the columns before it, this would be the request of another object.
        cloudfront("cs-uri-query cs-uri-stem sc-status", ("/wrong", "/two", "404")),
    ),
    "gcs": (
        usage(list(gcs.DEFAULT_FIELDS), **MISS, cs_uri="/site/one"),
        usage(OTHER_ORDER, **MISS, cs_uri="/site/two"),
    ),
}  # fmt: skip


def read(line_format, *blocks: bytes) -> tuple[list[str], Tally]:
    tally = Tally()
    collector = Collector(line_format, SITE, tally=tally, recent=Recent(60.0))
    return [event.key for block in blocks for event in collector.read(block, now=0.0).events], tally


@pytest.mark.parametrize("name", BLOCKS)
def test_lines_are_read_by_the_columns_named_before_them(name):
    first, second = BLOCKS[name]
    found = detect(first)
    assert found is not None
    for blocks in ((first + second,), (first, second), (first + second + first,)):
        keys, tally = read(found.format, *blocks)
        assert keys[:2] == ["one", "two"]
        assert tally.broken == 0
        assert tally.lines == sum(block.count(b"\n") for block in blocks)
    keys, _ = read(FORMATS[name], second + first)
    assert keys == ["two", "one"], "a format that the operator named follows its file, too"


def test_columns_by_which_no_miss_can_be_found_make_every_line_broken_until_others_are_named():
    first, second = BLOCKS["cloudfront"]
    useless = cloudfront("cs-uri-query cs-uri-stem", ("/wrong", "404"), ("/a", "404"))
    keys, tally = read(FORMATS["cloudfront"], first + useless, b"/b\t404\n" + second)
    assert keys == ["one", "two"]
    assert tally.broken == 3
    assert "#Fields has no sc-status" in tally.samples[0].reason
    assert "cs-uri-query cs-uri-stem" in tally.samples[0].line


def test_a_request_that_only_looks_like_such_a_line_changes_nothing():
    first, _ = BLOCKS["iis"]
    hostile = b"#Fields: 404 x\r\n".replace(b"#Fields", b"12:00:02 GET /#Fields")
    keys, tally = read(FORMATS["iis"], first + hostile + b"12:00:03 GET /two 404 80\r\n")
    assert keys == ["one", "two"]
    assert tally.broken == 1


@pytest.mark.parametrize("name", ["iis", "cloudfront", "gcs", "nginx"])
@pytest.mark.parametrize("inside", [False, True])
def test_files_of_one_kind_have_one_format_so_that_nothing_is_remembered_for_each(name, inside):
    nginx = b'h - - [28/Nov/2026:10:00:00 +0000] "GET /one HTTP/1.1" 404 1 "-" "-"\n'
    block = nginx if name == "nginx" else BLOCKS[name][0]
    if inside:
        block = b"".join(orjson.dumps({"log": line.decode()}) + b"\n" for line in block.splitlines())
    one, other = detect(block), detect(block)
    assert one is not None
    assert other is not None
    assert one.format is other.format


def test_the_same_request_by_other_columns_is_no_repeat():
    fields = ("x-host-header cs-uri-stem sc-status", "cs(Host) cs-uri-stem sc-status")
    blocks = [cloudfront(one, ("h", "/one", "404")) for one in fields]
    assert read(FORMATS["cloudfront"], *blocks)[0] == ["one", "one"]


def test_columns_inside_json_lines_are_followed():
    wrapped = [
        b"".join(b'{"log":"%s"}\n' % line.replace(b'"', b'\\"') for line in block.splitlines())
        for name in ("iis", "gcs")
        for block in BLOCKS[name]
    ]
    assert read(envelope.EnvelopeFormat(FORMATS["iis"]), *wrapped[:2])[0] == ["one", "two"]
    assert read(envelope.EnvelopeFormat(FORMATS["gcs"]), *wrapped[2:])[0] == ["one", "two"]


class Kept:
    """A sink that keeps what it is given."""

    waiting_for = ""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    async def deliver(self, events, deletions):
        self.events += [(event.bucket, event.key) for event in events]
        return {"accepted": len(events)}


def consume(directory: Path, *specs: InputSpec) -> list[tuple[str, str]]:
    sink = Kept()
    checkpoint = Checkpoint(directory / "checkpoint.json")
    with checkpoint.hold():
        consumer = Consumer(specs, sink=sink, checkpoint=checkpoint, once=True, packed=True)
        asyncio.run(consumer.run(asyncio.Event()))
    return sink.events


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("fresh", ["start", "end"])
@pytest.mark.parametrize("name", BLOCKS)
def test_whoever_goes_on_in_the_middle_of_a_file_knows_the_columns_named_last(name, fresh, packed, tmp_path):
    first, second = BLOCKS[name]
    later = second.splitlines(keepends=True)[1].replace(b"/two", b"/three")
    path = tmp_path / "access.log"
    write = (lambda data: path.write_bytes(gzip.compress(data))) if packed else path.write_bytes
    write(first + second)
    spec = InputSpec(path=str(path), format=None, filter=SITE, fresh=fresh)
    keys = [key for _, key in consume(tmp_path, spec)]
    if packed or fresh == "start":
        assert keys == ["one", "two"]
    with path.open("ab") as file:
        file.write(gzip.compress(later) if packed else later)
    assert [key for _, key in consume(tmp_path, spec)] == ["three"]


def test_the_same_request_in_the_logs_of_two_buckets_is_a_miss_of_each(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(
            b'1.2.3.4 - - [21/Nov/2026:03:56:35 +0000] "GET /one HTTP/1.1" 404 9 "-" "x"\n' * 2
        )
    specs = [
        InputSpec(
            path=str(tmp_path / name), format=None, filter=make_filter(Place(bucket=name)), fresh="start"
        )
        for name in ("a", "b")
    ]
    assert consume(tmp_path, *specs) == [("a", "one"), ("b", "one")]
