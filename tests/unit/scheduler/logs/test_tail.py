"""Following files through everything that rotation does to them, on real files."""

from __future__ import annotations

import gzip
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from scheduler.logs.identity import family
from scheduler.logs.reading import MAX_LINE_BYTES, FileReader, GzipReader
from scheduler.logs.tail import Tail
from workers.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """A monotonic clock that only moves when told."""

    def __init__(self):
        self.now = 100.0

    def past_linger(self):
        self.now += 1000


def drain(tail: Tail, clock: Clock, *, accept=True, limit=1 << 20) -> list[bytes]:
    """Every whole line there is now."""
    lines: list[bytes] = []
    while (chunk := tail.poll(limit, now=clock.now)) is not None:
        lines += chunk.data.splitlines()
        if accept:
            tail.accept(chunk)
    return lines


def append(path: Path, *lines: str, end="\n"):
    with path.open("a") as file:
        file.write("\n".join(lines) + end)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access.log"


def numbered(first, last):
    return [f"line {number:06d}" for number in range(first, last)]


def as_bytes(lines):
    return [line.encode() for line in lines]


def test_a_line_is_read_only_when_its_end_is_written(path, clock):
    append(path, "one", "two", end="")
    tail = Tail(path, from_start=True)
    assert drain(tail, clock) == [b"one"]
    append(path, " and more")
    assert drain(tail, clock) == [b"two and more"]


def test_a_file_without_checkpoint_is_followed_from_its_last_whole_line(path, clock):
    append(path, "old", "older", "half", end="")
    tail = Tail(path, from_start=False)
    assert drain(tail, clock) == []
    append(path, " done", "new")
    assert drain(tail, clock) == [b"half done", b"new"]


def test_a_file_that_appears_later_is_read_from_its_start(path, clock):
    tail = Tail(path, from_start=False)
    assert drain(tail, clock) == []
    append(path, "first")
    assert drain(tail, clock) == [b"first"]


def test_rename_rotation_reads_the_old_file_to_its_end_and_the_new_one_from_its_start(path, clock):
    append(path, *numbered(0, 3))
    tail = Tail(path, from_start=True)
    assert len(drain(tail, clock)) == 3
    old = path.rename(path.with_name("access.log.1"))
    append(old, "to the old file before the reopen")
    append(path, "to the new file")
    append(old, "to the old file after the new one was there")
    got = drain(tail, clock)
    assert sorted(got) == sorted(
        [
            b"to the old file before the reopen",
            b"to the old file after the new one was there",
            b"to the new file",
        ]
    )
    append(old, "late")
    assert drain(tail, clock) == [b"late"]
    assert tail.gaps == []


def test_the_old_file_is_let_go_when_its_writer_has_let_go(path, clock):
    append(path, "a")
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    old = path.rename(path.with_name("access.log.1"))
    append(old, "half a line", end="")
    append(path, "b")
    assert drain(tail, clock) == [b"b"]
    clock.past_linger()
    assert drain(tail, clock) == [b"half a line"], "its last line will never get an end"
    clock.past_linger()
    assert drain(tail, clock) == []
    assert len(tail.marks) == 1


def test_an_empty_file_that_is_rotated_away_is_not_waited_for(path, clock):
    path.touch()
    tail = Tail(path, from_start=True)
    assert drain(tail, clock) == []
    path.rename(path.with_name("access.log.1"))
    append(path, "new")
    assert drain(tail, clock) == [b"new"]


def test_copytruncate_reads_the_rest_from_the_copy(path, clock):
    append(path, *numbered(0, 100))
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    append(path, "unread before the truncation")
    shutil.copy(path, path.with_name("access.log.1"))
    os.truncate(path, 0)
    append(path, "after it")
    assert drain(tail, clock) == [b"unread before the truncation", b"after it"]
    assert tail.gaps == []


def test_copytruncate_is_noticed_when_the_file_has_grown_past_the_old_offset(path, clock):
    append(path, *numbered(0, 10))
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    shutil.copy(path, path.with_name("access.log.1"))
    os.truncate(path, 0)
    append(path, *numbered(500, 600))
    assert drain(tail, clock) == as_bytes(numbered(500, 600))


