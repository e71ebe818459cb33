"""Packed logs that are damaged: every line that can be read is read, and what is missing is said."""

from __future__ import annotations

import gzip

import pytest

from scheduler.logs.reading import GzipReader

LINES = [f"line {number} {'x' * (number % 50)}\n".encode() for number in range(20_000)]
WHOLE = b"".join(LINES)


def read_all(path, limit=65_536):
    reader = GzipReader(path)
    pieces = []
    while (piece := reader.read(limit)) is not None:
        pieces.append(piece.data)
    reader.close()
    return b"".join(pieces), reader.damaged


@pytest.mark.parametrize("lines", [1, 3, 20_000])
@pytest.mark.parametrize("limit", [100, 65_536, 1 << 24])
def test_a_whole_file_of_several_members_and_padding_is_read_without_a_word(tmp_path, lines, limit):
    path = tmp_path / "a.gz"
    body = b"".join(LINES[:lines])
    path.write_bytes(gzip.compress(body) + gzip.compress(body) + b"\0" * 700)
    assert read_all(path, limit) == (body + body, "")


@pytest.mark.parametrize("lines", [1, 3, 20_000])
@pytest.mark.parametrize("cut", [1, 4, 8])
def test_a_cut_trailer_costs_no_line(tmp_path, lines, cut):
    path = tmp_path / "a.gz"
    body = b"".join(LINES[:lines])
    path.write_bytes(gzip.compress(body)[:-cut])
    data, damaged = read_all(path)
    assert data == body
    assert damaged == "it ends in the middle of a member"


@pytest.mark.parametrize("lines", [1, 20_000])
def test_junk_behind_the_last_member_costs_no_line(tmp_path, lines):
    path = tmp_path / "a.gz"
    body = b"".join(LINES[:lines])
    path.write_bytes(gzip.compress(body) + b"<html>quota exceeded</html>")
    assert read_all(path) == (body, "junk behind the last member")


def test_a_file_cut_in_the_middle_gives_what_can_be_unpacked(tmp_path):
    path = tmp_path / "a.gz"
    packed = gzip.compress(WHOLE)
    path.write_bytes(packed[: len(packed) // 2])
    data, damaged = read_all(path)
    assert damaged
    assert len(data) > len(WHOLE) // 3
    assert WHOLE.startswith(data.rstrip(b"\n"))


def test_a_damage_in_the_middle_costs_what_is_behind_it_and_nothing_before(tmp_path):
    path = tmp_path / "a.gz"
    packed = bytearray(gzip.compress(WHOLE))
    packed[len(packed) // 2 : len(packed) // 2 + 40] = b"\xff" * 40
    path.write_bytes(packed)
    data, damaged = read_all(path)
    assert damaged
    whole_lines = data.count(b"\n")
    assert whole_lines > 5_000
    same = [a == b for a, b in zip(data.splitlines(), WHOLE.splitlines(), strict=False)]
    assert all(same[:5_000])


def test_a_wrong_checksum_is_said_and_costs_no_line(tmp_path):
    path = tmp_path / "a.gz"
    packed = bytearray(gzip.compress(b"one\ntwo\n"))
    packed[-8] ^= 1
    path.write_bytes(packed)
    data, damaged = read_all(path)
    assert data == b"one\ntwo\n"
    assert damaged
