"""deploy/prometheus: promtool takes the files; an alert fires in the situation it names, and in no other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import skip_or_fail

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = PROMETHEUS / "rules.yaml"

FRONT = 'job="ferryman-front", instance="front-1:8081"'
OTHER = 'job="ferryman-front", instance="front-2:8081"'

#: Alert -> (series and values a minute in the bad situation, the labels it fires with). Values as promtool
#: reads them: `start+stepxN`.
SITUATIONS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "FerrymanProcessDown": (
        {f"up{{{FRONT}}}": "0x60"},
        {"job": "ferryman-front", "instance": "front-1:8081"},
    ),
    "FerrymanNoFront": ({'up{job="ferryman-worker", instance="worker:8082"}': "1x60"}, {}),
    "FerrymanNoWorkers": (
        {f"ferryman_workers{{{FRONT}}}": "0x60", f"ferryman_workers{{{OTHER}}}": "0x60"},
        {},
    ),
    "FerrymanWithoutRedis": ({f'ferryman_claims_total{{{FRONT}, result="unknown"}}': "0+30x60"}, {}),
    "FerrymanHotQueueSlow": ({f'ferryman_queue_oldest_age_seconds{{{FRONT}, queue="hot"}}': "90+60x60"}, {}),
    "FerrymanQueueNearItsLimit": (
        {f'ferryman_queue_depth{{{FRONT}, queue="cold"}}': "9000x60"},
        {"queue": "cold"},
    ),
    "FerrymanOriginEjected": (
        {f'ferryman_origin_ejected{{{FRONT}, origin="old.example.com"}}': "1x60"},
        {"origin": "old.example.com"},
    ),
    "FerrymanWayBackLags": (
        {f'ferryman_back_lag_seconds{{{FRONT}, bucket="site"}}': "400+60x60"},
        {"bucket": "site"},
    ),
    "FerrymanMirrorErrors": (
        {
            f'ferryman_gateway_requests_total{{{FRONT}, status="424", kind="failed"}}': "0+30x60",
            f'ferryman_gateway_requests_total{{{FRONT}, status="200", kind="hit"}}': "0+600x60",
        },
        {},
    ),
    "FerrymanSlowFirstByte": (
        {
            f'ferryman_gateway_first_byte_seconds_bucket{{{FRONT}, kind="origin", le="5"}}': "0+80x60",
            f'ferryman_gateway_first_byte_seconds_bucket{{{FRONT}, kind="origin", le="10"}}': "0+100x60",
            f'ferryman_gateway_first_byte_seconds_bucket{{{FRONT}, kind="origin", le="+Inf"}}': "0+100x60",
        },
        {},
    ),
    "FerrymanBudgetSpent": (
        {f'ferryman_budget_exhausted_total{{{FRONT}, lane="hot"}}': "0+6x60"},
        {},
    ),
    "FerrymanFailuresListed": (
        {f'ferryman_listed_failures{{{FRONT}, bucket="site"}}': "3x60"},
        {"bucket": "site"},
    ),
    "FerrymanConsumerLags": (
        {'ferryman_consumer_lag_bytes{job="ferryman-consumer", log="/var/log/nginx/access.log"}': "1e8x60"},
        {"log": "/var/log/nginx/access.log"},
    ),
    "FerrymanCreateOnlyRefusals": (
        {'ferryman_create_only_refusals_total{job="ferryman-worker", instance="worker:8082"}': "0+120x60"},
        {},
    ),
}

#: A busy, healthy fleet: nothing fires.
HEALTHY = {
    f"up{{{FRONT}}}": "1x60",
    f"ferryman_workers{{{FRONT}}}": "4x60",
    f'ferryman_claims_total{{{FRONT}, result="claimed"}}': "0+600x60",
    f'ferryman_claims_total{{{FRONT}, result="unknown"}}': "5x60",
    f'ferryman_queue_oldest_age_seconds{{{FRONT}, queue="hot"}}': "2x60",
    # A scan fills the cold lane, and its jobs may be old.
    f'ferryman_queue_oldest_age_seconds{{{FRONT}, queue="cold"}}': "900x60",
    f'ferryman_queue_depth{{{FRONT}, queue="cold"}}': "200x60",
    f'ferryman_origin_ejected{{{FRONT}, origin="old.example.com"}}': "0x60",
    f'ferryman_gateway_requests_total{{{FRONT}, status="404", kind="absent"}}': "0+300x60",
    f'ferryman_gateway_requests_total{{{FRONT}, status="502", kind="failed"}}': "0+1x60",
    f'ferryman_gateway_requests_total{{{FRONT}, status="200", kind="hit"}}': "0+600x60",
    f'ferryman_gateway_first_byte_seconds_bucket{{{FRONT}, kind="hit", le="0.1"}}': "0+600x60",
    f'ferryman_gateway_first_byte_seconds_bucket{{{FRONT}, kind="hit", le="+Inf"}}': "0+600x60",
    # A scan that waits for its share is what budgets are for.
    f'ferryman_budget_exhausted_total{{{FRONT}, lane="cold"}}': "0+60x60",
    f'ferryman_budget_exhausted_total{{{FRONT}, lane="hot"}}': "7x60",
    f'ferryman_listed_failures{{{FRONT}, bucket="site"}}': "0x60",
    'ferryman_consumer_lag_bytes{job="ferryman-consumer", log="/var/log/nginx/access.log"}': "4096x60",
    'ferryman_create_only_refusals_total{job="ferryman-worker", instance="worker:8082"}': "0+1x60",
}


def alerts() -> dict[str, dict]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def promtool(*arguments: str | Path, cwd: Path = PROMETHEUS) -> None:
    found = shutil.which("promtool", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        skip_or_fail("promtool is not installed (apt-get install prometheus)")
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


def unit_test(situations: dict[str, tuple[dict[str, str], dict[str, str] | None]]) -> dict:
    """A document for `promtool test rules`: labels of what fires after 50 minutes, None for silence."""
    tests = []
    for name, (series, labels) in situations.items():
        expected = [] if labels is None else [{"exp_labels": {**alerts()[name]["labels"], **labels}}]
        tests.append({
            "interval": "1m",
            "input_series": [{"series": one, "values": values} for one, values in series.items()],
            "alert_rule_test": [{"eval_time": "50m", "alertname": name, "exp_alerts": expected}],
        })  # fmt: skip
    return {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}


def without_annotations(directory: Path) -> None:
    """The rules as they are, without their texts: promtool compares those to the letter, numbers and all."""
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for group in document["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations")
    (directory / "rules.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


@pytest.mark.slow
def test_promtool_takes_rules_and_configuration():
    promtool("check", "rules", RULES)
    promtool("check", "config", "--syntax-only", PROMETHEUS / "prometheus.yaml")


@pytest.mark.slow
def test_promtool_can_read_every_query_of_the_dashboard(tmp_path):
    text = (PROMETHEUS.parent / "grafana" / "dashboards" / "ferryman.json").read_text(encoding="utf-8")
    queries = [target["expr"] for panel in json.loads(text)["panels"] for target in panel.get("targets", [])]
    assert len(queries) > 20
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    promtool("check", "rules", path)


def test_every_alert_has_a_situation():
    assert set(SITUATIONS) == set(alerts())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SITUATIONS))
def test_an_alert_fires_in_the_situation_that_it_names(name, tmp_path):
    without_annotations(tmp_path)
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(unit_test({name: SITUATIONS[name]})))
    promtool("test", "rules", "test.yaml", cwd=tmp_path)


@pytest.mark.slow
def test_no_alert_fires_over_a_healthy_fleet(tmp_path):
    without_annotations(tmp_path)
    silent = dict.fromkeys(SITUATIONS, (HEALTHY, None))
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(unit_test(silent)))
    promtool("test", "rules", "test.yaml", cwd=tmp_path)


@pytest.mark.slow
def test_jobs_of_the_prometheus_operator_are_known_too(tmp_path):
    """A PodMonitor's job is NAMESPACE/NAME."""
    without_annotations(tmp_path)
    labels = {"job": "ferryman/ferryman-metrics", "pod": "worker-hot-1"}
    series = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    situations = {
        "FerrymanProcessDown": ({f"up{{{series}}}": "0x60"}, labels),
        "FerrymanNoFront": ({'up{job="ferryman/ferryman-front", pod="front-1"}': "1x60"}, None),
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(unit_test(situations)))
    promtool("test", "rules", "test.yaml", cwd=tmp_path)


def test_every_label_that_a_text_names_is_one_that_the_alert_has():
    for name, rule in alerts().items():
        _, labels = SITUATIONS[name]
        for text in rule["annotations"].values():
            assert set(re.findall(r"\$labels\.(\w+)", text)) <= set(labels), name
