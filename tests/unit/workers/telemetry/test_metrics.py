"""What is counted, how it is named, and what many processes of a machine make of it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from prometheus_client import Histogram
from prometheus_client.parser import text_string_to_metric_families

from workers.plan import Lane
from workers.telemetry import metric_types, metrics


def samples() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.render().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(name: str, **labels: str) -> float:
    return samples().get((name, tuple(sorted(labels.items()))), 0.0)


def test_a_stored_object_is_counted_once_everywhere():
    before = value("ferryman_outcomes_total", rule="unit-stored", outcome="stored")
    observer = metrics.WorkerObserver(Lane.COLD)
    size = value("ferryman_transfer_bytes_sum", lane="cold")
    observer.finished("unit-stored", "stored", 5000, 0.2)
    observer.finished("unit-stored", "already_present", 0, 0.1)
    assert value("ferryman_outcomes_total", rule="unit-stored", outcome="stored") == before + 1
    assert value("ferryman_outcomes_total", rule="unit-stored", outcome="already_present") == 1
    assert value("ferryman_transfer_bytes_sum", lane="cold") == size + 5000


@pytest.mark.parametrize("listed", [True, False])
def test_a_failure_is_listed_or_a_retry(listed):
    name = "ferryman_failures_total" if listed else "ferryman_retries_total"
    before = value(name, reason="origin_timeout")
    metrics.WorkerObserver(Lane.HOT).failed("r", "origin_timeout", listed=listed)
    assert value(name, reason="origin_timeout") == before + 1


def test_histograms_held_back_equal_those_observed_one_by_one():
    """Holds the two private names of the library in place that the delivery uses."""
    plain = Histogram("plain_seconds", "x", buckets=metrics._SECONDS, registry=None)
    values = [0.0, 0.001, 0.0011, 0.3, 0.5, 29.0, 30.0, 31.0, 500.0]
    for seconds in values:
        plain.observe(seconds)
        metrics.gateway_answered(200, "unit-kind", first_byte_s=seconds)
    expected = {
        sample.labels.get("le"): sample.value
        for sample in next(iter(plain.collect())).samples
        if sample.name.endswith("_bucket")
    }
    found = {
        dict(labels)["le"]: n
        for (name, labels), n in samples().items()
        if name == "ferryman_gateway_first_byte_seconds_bucket" and dict(labels)["kind"] == "unit-kind"
    }
    assert found == expected
    assert value("ferryman_gateway_first_byte_seconds_sum", kind="unit-kind") == pytest.approx(sum(values))
    assert value("ferryman_gateway_first_byte_seconds_count", kind="unit-kind") == len(values)


def test_hosts_beyond_a_hundred_are_called_other():
    for number in range(300):
        metrics.ejected(f"h{number}.example")
    hosts = {dict(labels)["origin"] for (name, labels) in samples() if name == "ferryman_ejections_total"}
    assert len(hosts) <= metric_types.LABEL_VALUES + 1
    assert "other" in hosts


def test_every_metric_has_our_prefix_a_unit_and_a_help_text():
    units = (
        "_total", "_seconds", "_bytes", "_depth", "_keys", "_failures", "_ejected", "_workers", "_shards",
    )  # fmt: skip
    families = [
        family
        for family in text_string_to_metric_families(metrics.render().decode())
        if not family.name.startswith(("python_", "process_"))
    ]
    assert len(families) >= 20
    for family in families:
        assert family.name.startswith("ferryman_")
        assert family.documentation.endswith(".")
        assert family.type == "counter" or family.name.endswith(units), family.name


def test_every_function_that_counts_is_called_by_somebody():
    root = Path(metrics.__file__).parents[2]
    code = {
        path: path.read_text(encoding="utf-8")
        for package in ("workers", "scheduler")
        for path in (root / package).rglob("*.py")
        if path != Path(metrics.__file__)
    }
    tree = ast.parse(Path(metrics.__file__).read_text(encoding="utf-8"))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    unused = [name for name in names if not any(f"metrics.{name}(" in text for text in code.values())]
    # `collect` is handed to a thread, `render` is for a process that serves nothing.
    assert set(unused) <= {"collect", "render"}


async def test_what_is_counted_on_a_loop_is_delivered_within_a_second(monkeypatch):
    import asyncio

    monkeypatch.setattr(metric_types, "FLUSH_S", 0.01)
    metric_types.flush()
    before = value("ferryman_claims_total", result="unit")
    metrics.claimed("unit", 3)
    child = metrics._CLAIMS._metric.labels("unit")
    async with asyncio.timeout(2):
        while child._value.get() != before + 3:  # noqa: ASYNC110 - a timer, no event
            await asyncio.sleep(0.01)


WRITER = """
    import sys
    from pathlib import Path
    from workers.telemetry import metric_files
    metric_files.use(Path(sys.argv[1]))
    from workers.telemetry import metric_types, metrics
    from workers.plan import Lane
    metrics.claimed("claimed", int(sys.argv[2]))
    metrics.WorkerObserver(Lane.HOT).finished("r", "stored", 100, 0.1)
    metrics.queue_state("hot", depth=7, oldest_age_s=1.0)
    metric_types.flush()
"""
READER = """
    import sys
    from pathlib import Path
    from workers.telemetry import metric_files
    place = metric_files.use(Path(sys.argv[1]))
    from workers.telemetry import metric_types, metrics
    metrics.claimed("claimed", 1)
    sys.stdout.write(metrics.render().decode())
    print("# files:", *sorted(path.name for path in place.glob("*.db")))
"""


def run(script: str, *arguments: object) -> str:
    environment = {name: text for name, text in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).resolve().parents[4],
    ).stdout


def test_any_process_answers_for_all_and_counts_of_dead_ones_stay(tmp_path):
    for number in (10, 20, 30):
        run(WRITER, tmp_path, number)
    first = run(READER, tmp_path)
    assert 'ferryman_claims_total{result="claimed"} 61.0' in first
    assert 'ferryman_transfer_seconds_count{lane="hot"} 3.0' in first
    assert "ferryman_queue_depth{" not in first, "gauges of the dead say nothing"
    second = run(READER, tmp_path)
    assert 'ferryman_claims_total{result="claimed"} 62.0' in second, "the first reader's count stays, too"
    files = second.rpartition("# files:")[2].split()
    assert len([name for name in files if name.startswith("counter_")]) == 2, (
        "one of the dead, one of its own"
    )


def test_a_directory_named_by_the_environment_is_kept(tmp_path, monkeypatch):
    from workers.telemetry import metric_files

    monkeypatch.setenv(metric_files.ENV, str(tmp_path / "named"))
    assert metric_files.use(tmp_path / "data") == tmp_path / "named"
    assert not (tmp_path / "data").exists()
