"""What of an object's headers can be sent."""

from __future__ import annotations

import pytest

from scheduler.front.http.object_headers import sendable


def test_blanks_around_a_value_go() -> None:
    assert sendable([(b"a", b" x\t"), (b"b", b"")]) == [(b"a", b"x"), (b"b", b"")]


@pytest.mark.parametrize(
    "odd", [(b"", b"x"), (b"a b", b"x"), (b"a:", b"x"), (b"a", b"x\r\ny: z"), (b"a", b"\0")]
)
def test_what_http_cannot_carry_is_left_out_alone(odd: tuple[bytes, bytes]) -> None:
    assert sendable([(b"b", b"1"), odd, (b"c", b"2")]) == [(b"b", b"1"), (b"c", b"2")]
