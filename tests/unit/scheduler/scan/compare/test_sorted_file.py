"""A sorted file says what it is, and is read as nothing else."""

from __future__ import annotations

import pytest

from scheduler.scan.compare.sorted_file import Header, NotThisFile, read_blocks, read_header
from scheduler.scan.compare.sorting import Sorter, in_order
from scheduler.scan.inventory.entry import Collation, Entry

ENTRIES = [Entry("slow/n1", 1), Entry("slow-er/n1", 2), Entry("#ferryman-sorted x", 3)]


def written(path, collation, entries=ENTRIES, of="run 1"):
    sorter = Sorter(path, collation, of=of)
    sorter.add(entries)
    return sorter.finish()


def keys(path, collation, **more):
    return [entry.key for block in read_blocks(path, collation, **more) for entry in block.items]


def test_another_order_is_refused_and_sorted_anew_in_its_place(tmp_path):
    path = tmp_path / "f"
    written(path, Collation.PATH)
    assert read_header(path) == Header(collation=Collation.PATH, of="run 1")
    with pytest.raises(NotThisFile, match="sorted by path, asked for by bytes"):
        keys(path, Collation.BYTES)
    assert keys(path, Collation.PATH) == ["#ferryman-sorted x", "slow/n1", "slow-er/n1"]
    for collation in (Collation.NONE, Collation.NONE, Collation.PATH):
        in_order(path, collation)
        assert sorted(keys(path, collation)) == sorted(entry.key for entry in ENTRIES)
        assert [file.name for file in tmp_path.iterdir()] == ["f"]
    in_order(path, Collation.NONE)
    assert keys(path, Collation.BYTES) == ["#ferryman-sorted x", "slow-er/n1", "slow/n1"]
    assert read_header(path).of == "run 1"


def test_other_contents_than_asked_for_are_refused(tmp_path):
    path = tmp_path / "f"
    found = written(path, Collation.BYTES)
    assert len(keys(path, Collation.BYTES, of="run 1", keys=found.keys)) == 3
    with pytest.raises(NotThisFile, match="holds run 1, not run 2"):
        keys(path, Collation.BYTES, of="run 2")
    with pytest.raises(NotThisFile, match="3 entries, and 4 were written"):
        keys(path, Collation.BYTES, keys=4)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"a\t\t\t\n", b"#ferryman-sorted {}\n", b"#ferryman-sorted [1]\na\t\t\t\n",
        b'#ferryman-sorted {"format":2,"collation":"bytes","of":""}\n',
        b'#ferryman-sorted {"format":1,"collation":"none","of":1}\n',
        b'#ferryman-sorted {"format":1,"collation":"bytes","of":""}',
        b"#ferryman-sorted {\n",
    ],
)  # fmt: skip
def test_a_file_of_another_version_or_none_of_ours_is_refused(tmp_path, body):
    path = tmp_path / "f"
    path.write_bytes(body)
    for use in (read_header, lambda path: keys(path, Collation.BYTES), lambda path: in_order(path, "path")):
        with pytest.raises(NotThisFile):
            use(path)


@pytest.mark.parametrize(
    ("collation", "lines"),
    [
        (Collation.BYTES, b"slow\x01n0001\t\t\t\n"), (Collation.PATH, b"slow/n0001\t\t\t\n"),
        (Collation.BYTES, b"a\t\t\t\nb\t\t\n"), (Collation.BYTES, b"a\t\t\t\nb\t\t\t"),
    ],
)  # fmt: skip
def test_a_place_is_never_taken_for_a_key_and_half_a_line_is_damage(tmp_path, collation, lines):
    path = tmp_path / "f"
    written(path, collation, [])
    with path.open("ab") as file:
        file.write(lines)
    with pytest.raises(NotThisFile, match="damaged near"):
        keys(path, collation)


def test_the_digest_is_that_of_the_entries_however_they_came(tmp_path):
    there = written(tmp_path / "a", Collation.BYTES, sorted(ENTRIES))
    back = written(tmp_path / "b", Collation.BYTES, sorted(ENTRIES, reverse=True), of="run 2")
    other = written(tmp_path / "c", Collation.BYTES, [*ENTRIES[:2], Entry("#ferryman-sorted x", 4)])
    assert there.digest == back.digest != other.digest
