"""Lines that are read thousands at a time say what a reader of single lines says, errors included."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.rules.keys import KeyRefused
from scheduler.scan.inventory import manifest
from scheduler.scan.inventory.entry import Columns, Entry
from scheduler.scan.inventory.lines import columns, rows
from scheduler.scan.inventory.manifest import ManifestBroken, read_blocks

KEY = st.text(st.sampled_from("ab/.é中 \t;0"), max_size=5)
ODD = st.sampled_from(
    ["/a", "http://h/a%20b", "https://h/c", '"q,1"', '"a\nb"', '"', "a\rb", "\x00", "x,y", "h" * 1100, "",
     "\ufeffz"]
)  # fmt: skip
SIZE = st.integers(0, 10**6).map(str)
ODD_SIZE = st.sampled_from(["", "007", "0", "00", "-1", "x", "٣", "1 ", '"5"', "9" * 25, "1,2"])


@st.composite
def lines(draw):
    """CSV or plain text, mostly regular, cut anywhere."""
    form = draw(st.sampled_from(["plain", "csv"]))
    by = draw(st.sampled_from([",", ";", "\t"]))
    end = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    head = draw(st.sampled_from([["key", "size"], ["size", "key"], ["key", "x", "size"], ["key", "md5"], []]))
    out = [] if form == "plain" or not head else [by.join(head)]
    for _ in range(draw(st.integers(0, 12))):
        odd = draw(st.integers(0, 14)) == 0
        key = draw(ODD if odd else KEY.map(lambda key: "k" + key))
        size = draw(ODD_SIZE if draw(st.integers(0, 14)) == 0 else SIZE)
        cells = {"key": key, "size": size, "x": draw(st.sampled_from(["", "u", "7"])), "md5": ""}
        line = key if form == "plain" else by.join(cells[name] for name in head or ["key", "size"])
        out.append(line if draw(st.integers(0, 19)) else draw(st.sampled_from(["", line + by, line[:1]])))
    return form, end.join(out) + draw(st.sampled_from(["", end]))


def one_by_one(form, text):
    """(entries, the error's words) as line by line."""
    found = []
    numbered = manifest.Lines(io.BytesIO(text.encode()))
    try:
        found += (rows.plain if form == "plain" else rows.separated)(numbered, "")
    except (ValueError, KeyRefused, csv.Error) as error:
        return found, f"m:{numbered.number}: {rows.explained(error)} (read as {form})"
    return found, None


@settings(max_examples=300, deadline=None)
@given(lines(), st.integers(1, 40))
def test_many_lines_at_a_time_are_each_line_by_itself(tmp_path_factory, given_lines, n_bytes):
    form, text = given_lines
    path = tmp_path_factory.mktemp("m") / "m"
    path.write_bytes(text.encode())
    found, error = [], None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "_READ_BYTES", n_bytes)
        patch.setattr(manifest, "_BLOCK", 1)
        try:
            for block in read_blocks(path, shown="m", form=form):
                found += block
        except ManifestBroken as broken:
            error = str(broken)
    assert (found, error) == one_by_one(form, text)


def test_what_is_plain_is_read_in_columns_and_what_is_not_is_left(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("size;key\n" + "".join(f"{n};k{n}\n" for n in range(9)) + '9;"k9"\n10;k10\n')
    blocks = list(read_blocks(path, shown="m"))
    assert [entry for block in blocks for entry in block] == [Entry(f"k{n}", n) for n in range(11)]
    path.write_text("size;key\n" + "".join(f"{n};k{n}\n" for n in range(9)))
    (block,) = read_blocks(path, shown="m")
    assert isinstance(block, Columns)
    # One cell too few and one too many, so that the whole has as many as it should.
    assert columns.separated("a\n5,b,6\n", ",", width=2, key_at=0, size_at=1) is None


def test_an_error_behind_many_plain_lines_names_its_own_line(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("key,size\n" + "".join(f"k{n},1\n" for n in range(100_000)) + "z,x\n")
    with pytest.raises(ManifestBroken, match=r"^m:100002: size 'x' is no whole number"):
        list(read_blocks(path, shown="m"))


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.text(min_size=1), min_size=1, max_size=3)),
        min_size=1,
        max_size=4,
    )
)
def test_columns_one_after_the_other_are_their_entries_one_after_the_other(parts):
    some = [
        Columns(keys, [str(n) for n, _ in enumerate(keys)] if sized else None, None, None)
        for sized, keys in parts
    ]
    assert list(columns.joined(some)) == [entry for part in some for entry in part]
