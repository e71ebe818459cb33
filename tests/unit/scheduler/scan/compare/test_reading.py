"""Entries in columns are sorted, counted and refused as single ones are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.scan.compare.compare import Groups, Selection
from scheduler.scan.compare.reading import Reading
from scheduler.scan.inventory.entry import Collation, Columns, Entry
from scheduler.scan.record.state import ScanOptions

KEY = st.text(st.sampled_from("ab/é"), min_size=1, max_size=4) | st.sampled_from(
    ["", "a\tb", "a/../b", ".ferryman/x", "a/.ferryman/x", "a" * 1100, "a\udcff", "é" * 600]
)
ENTRY = st.builds(
    Entry, KEY, st.none() | st.integers(0, 9), st.none() | st.just("md5:0"), st.none() | st.just(1.5)
)


def columns(entries):
    return Columns(
        [entry.key for entry in entries],
        ["" if entry.size is None else str(entry.size) for entry in entries],
        [entry.digest or "" for entry in entries],
        ["" if entry.mtime is None else repr(entry.mtime) for entry in entries],
    )


def read(path, blocks, collation, prefix):
    options = ScanOptions(bucket="b", inventory={}, exclude=("b$",))
    reading = Reading(
        path, collation, of="x", prefix=prefix, selection=Selection(options, now=0), groups=Groups()
    )
    for block in blocks:
        reading.take(block)
    found = reading.finish()
    said = (found.keys, found.digest, reading.read, reading.duplicates, reading.counts)
    return said, reading.refused, reading.excluded, path.read_bytes()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(ENTRY, max_size=6), max_size=4),
    st.sampled_from([Collation.BYTES, Collation.PATH]),
    st.sampled_from(["", "a", "a/"]),
)
def test_columns_are_read_as_their_entries_are(tmp_path_factory, blocks, collation, prefix):
    folder = tmp_path_factory.mktemp("r")
    one_by_one = read(folder / "f", blocks, collation, prefix)
    at_once = read(folder / "f", [columns(block) for block in blocks], collation, prefix)
    assert at_once == one_by_one
