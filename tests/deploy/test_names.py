"""Names that deploy/ and docs/ use are the program's own: metrics, and every `ferryman` command line."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from prometheus_client import REGISTRY

import workers.telemetry.metrics  # noqa: F401 -- registers the metrics
from scheduler.cli import cli
from workers.store import metadata

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
_WORD = re.compile(r"\bferryman_[a-z0-9_]+")


def metric_names() -> set[str]:
    found = set()
    for family in REGISTRY.collect():
        if not family.name.startswith("ferryman_"):
            continue
        if family.type == "counter":
            found.add(f"{family.name}_total")
        elif family.type == "histogram":
            found |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            found.add(family.name)
    return found


def alerts() -> list[dict]:
    document = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels() -> list[dict]:
    document = json.loads((DEPLOY / "grafana" / "dashboards" / "ferryman.json").read_text(encoding="utf-8"))
    return document["panels"]


def test_every_metric_in_alerts_and_dashboard_exists():
    used = {name for rule in alerts() for name in _WORD.findall(rule["expr"])}
    used |= {
        name
        for panel in panels()
        for target in panel.get("targets", [])
        for name in _WORD.findall(target["expr"])
    }
    assert len(used) > 15
    assert used - metric_names() == set()


def test_every_metric_is_on_the_dashboard_or_in_an_alert():
    text = json.dumps(panels()) + json.dumps(alerts())
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in metric_names()}
    assert {name for name in families if name not in text} == set()


def test_labels_in_expressions_are_those_of_their_metric():
    labels = {}
    for family in REGISTRY._collector_to_names:
        for name in REGISTRY._collector_to_names[family]:
            labels[name] = set(getattr(family, "_labelnames", ()))
    free = {"le", "job", "instance"}
    expressions = [rule["expr"] for rule in alerts()]
    expressions += [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    for expression in expressions:
        known = {label for name in _WORD.findall(expression) for label in labels.get(name, ())} | free
        grouped = {
            one.strip() for part in re.findall(r"by \(([^)]*)\)", expression) for one in part.split(",")
        }
        selected = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"", expression))
        assert grouped | selected <= known, expression


def test_panels_have_their_own_ids_and_places():
    found = panels()
    assert len({panel["id"] for panel in found}) == len(found)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in found]
    assert len(set(places)) == len(places)


def test_alerts_say_what_and_how_bad():
    for rule in alerts():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"]
        assert re.fullmatch(r"\d+m", rule["for"])


def command_lines() -> list[tuple[str, str]]:
    """(where, arguments) of every `ferryman …` in deploy/ and docs/."""
    found: list[tuple[str, str]] = []
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
    for name, service in compose["services"].items():
        if service["image"].startswith("ferryman:"):
            found.append((f"compose {name}", shlex.join(service["command"])))
    for path in sorted((DEPLOY / "kubernetes" / "base").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            found += [(path.name, shlex.join(args)) for args in _args_of(document)]
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        line = re.search(r"^ExecStart=\S*/ferryman (.*)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert line, path
        found.append((path.name, line[1].replace("%i", "hot")))
    texts = [
        *DEPLOY.rglob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
    ]
    texts.append(DEPLOY / "prometheus" / "rules.yaml")
    for path in sorted(path for path in texts if path.exists()):
        text = path.read_text(encoding="utf-8")
        for shell, block in re.findall(r"```(sh|console)\n(.*?)```", text, flags=re.DOTALL):
            # In a console everything without a prompt is output.
            prompt = r"(?:sudo )?" if shell == "sh" else r"\$ (?:sudo )?"
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                command = re.match(prompt + r"(?:\S*/)?ferryman (.+)", line.strip())
                if command:
                    found.append((path.name, command[1]))
        # `a|b` is a choice, for readers.
        inline = [one for one in re.findall(r"`ferryman ([a-z][^`]*)`", text) if "|" not in one]
        found += [(path.name, re.sub(r"{{.*?}}", "X", one)) for one in inline]
    return found


def _args_of(node) -> list[list[str]]:
    if isinstance(node, dict):
        own = [node["args"]] if isinstance(node.get("args"), list) and node.get("image") == "ferryman" else []
        return own + [args for value in node.values() for args in _args_of(value)]
    if isinstance(node, list):
        return [args for value in node for args in _args_of(value)]
    return []


def parse(arguments: list[str]) -> None:
    """Walk the command's words as click would; nothing is run."""
    command: click.Command = cli
    context = click.Context(cli, info_name="ferryman")
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        found = command.get_command(context, name)
        assert found is not None, f"no command {name!r}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    if not arguments and isinstance(command, click.Group):
        return
    context.resilient_parsing = True
    parser = command.make_parser(context)
    values, left, _ = parser.parse_args(list(arguments))
    assert not left, f"too much: {left}"
    for parameter in command.params:
        given = values.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and isinstance(given, str | list | tuple):
            for one in [given] if isinstance(given, str) else given:
                assert str(one) in {str(choice) for choice in parameter.type.choices}, one


@pytest.mark.parametrize(("where", "line"), command_lines(), ids=lambda value: value.replace(" ", "_")[:60])
def test_every_command_line_is_one_that_ferryman_knows(where, line):
    del where
    # What follows a comment, a pipe or a redirection is the shell's; capitals and … stand for something.
    words = shlex.split(line.replace("…", ""), comments=True)
    for stop in ("|", ">", "&&", "&", "2>&1"):
        if stop in words:
            words = words[: words.index(stop)]
    parse(words)


def test_the_gateways_hide_all_of_our_metadata_and_replay_what_is_replayed():
    """nginx and Envoy know no wildcard: each name is written out."""
    own = {
        value
        for name, value in vars(metadata).items()
        if name.isupper() and str(value).startswith("ferryman-")
    }
    hidden = {f"x-amz-meta-{name}" for name in {*own, metadata.TAG}}
    nginx = (DEPLOY / "nginx" / "ferryman.conf").read_text(encoding="utf-8")
    assert set(re.findall(r"proxy_hide_header (x-amz-meta-\S+);", nginx)) == hidden
    envoy = (DEPLOY / "envoy" / "envoy.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"- (x-amz-meta-\S+)", envoy)) == hidden
    for name, header in metadata._REPLAY:
        assert f"%RESP(x-amz-meta-{name})%" in envoy, header
        assert f"$upstream_http_x_amz_meta_{name.replace('-', '_')}" in nginx, header
