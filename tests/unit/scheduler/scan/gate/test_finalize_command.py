"""What `ferryman finalize` refuses before it reads anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from scheduler.commands.finalize import command


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--quiet", "8d"), "longer than 7d"),
        (("--quiet", "soon"), "is not a number with s, m, h or d"),
        (("--check", "--rollback"), "exclude each other"),
        (("--share", "0.1", "--override", "x"), "exclude each other"),
        (("--forget", "front:a", "--keep-rule"), "exclude each other"),
        (("--share", "2"), "is not in the range"),
    ],
)
def test_what_makes_no_sense_ends_with_2_and_says_why(options, what):
    ended = CliRunner().invoke(command, ["s", *options])
    assert ended.exit_code == 2
    assert what in " ".join(ended.output.split())
