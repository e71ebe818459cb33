"""The record of an object is read alike however often a name was met, and however it is spelled."""

from __future__ import annotations

from workers.store.wire.answers import object_info


def test_names_count_without_case_the_first_time_and_the_next() -> None:
    for _ in range(2):
        info = object_info(
            "a",
            [
                ("X-Amz-Meta-Ferryman-V", "1"),
                ("x-amz-meta-Colour", "red"),
                ("Server", "s"),
                ("CONTENT-TYPE", "text/plain"),
                ("content-length", "5"),
                ("Etag", '"e"'),
            ],
        )
        assert info.user_meta == {"ferryman-v": "1", "colour": "red"}
        assert info.headers == (("CONTENT-TYPE", "text/plain"),)
        assert (info.size, info.etag) == (5, "e")


def test_more_names_than_are_remembered_are_read_too() -> None:
    for number in range(1500):
        info = object_info("a", [(f"X-Amz-Meta-N{number}", "x"), (f"X-Odd-{number}", "y"), ("ETag", "e")])
        assert info.user_meta == {f"n{number}": "x"}
        assert info.etag == "e"
