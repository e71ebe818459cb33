"""The short form of `make fuzz`: what once broke a reader, and a few hundred inputs of one seed for each."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from fuzz.__main__ import main
from fuzz.mutate import Mutator
from fuzz.target import CORPUS, Crash, Target
from fuzz.targets import TARGETS
from scheduler.scan.inventory.index_page import read_html
from scheduler.scan.inventory.locations import Location
from support.real import skip_or_fail

if TYPE_CHECKING:
    from collections.abc import Iterator

_INPUTS = 60


@pytest.fixture(autouse=True)
def _libraries_say_nothing_of_odd_inputs() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if not target.needs])
def test_every_reader_takes_or_refuses_whatever_comes(name):
    _short(TARGETS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.needs])
def test_readers_that_need_more_than_a_set_up_take_or_refuse_whatever_comes(name):
    target = TARGETS[name]
    if not target.can_run:
        skip_or_fail(f"{target.needs} is not installed: make test-slow installs it")
    _short(target)


def _short(target: Target) -> None:
    for data in target.seeds:
        target.try_one(data)
    for _, data in target.kept():
        target.try_one(data)
    make = Mutator(f"1/{target.name}", target.seeds, target.words, max_bytes=target.max_bytes)
    for _ in range(_INPUTS):
        target.try_one(make())


def test_what_was_kept_belongs_to_a_reader_and_is_small():
    kept = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in kept} <= set(TARGETS)
    assert max(path.stat().st_size for path in kept) <= 8192


def test_the_same_seed_gives_the_same_inputs():
    streams = [Mutator(7, [b"abc", b"def"], [b"x"], max_bytes=100) for _ in range(2)]
    assert [streams[0]() for _ in range(200)] == [streams[1]() for _ in range(200)]


def test_a_time_instead_of_a_number_of_inputs_is_a_number_that_libfuzzer_can_count_to(monkeypatch, tmp_path):
    """It counts in 32 bits: of a larger number it ran the seeds, and nothing else."""
    asked: list[int] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setattr("fuzz.__main__._guided", lambda _target, inputs, *_: asked.append(inputs) or 0)
    assert main(["--target", "dates", "--minutes", "1", "--found", str(tmp_path)]) == 0
    assert asked[0] < 1 << 31
    assert asked[0] > 1 << 30


@pytest.mark.parametrize("fault", ["error", "hang"])
def test_an_error_that_is_no_refusal_and_a_hang_are_found(fault):
    def read(data: bytes) -> None:
        if data == b"bad":
            while fault == "hang":
                pass
            raise KeyError(data)
        raise ValueError(data)

    target = Target(name="t", read=read, seeds=(), refuses=(ValueError,))
    assert not target.try_one(b"good")
    with pytest.raises(Crash, match="Hang" if fault == "hang" else "KeyError"):
        target.try_one(b"bad", hang_s=0.2)


@pytest.mark.parametrize(
    "unit", [b"<a ", b"<!--", b'<a href="', b"<a b='", b"&#", b"<title>", b"<script></", b"<![CDATA["]
)
def test_an_index_page_is_read_in_one_pass_whatever_is_never_closed_in_it(unit):
    here = Location("http://o.example", "/a/")
    target = Target(
        name="page", read=lambda data: read_html(here, data, None), seeds=(), refuses=(ValueError,)
    )  # fmt: skip
    target.try_one(unit * 100_000, hang_s=10)
