"""Inputs made from a seed: what is well-formed, cut, doubled, spliced and salted with words of the format."""

# ruff: noqa: E501 -- a table of words reads best unbroken

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: What breaks readers of any format.
_SALT = (
    b"", b"\x00", b"\xff", b"\r\n", b"\n", b"\r", b" ", b"\t", b"%00", b"%", b"%2F", b"%zz", b"..", b"/", b"//", b"?",
    b"#", b"&", b"=", b";", b",", b":", b"@", b"[", b"]", b"{", b"}", b'"', b"'", b"\\", b"<", b">", b"<!", b"<![", b"&#0;",
    b"-1", b"0", b"1" * 40, b"9" * 400, b"9" * 5000, b"1e999", b"NaN", b"Infinity", b"18446744073709551616", b"0x10",
    "²".encode(), "٣".encode(), "\ud800".encode("utf-8", "surrogatepass"), b"\xef\xbb\xbf", b"\xc3", "é".encode(),
    "\U0010ffff".encode(), b"a" * 300, b"\\ud800", b"\\u0000", b"null", b"true", b"[[[[", b'{"a":' * 40,
)  # fmt: skip


class Mutator:
    """A stream of inputs; the same seed gives the same stream."""

    def __init__(
        self, seed: int | str, seeds: Sequence[bytes], words: Sequence[bytes], *, max_bytes: int
    ) -> None:
        self._random = random.Random(seed)
        self._pool = list(seeds) or [b""]
        self._words = [*words, *_SALT]
        self._max_bytes = max_bytes
        self._ways: tuple[Callable[[bytearray], None], ...] = (
            self._flip, self._insert, self._insert, self._cut, self._double, self._splice, self._replace, self._shuffle,
        )  # fmt: skip

    def __call__(self) -> bytes:
        """The next input."""
        made = bytearray(self._random.choice(self._pool))
        for _ in range(self._random.choice((1, 1, 1, 2, 2, 3, 5, 8))):
            self._random.choice(self._ways)(made)
        return bytes(made[: self._max_bytes])

    def learn(self, data: bytes) -> None:
        """Take an input for a seed; of those that were learned, one makes room."""
        if len(self._pool) < 200:
            self._pool.append(data)
        else:
            self._pool[self._random.randrange(100, 200)] = data

    def _span(self, made: bytearray) -> slice:
        start = self._random.randrange(len(made) + 1)
        return slice(start, min(len(made), start + int(self._random.expovariate(0.1)) + 1))

    def _flip(self, made: bytearray) -> None:
        if made:
            made[self._random.randrange(len(made))] = self._random.randrange(256)

    def _insert(self, made: bytearray) -> None:
        at = self._random.randrange(len(made) + 1)
        made[at:at] = self._random.choice(self._words)

    def _cut(self, made: bytearray) -> None:
        del made[self._span(made)]

    def _double(self, made: bytearray) -> None:
        span = self._span(made)
        made[span.start : span.start] = made[span] * self._random.choice((1, 1, 2, 50))

    def _splice(self, made: bytearray) -> None:
        other = self._random.choice(self._pool)
        at = self._random.randrange(len(other) + 1)
        made[self._span(made)] = other[at : at + self._random.randrange(1, 200)]

    def _replace(self, made: bytearray) -> None:
        made[self._span(made)] = self._random.choice(self._words)

    def _shuffle(self, made: bytearray) -> None:
        lines = made.split(b"\n")
        self._random.shuffle(lines)
        made[:] = b"\n".join(lines)