def test_truncation_without_a_copy_is_a_gap_in_bytes(path, clock):
    append(path, *numbered(0, 10))
    tail = Tail(path, from_start=True)
    chunk = tail.poll(1 << 20, now=clock.now)
    tail.accept(chunk)
    append(path, "x" * 50)
    tail._current.accepted = tail._current.reader.mark()  # the size was seen, the line was not read
    os.truncate(path, 0)
    append(path, "after")
    assert drain(tail, clock) == [b"after"]
    assert [(gap.bytes, "truncated" in gap.reason) for gap in tail.gaps] == [(51, True)]


def packed(path):
    copy = path.with_name("access.log.1.gz")
    copy.write_bytes(gzip.compress(path.read_bytes()))


def plain(path):
    shutil.copy(path, path.with_name("access.log.1"))


@pytest.mark.parametrize("copied", [plain, packed])
@pytest.mark.parametrize("lines", [1, 50], ids=["less than a head", "more than a tail"])
@pytest.mark.parametrize("read", [1, 500], ids=["a line behind the copy", "more than a tail behind the copy"])
def test_lines_read_between_copying_and_truncating_are_no_gap(path, clock, copied, lines, read):
    append(path, *numbered(0, lines))
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    copied(path)
    append(path, *numbered(1000, 1000 + read))
    assert drain(tail, clock) == as_bytes(numbered(1000, 1000 + read))
    marks = tail.marks
    os.truncate(path, 0)
    append(path, "after it")
    assert drain(tail, clock) == [b"after it"]
    assert tail.gaps == []
    if lines > 1:  # a shorter one cannot be told by the hash of its head
        again = resumed(path, marks)
        assert again.gaps == []
        again.close()


@pytest.mark.parametrize("other", ["longer than what was read", "of another file", "empty"])
def test_a_copy_of_something_else_does_not_hide_a_truncation(path, clock, other):
    append(path, *numbered(0, 50))
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    marks = tail.marks
    os.truncate(path, 0)
    copy = path.with_name("access.log.1")
    match other:
        case "longer than what was read":
            append(copy, *numbered(100, 200))
        case "of another file":
            append(copy, *numbered(0, 49), "another end")
        case "empty":
            copy.touch()
    append(path, "after it")
    drain(tail, clock)
    assert [gap.bytes for gap in tail.gaps] == [0]
    if other != "of another file":  # whose beginning is the same: a checkpoint knows no more than hashes
        assert [gap.bytes for gap in resumed(path, marks).gaps] == [0]


def test_lines_that_were_seen_behind_the_copy_and_never_read_are_a_gap(path, clock):
    append(path, *numbered(0, 50))
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    plain(path)
    append(path, "read", "x" * 50, end="")
    drain(tail, clock)  # the last line has no end yet
    os.truncate(path, 0)
    drain(tail, clock)
    assert [gap.bytes for gap in tail.gaps] == [50]


def test_a_replaced_file_is_read_from_its_start(path, clock, tmp_path):
    append(path, "a", "b")
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    other = tmp_path / "elsewhere"
    append(other, "c", "d")
    other.replace(path)
    assert drain(tail, clock) == [b"c", b"d"]


def resumed(path, marks, saved_at=0.0):
    return Tail(path, marks=marks, saved_at=saved_at, from_start=False)


def test_a_restart_goes_on_at_the_accepted_offset_and_repeats_what_was_not_accepted(path, clock):
    append(path, *numbered(0, 5))
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    append(path, *numbered(5, 8))
    drain(tail, clock, accept=False)
    append(path, *numbered(8, 9))
    assert drain(resumed(path, tail.marks), clock) == as_bytes(numbered(5, 9))


def test_a_restart_after_rename_finds_the_file_under_its_new_name(path, clock):
    append(path, *numbered(0, 5))
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    marks = tail.marks
    append(path, *numbered(5, 7))
    path.rename(path.with_name("access.log.1"))
    append(path, *numbered(7, 9))
    again = resumed(path, marks)
    assert drain(again, clock) == as_bytes(numbered(5, 9))
    assert again.gaps == []


