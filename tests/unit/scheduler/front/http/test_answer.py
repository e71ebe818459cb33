"""What an answer sends, whole or as it comes, and what cuts it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from scheduler.front.http.answer import Answer, BodyLengthWrong


class _Sent:
    """Keeps what an answer sends; the connection of its request."""

    def __init__(self) -> None:
        self.bodies: list[tuple[bytes, bool]] = []
        self.cut = self.gone = self.write_paused = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.bodies.append((message["body"], message["more_body"]))

    def abort(self) -> None:
        self.cut = True


class _Source:
    """Gives pieces; `says_so`: it knows with the last one that it was."""

    def __init__(self, *pieces: bytes, says_so: bool, fails: Exception | None = None) -> None:
        self._pieces = list(pieces)
        self._says_so = says_so
        self._fails = fails

    @property
    def at_end(self) -> bool:
        return self._says_so and not self._pieces

    async def read_some(self) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        if self._fails is not None:
            raise self._fails
        return b""


def _answer() -> tuple[Answer, _Sent]:
    sent = _Sent()
    request: Any = SimpleNamespace(method="GET", id="A" * 24, connection=sent)
    return Answer(request, sent, stall_s=5), sent


@pytest.mark.parametrize(
    ("says_so", "length", "bodies"),
    [
        (True, 4, [(b"ab", True), (b"cd", False)]),
        (True, None, [(b"ab", True), (b"cd", False)]),
        (False, 4, [(b"ab", True), (b"cd", True), (b"", False)]),
    ],
)
async def test_a_source_that_knows_its_end_ends_the_answer_with_its_last_bytes(
    says_so: bool, length: int | None, bodies: list[tuple[bytes, bool]]
) -> None:
    answer, sent = _answer()
    await answer.pour(200, [], _Source(b"ab", b"cd", says_so=says_so), length=length)
    assert sent.bodies == bodies
    assert answer.bytes_sent == 4
    assert not sent.cut


@pytest.mark.parametrize("says_so", [True, False])
@pytest.mark.parametrize("length", [3, 5])
async def test_a_body_of_another_length_than_promised_is_cut_and_never_ended_a12(
    says_so: bool, length: int
) -> None:
    answer, sent = _answer()
    with pytest.raises(BodyLengthWrong):
        await answer.pour(200, [], _Source(b"ab", b"cd", says_so=says_so), length=length)
    assert sent.cut
    assert all(more for _, more in sent.bodies)


async def test_a_source_that_fails_behind_its_last_byte_cuts_the_answer_a12() -> None:
    answer, sent = _answer()
    with pytest.raises(ValueError, match="wrong digest"):
        await answer.pour(
            200, [], _Source(b"abcd", says_so=False, fails=ValueError("wrong digest")), length=4
        )
    assert sent.cut
    assert sent.bodies == [(b"abcd", True)]


async def test_an_iterator_is_sent_to_its_end_and_empty_pieces_are_no_end() -> None:
    answer, sent = _answer()

    async def chunks() -> Any:
        yield b"ab"
        yield b""
        yield b"cd"

    await answer.stream(200, [], chunks(), length=4)
    assert sent.bodies == [(b"ab", True), (b"cd", True), (b"", False)]
