"""The comparison, in stretches and columns, beside one key at a time; and from any of its checkpoints."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.scan.compare import compare
from scheduler.scan.compare.compare import Comparison, Groups, Selection, difference
from scheduler.scan.compare.listing import _block
from scheduler.scan.compare.sorted_file import read_blocks
from scheduler.scan.compare.sorting import Sorter
from scheduler.scan.inventory.bucket import columns_of
from scheduler.scan.inventory.entry import Collation, Entry, order_of
from scheduler.scan.record.state import ScanOptions
from workers.store.model import ListedColumns, ListedObject

KEY = st.text(st.sampled_from("ab/-.é中😀"), min_size=1, max_size=4)
MD5 = st.sampled_from(["0" * 32, "f" * 32])
TIME = st.sampled_from([0.0, 1.5, 1767225600.0])
ENTRY = st.builds(
    Entry,
    KEY,
    st.none() | st.integers(0, 3),
    st.none() | MD5.map("md5:".__add__) | st.just("sha256:ab") | st.just("etag:x"),
    st.none() | TIME,
)
LISTED = st.builds(ListedObject, KEY, st.integers(0, 3), MD5 | st.sampled_from(["", "x-2", "F" * 32]), TIME)
COMPARE = st.sampled_from([(), ("size",), ("digest",), ("size", "digest"), ("size", "digest", "mtime")])
FILTERS = st.sampled_from(
    [{}, {"include": ("a",)}, {"exclude": ("b$",)}, {"min_size": 1}, {"max_age_days": 1}]
)


def iso(seconds):
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else "never"


def listing(objects, collation, size, as_columns):
    for at in range(0, len(objects), size):
        some = objects[at : at + size]
        if as_columns:
            keys, sizes, etags, times = zip(*some, strict=True)
            some = ListedColumns(list(keys), list(map(str, sizes)), list(etags), list(map(iso, times)))
        yield _block(some, collation, None)


def one_by_one(entries, objects, options, selection):
    """What is said of each key, the plain way."""
    there, said = {one.key: one for one in objects}, {}
    for entry in entries:
        listed = there.get(entry.key)
        if not selection.wants(entry):
            said[entry.key] = "excluded"
        elif listed is None:
            said[entry.key] = "missing"
        else:
            said[entry.key] = difference(entry, listed, options.compare) or "present"
    return said, len(there.keys() - said.keys())


@settings(max_examples=250, deadline=None)
@given(
    entries=st.lists(ENTRY, max_size=25),
    objects=st.lists(LISTED, max_size=25, unique_by=lambda one: one.key),
    both=st.lists(LISTED, max_size=25, unique_by=lambda one: one.key),
    collation=st.sampled_from([Collation.BYTES, Collation.PATH]),
    how=st.tuples(COMPARE, FILTERS, st.booleans(), st.integers(1, 9), st.integers(1, 9), st.integers(1, 60)),
)
def test_every_key_is_judged_as_by_itself_and_once_whatever_the_windows(
    tmp_path_factory, entries, objects, both, collation, how
):
    what, filters, as_columns, page, window_pairs, n_bytes = how
    options = ScanOptions(bucket="b", inventory={}, compare=what, **filters)
    selection = Selection(options, now=1767225600.0)
    place = order_of(collation)
    # Some stand on both sides, mostly the same; a key that is named twice counts as it was named first.
    entries = [*entries, *columns_of(both)]
    objects = sorted({one.key: one for one in [*both, *objects]}.values(), key=lambda one: place(one.key))
    kept = list({entry.key: entry for entry in reversed(entries)}.values())
    said, extra = one_by_one(kept, objects, options, selection)

    path = tmp_path_factory.mktemp("c") / "f"
    sorter = Sorter(path, collation)
    for at in range(0, len(entries), 7):
        sorter.add(entries[at : at + 7])
    sorter.finish()
    found, counts, extras, after = {}, Counter(), 0, None
    ended = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scheduler.scan.compare.sorted_file._READ_BYTES", n_bytes)
        patch.setattr(compare, "WINDOW_PAIRS", window_pairs)
        patch.setattr(compare, "STRETCH", 3)
        while not ended:
            # Each window is another coordinator's, which goes on behind the key of the last.
            rest = [one for one in objects if after is None or place(one.key) > place(after)]
            window = Comparison(
                read_blocks(path, collation, after=after),
                listing(rest, collation, page, as_columns),
                options=options,
                selection=selection,
                groups=Groups(),
                watched=[one.key for one in objects[:2]],
                collation=collation,
            ).next_window()
            news = {entry.key: "missing" for _, entry in window.missing}
            news |= {entry.key: reason for _, entry, _, reason in window.differs}
            news |= dict.fromkeys(window.excluded, "excluded")
            assert not news.keys() & found.keys()
            found |= news
            counts += window.counts
            extras += window.extra
            ended = window.ended
            after = window.last_key or after
            for _, entry, listed, _ in window.differs:
                assert listed in objects
                assert listed.key == entry.key
    assert found == {key: word for key, word in said.items() if word != "present"}
    assert extras == extra
    by_group = Counter()
    for key, word in said.items():
        group = Groups().of(key)
        by_group[group, "found"] += 1
        by_group[group, word] += 1
    assert {group: number for (group, name), number in by_group.items() if name == "found"} == {
        group: number for (group, name), number in counts.items() if name == "found"
    }
    for name in ("present", "excluded"):
        assert sum(n for (_, of), n in counts.items() if of == name) == sum(
            n for (_, of), n in by_group.items() if of == name
        )
    assert all(place(one.key) < place(other.key) for one, other in pairwise(objects))


def test_a_page_whose_sizes_are_written_otherwise_is_no_difference():
    options = ScanOptions(bucket="b", inventory={}, compare=("size",))
    listed = ListedColumns(["a", "b"], ["007", "8"], ["e", "e"], ["", ""])
    window = Comparison(
        listing([Entry("a", 7), Entry("b", 9)], Collation.BYTES, 5, as_columns=False),
        iter([_block(listed, Collation.BYTES, None)]),
        options=options,
        selection=Selection(options, now=0),
        groups=Groups(),
    ).next_window()
    assert [(entry.key, reason) for _, entry, _, reason in window.differs] == [("b", "size")]