def test_a_restart_after_two_rotations_reads_the_file_in_between_whole(path, clock):
    append(path, *numbered(0, 5))
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    marks, saved_at = tail.marks, path.stat().st_mtime
    append(path, *numbered(5, 7))
    path.rename(path.with_name("access.log.2"))
    middle = path.with_name("access.log.1")
    append(middle, *numbered(7, 9))
    os.utime(middle, (saved_at + 5, saved_at + 5))
    append(path, *numbered(9, 11))
    assert drain(resumed(path, marks, saved_at), clock) == as_bytes(numbered(5, 11))


def rotated_twice(path, numbers, rotate):
    """What came before, between and after two rotations, with times that are apart."""
    for at, name in enumerate(("access.log.2", "access.log.1")):
        append(path, *numbered(*numbers[at]))
        rotate(path, path.with_name(name))
        changed_at = path.with_name(name).stat().st_mtime + 5 + at
        os.utime(path.with_name(name), (changed_at, changed_at))
    append(path, *numbered(*numbers[2]))


def moved(path, to):
    path.rename(to)
    path.touch()


def copied(path, to):
    shutil.copy(path, to)
    os.truncate(path, 0)


@pytest.mark.parametrize("rotate", [moved, copied])
@pytest.mark.parametrize("read", [0, 60], ids=["nothing read", "much read"])
@pytest.mark.parametrize("restarted", [False, True], ids=["stood still", "restarted"])
def test_two_rotations_between_two_looks_lose_no_line(path, clock, rotate, read, restarted):
    append(path.with_name("access.log.9"), "long ago")
    os.utime(path.with_name("access.log.9"), (1, 1))
    path.touch()
    tail = Tail(path, from_start=True)
    if read:
        append(path, *numbered(0, read))
        assert drain(tail, clock) == as_bytes(numbered(0, read))
    rotated_twice(path, ((read, 70), (70, 80), (80, 90)), rotate)
    if restarted:
        tail = resumed(path, tail.marks, tail.seen_at)
    assert drain(tail, clock) == as_bytes(numbered(read, 90))
    clock.past_linger()
    assert drain(tail, clock) == []
    assert tail.gaps == []


def test_what_is_packed_after_its_rotation_is_not_read_again(path, clock):
    append(path, *numbered(0, 50))
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    path.rename(path.with_name("access.log.1"))
    append(path, *numbered(50, 60))
    assert drain(tail, clock) == as_bytes(numbered(50, 60))
    clock.past_linger()
    drain(tail, clock)
    old, packed = path.with_name("access.log.1"), path.with_name("access.log.2.gz")
    packed.write_bytes(gzip.compress(old.read_bytes()))
    old.unlink()
    later = path.stat().st_mtime + 5  # by a packer that does not keep the time of what it packs
    os.utime(packed, (later, later))
    append(path, *numbered(60, 70))
    os.utime(path, (later + 1, later + 1))
    assert drain(tail, clock) == as_bytes(numbered(60, 70))
    path.rename(path.with_name("access.log.1"))
    append(path, *numbered(70, 80))
    assert drain(tail, clock) == as_bytes(numbered(70, 80))
    assert drain(resumed(path, tail.marks, tail.seen_at), clock) == []


def test_a_restart_after_compression_reads_the_rest_from_the_gz(path, clock):
    append(path, *numbered(0, 2000))
    tail = Tail(path, from_start=True)
    chunk = tail.poll(10_000, now=clock.now)
    tail.accept(chunk)
    marks = tail.marks
    seen = chunk.data.splitlines()
    with gzip.open(path.with_name("access.log.1.gz"), "wb") as packed:
        packed.write(path.read_bytes())
    path.unlink()
    append(path, "new")
    again = resumed(path, marks)
    assert seen + drain(again, clock) == [*as_bytes(numbered(0, 2000)), b"new"]
    assert again.gaps == []


def test_a_restart_after_copytruncate_reads_the_rest_from_the_copy(path, clock):
    append(path, *numbered(0, 50))
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    append(path, *numbered(50, 60))
    shutil.copy(path, path.with_name("access.log-20261121"))
    os.truncate(path, 0)
    append(path, *numbered(60, 70))
    assert drain(resumed(path, tail.marks), clock) == as_bytes(numbered(50, 70))


