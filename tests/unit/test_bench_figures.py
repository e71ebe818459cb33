"""Wanted figures: what is met, what only a floor excuses, and what was not measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

import figures
import run
from wanted import WANTED, Wanted, judge, judge_rows

RATE = Wanted(row="r", value="rate", what="a rate", at_least=1.5, floor="floor")
COST = Wanted(row="r", value="cost", what="a cost", at_most=0.4, floor="floor", within=1.2)


@pytest.mark.parametrize(
    ("wanted", "readings", "floor", "word"),
    [
        (RATE, [1.5], [], "met"),
        (RATE, [1.0, 1.6, 9.0], [], "met"),  # the median counts
        (RATE, [1.4, 1.4, 9.0], [], "missed"),
        (RATE, [1.3], [1.4], "held"),
        (RATE, [1.0], [1.4], "missed"),  # too far from the floor
        (RATE, [1.4], [1.6], "missed"),  # a bare program reaches it
        (COST, [0.4], [], "met"),
        (COST, [0.5], [0.45], "held"),
        (COST, [0.55], [0.45], "missed"),
        (COST, [0.41], [0.39], "missed"),
        (COST, [], [0.45], "unmeasured"),
    ],
)
def test_a_figure_is_met_by_its_median_or_held_near_a_floor_that_misses_it_too(wanted, readings, floor, word):
    verdict = judge(wanted, {"r": {wanted.value: readings, "floor": floor}})
    assert verdict.word == word
    assert verdict.passes == (word in {"met", "held"})


def test_rows_that_nobody_measured_are_no_met_ones():
    verdicts = judge_rows(frozenset({"idle"}), {})
    assert [one.word for one in verdicts] == ["unmeasured", "unmeasured"]
    assert not any(one.passes for one in verdicts)


def test_every_wanted_row_has_a_run_and_every_row_of_a_run_is_wanted():
    measured = {row for one in run.RUNS.values() for row in one.rows}
    assert measured == {one.row for one in WANTED}
    assert set(run.DEFAULT) == {name for name, one in run.RUNS.items() if one.rows}


def test_each_wanted_figure_has_exactly_one_bound():
    for one in WANTED:
        assert (one.at_least is None) != (one.at_most is None), one.what


def test_figures_of_rounds_are_read_as_they_were_noted(tmp_path, monkeypatch):
    path = tmp_path / "figures.jsonl"
    monkeypatch.setenv(figures.VARIABLE, str(path))
    figures.note("move", rate=1.0, cost=3)
    figures.note("move", rate=2.0)
    figures.note("idle", hot_percent=0.25)
    assert figures.read(path) == {
        "move": {"rate": [1.0, 2.0], "cost": [3.0]},
        "idle": {"hot_percent": [0.25]},
    }
    monkeypatch.delenv(figures.VARIABLE)
    figures.note("move", rate=9.0)
    assert len(path.read_text().splitlines()) == 3


def test_a_run_as_json_has_medians_spreads_and_verdicts():
    measured = {"idle": {"hot_percent": [0.5, 0.25, 0.75], "cold_percent": [1.0]}}
    verdicts = judge_rows(frozenset({"idle"}), measured)
    document = json.loads(json.dumps(run.as_document(verdicts, measured, [], 3)))
    assert document["figures"]["idle"]["hot_percent"] == {
        "median": 0.5, "lowest": 0.25, "highest": 0.75, "rounds": [0.5, 0.25, 0.75],
    }  # fmt: skip
    assert [one["verdict"] for one in document["wanted"]] == ["met", "missed"]
    assert "idle hot worker: % of a core" in run.as_table(verdicts)


def test_arguments_of_one_script_need_one_run(capsys):
    with pytest.raises(SystemExit):
        run.parsed(["--only", "move,logs", "--", "--count", "3"])
    with pytest.raises(SystemExit):
        run.parsed(["--only", "moove"])
    assert "moove is none of move, large" in capsys.readouterr().err
    given = run.parsed(["--only", "move", "--rounds", "7", "--", "--count", "3"])
    assert run.arguments("move", given) == ["--count", "5000", "--rounds", "7", "--count", "3"]