def test_an_inode_that_is_used_again_is_not_taken_for_the_old_file(path, clock):
    append(path, *numbered(0, 50))
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    mark = tail.marks[0]
    os.truncate(path, 0)  # same inode, other content, also longer than before
    append(path, *numbered(100, 200))
    again = resumed(path, [mark])
    assert drain(again, clock) == as_bytes(numbered(100, 200))
    assert len(again.gaps) == 1


def test_a_file_that_is_gone_after_a_restart_is_a_gap_in_bytes(path, clock):
    append(path, *numbered(0, 5))
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    append(path, "y" * 29)
    mark = tail.marks[0]
    mark = type(mark)(**{**{f: getattr(mark, f) for f in mark.__slots__}, "size": path.stat().st_size})
    path.unlink()
    append(path, "new")
    again = resumed(path, [mark])
    assert drain(again, clock) == [b"new"]
    assert [gap.bytes for gap in again.gaps] == [30]


def test_an_old_rotated_file_is_not_read_again(path, clock):
    append(path.with_name("access.log.1"), "long ago")
    os.utime(path.with_name("access.log.1"), (1, 1))
    append(path, "a")
    tail = Tail(path, from_start=True)
    drain(tail, clock)
    assert drain(resumed(path, tail.marks, saved_at=path.stat().st_mtime), clock) == []


def test_a_line_of_one_megabyte_is_read_whole(path, clock):
    long = "m" * (1 << 20)
    append(path, "a", long, "b")
    tail = Tail(path, from_start=True)
    assert drain(tail, clock, limit=64 * 1024) == [b"a", long.encode(), b"b"]


def test_a_line_beyond_the_bound_is_passed_over_and_counted(path, clock):
    append(path, "a", "m" * (MAX_LINE_BYTES + 10), "b")
    tail = Tail(path, from_start=True)
    assert drain(tail, clock, limit=64 * 1024) == [b"a", b"", b"b"]
    assert tail.overlong == 1


def test_a_directory_and_an_unreadable_file_are_said_at_once(tmp_path):
    with pytest.raises(ConfigError, match="is a directory"):
        Tail(tmp_path, from_start=True)


def test_a_pipe_under_the_name_never_blocks(path, clock):
    os.mkfifo(path)
    tail = Tail(path, from_start=True)
    assert tail.poll(1024, now=clock.now) is None


def test_a_gz_is_read_once_from_any_offset(tmp_path):
    path = tmp_path / "old.log.gz"
    with gzip.open(path, "wb") as packed:
        packed.write(b"\n".join(as_bytes(numbered(0, 1000))))  # no line end at the end
    reader = GzipReader(path)
    lines, marks = [], []
    while (piece := reader.read(4096)) is not None:
        lines += piece.data.splitlines()
        marks.append((piece.mark.offset, len(lines)))
    assert lines == as_bytes(numbered(0, 1000))
    offset, seen = marks[1]
    rest = GzipReader(path, offset=offset)
    assert rest.read(1 << 20).data.splitlines()[0] == lines[seen]
    reader.close()
    rest.close()


def test_a_cut_gz_gives_what_is_whole_and_says_that_it_is_damaged(tmp_path):
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(os.urandom(4000).hex().encode() + b"\n")[:-200])
    tail = Tail(path, from_start=True)
    while (chunk := tail.poll(1 << 20, now=0.0)) is not None:
        tail.accept(chunk)
    assert [gap.reason.startswith("damaged") for gap in tail.gaps] == [True]
    tail.close()


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("access.log.1", True), ("access.log.2.gz", True), ("access.log-20261121", True),
        ("access.log-20261121.gz", True), ("access-20261121.log", True), ("access.log.old", True),
        ("access.log.swp", False), ("access.log.1.xz", False), ("access.log~", False), ("other.log.1", False),
        ("access.log.conf", False), ("access-new.log", False),
    ],
)  # fmt: skip
def test_only_names_that_rotation_makes_are_siblings(path, name, ours):
    path.with_name(name).touch()
    assert (family(path) == [path.with_name(name)]) is ours


def test_marks_are_hashes_of_what_was_read(path):
    append(path, *numbered(0, 300))
    one, two = FileReader(path), FileReader(path, offset=0)
    while one.read(777):
        pass
    two.read(1 << 20)
    assert one.mark() == two.mark() == FileReader(path, offset=one.offset).mark()
