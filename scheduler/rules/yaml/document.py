"""Rule sets as YAML or JSON: the long form of SEMANTICS.md section 1, the short form of config.yaml.

Owns reading a whole document (a list of rules, `rules: […]`, or `buckets: {name: {rules: […]}}`) and
writing one. A problem names the dotted path and the line.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, cast

import orjson
import yaml

from scheduler.rules.lint import lint_rules
from scheduler.rules.model import KEPT_VALIDATORS, RuleSet, RuleType, SourceFormat, StorePart
from scheduler.rules.problems import (
    DocumentError,
    Findings,
    NotExpressible,
    Problem,
    ProblemKind,
    ReadOptions,
)
from scheduler.rules.validate import check_rule, check_set, first_rules
from scheduler.rules.written import WrittenRule
from scheduler.rules.yaml.fields import PLAIN, TIMEOUTS
from scheduler.rules.yaml.read import RuleReader
from scheduler.rules.yaml.tree import Value, from_data, from_text, report_unknown, wrong_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scheduler.rules.model import Header, HostGroup, OriginHost, Path, Rule

Warnings = tuple[Problem, ...]


def parse(text: str | bytes, options: ReadOptions | None = None) -> tuple[RuleSet, Warnings]:
    """Read the rules of one bucket.

    A document of several buckets is narrowed to `options.bucket`.

    Raises:
        DocumentError: with every problem found.
    """
    options = options or ReadOptions()
    found = parse_buckets(text, options)
    if len(found) == 1:
        return next(iter(found.values()))
    if options.bucket in found:
        return found[options.bucket]
    names = ", ".join(sorted(found)) or "none"
    raise DocumentError(
        [
            Problem(
                path="buckets",
                kind=ProblemKind.MISSING_FIELD,
                message=f"which bucket? the document has {names}",
            )
        ]
    )


def parse_buckets(
    text: str | bytes, options: ReadOptions | None = None
) -> dict[str, tuple[RuleSet, Warnings]]:
    """Read the rules of every bucket of a document; other sections of a config.yaml are not looked at.

    Rules without a bucket are those of `options.bucket`. A bucket without `rules` is left out: the API owns
    it.

    Raises:
        DocumentError: with every problem found.
    """
    options = options or ReadOptions()
    findings = Findings()
    root = from_text(text, findings)
    if root is None:
        findings.raise_any()
        return {}
    found: dict[str, tuple[RuleSet, Findings]] = {}
    buckets = root.get("buckets")
    if root.items is not None:
        found[options.bucket] = _read_rules(root, options, findings)
    elif root.absent:
        findings.add(root.place, ProblemKind.MISSING_FIELD, "empty; rules, or buckets, are needed")
    elif root.entries is None:
        wrong_type(root, dict, findings)
    elif buckets is None:
        rules = root.get("rules")
        root.asked.add("version")
        report_unknown(root, findings, strict=options.strict)
        if rules is None:
            findings.add(root.place, ProblemKind.MISSING_FIELD, "rules, or buckets, are needed")
        else:
            found[options.bucket] = _read_rules(rules, options, findings)
    elif buckets.entries is None:
        wrong_type(buckets, dict, findings)
    else:
        for name, bucket in buckets.entries.items():
            rules = bucket.get("rules")
            if rules is not None:
                found[name] = _read_rules(rules, replace(options, bucket=name), findings)
    findings.raise_any()
    return {name: (ruleset, tuple(own.warnings)) for name, (ruleset, own) in found.items()}


def read_rules(
    raw: Sequence[Any], options: ReadOptions | None = None, *, path: str = "rules"
) -> tuple[RuleSet, Warnings]:
    """Read rules that were parsed already (config.yaml's `buckets.<name>.rules`, a JSON body): no lines.

    Raises:
        DocumentError: with every problem found.
    """
    findings = Findings()
    ruleset, own = _read_rules(from_data(raw, path), options or ReadOptions(), findings)
    findings.raise_any()
    return ruleset, tuple(own.warnings)


def render(ruleset: RuleSet, *, lossy: bool = False) -> str:
    """The long form as YAML; only what differs from the defaults is written.

    Raises:
        NotExpressible: a field has no place in this form, unless `lossy`.
    """
    _refuse_losses(ruleset, lossy=lossy)
    return yaml.safe_dump(to_data(ruleset), sort_keys=False, allow_unicode=True, width=100)


def render_json(ruleset: RuleSet, *, lossy: bool = False) -> bytes:
    """The same as JSON.

    Raises:
        NotExpressible: see `render`.
    """
    _refuse_losses(ruleset, lossy=lossy)
    return orjson.dumps(to_data(ruleset), option=orjson.OPT_INDENT_2)


def losses(ruleset: RuleSet) -> list[str]:
    """What this form cannot say: redirect codes of the S3 dialect, and the documents of a web site (F50)."""
    found = [
        f"{rule.name}: answer.redirect_code"
        for rule in ruleset.rules
        if rule.answer.redirect_code not in {301, 302, 307}
    ]
    return found + [element.tag for element in ruleset.website]


def to_data(ruleset: RuleSet) -> dict[str, Any]:
    """`{"rules": […]}` of plain values."""
    return {"rules": [rule_data(rule) for rule in ruleset.rules]}


def rule_data(rule: Rule) -> dict[str, Any]:
    """One rule in the long form, without defaults."""
    data: dict[str, Any] = {"name": rule.name}
    if rule.priority is not None:
        data["priority"] = rule.priority
    data["type"] = rule.type.value
    sections = {
        "when": _when_data(rule),
        "request": _request_data(rule),
        "path": _path_data(rule.path),
        "origin": _origin_data(rule),
        "answer": _answer_data(rule),
        "store": _store_data(rule),
    }
    return data | {name: section for name, section in sections.items() if section}


def _refuse_losses(ruleset: RuleSet, *, lossy: bool) -> None:
    lost = losses(ruleset)
    if lost and not lossy:
        raise NotExpressible(lost, target="yaml")


def _read_rules(value: Value, options: ReadOptions, findings: Findings) -> tuple[RuleSet, Findings]:
    """Read a list of rules; problems go to `findings`, warnings to the returned ones."""
    own = Findings(problems=findings.problems)
    rules: list[Rule] = []
    written: list[WrittenRule] = []
    if value.items is None:
        wrong_type(value, list, own)
    for index, item in enumerate(first_rules(value.items or [], value.place, own)):
        where = WrittenRule(index=index, place=item.place, findings=own)
        before = len(own.problems) + own.more
        rule = RuleReader(item, where, options).read()
        if rule is None:
            continue
        if len(own.problems) + own.more == before or not _broken(where):
            check_rule(rule, where, SourceFormat.YAML, options)
        rules.append(rule)
        written.append(where)
    check_set(rules, written, value.place, own, SourceFormat.YAML, options)
    if not own.problems:
        for note in lint_rules(rules):
            own.warn(written[note.index].at(note.field), note.message)
    findings.more += own.more
    ruleset = RuleSet(
        bucket=options.bucket, owner=options.owner, rules=tuple(rules), source=SourceFormat.YAML
    )
    return ruleset, own


def _broken(where: WrittenRule) -> bool:
    """Whether a rule could not be read well enough for its limits to mean anything."""
    return "origin.hosts" in where.failed


def _plain_data(name: str, part: Any) -> dict[str, Any]:
    defaults = _defaults(part)
    data = {}
    for key, attribute, _ in PLAIN[name]:
        value = getattr(part, attribute)
        if value != defaults.get(attribute):
            data[key] = list(value) if isinstance(value, tuple) else value
    return data


def _defaults(part: Any) -> Mapping[str, Any]:
    kept = KEPT_VALIDATORS if isinstance(part, StorePart) else {}
    return {**{item.name: item.default for item in fields(cast("Any", type(part)))}, **kept}


def _when_data(rule: Rule) -> dict[str, Any]:
    when = rule.when
    data: dict[str, Any] = {}
    if when.status != (404,):
        data["status"] = list(when.status)
    data |= _plain_data("when", when)
    if when.headers:
        data["headers"] = [{"name": test.name, test.kind.value: test.value} for test in when.headers]
    return data


def _request_data(rule: Rule) -> dict[str, Any]:
    data = _plain_data("request", rule.request)
    if rule.origin.hosts and rule.origin.hosts[0].primary.scheme is not None:
        # A host with a scheme would give the rule its protocol, where it names none.
        data = {"protocol": rule.request.protocol, **data}
    if rule.request.new:
        data["new"] = _header_data(rule.request.new)
    return data


def _header_data(headers: Sequence[Header]) -> list[dict[str, str]]:
    return [{"name": header.name, "value": header.value} for header in headers]


def _path_data(path: Path) -> dict[str, Any]:
    data = _plain_data("path", path)
    for key in ("replace_prefix", "replace_suffix"):
        replacement = getattr(path, key)
        if replacement is not None:
            data[key] = {"from": replacement.old, "to": replacement.new}
    return data


def _origin_data(rule: Rule) -> dict[str, Any]:
    origin = rule.origin
    data: dict[str, Any] = {"hosts": [_group_data(group) for group in origin.hosts]}
    data |= _plain_data("origin", origin)
    timeouts = {
        key: getattr(origin.timeouts, attribute)
        for key, attribute in TIMEOUTS.items()
        if getattr(origin.timeouts, attribute) != getattr(type(origin.timeouts)(), attribute)
    }
    if timeouts:
        data["timeouts"] = timeouts
    if origin.budget is not None:
        data["budget"] = origin.budget.model_dump(mode="json", exclude_defaults=True)
    return data


def _group_data(group: HostGroup) -> dict[str, Any]:
    data = _host_data(group.primary)
    if group.weight != 1:
        data["weight"] = group.weight
    if group.standbys:
        data["standbys"] = [
            standby.host if len(_host_data(standby)) == 1 else _host_data(standby)
            for standby in group.standbys
        ]
    return data


def _host_data(host: OriginHost) -> dict[str, Any]:
    data: dict[str, Any] = {"host": host.host}
    if host.scheme is not None:
        data["scheme"] = host.scheme
    if host.base_path != "/":
        data["base_path"] = host.base_path
    if host.credential is not None:
        data["credential"] = host.credential
    return data


def _answer_data(rule: Rule) -> dict[str, Any]:
    answer = rule.answer
    data: dict[str, Any] = {}
    if answer.transparent != "none":
        transparent = answer.transparent
        data["transparent"] = list(transparent) if isinstance(transparent, tuple) else transparent
    data |= _plain_data("answer", answer)
    if rule.type is RuleType.MIRROR:
        data.pop("redirect_code", None)
    if answer.return_headers:
        data["return_headers"] = _header_data(answer.return_headers)
    return data


def _store_data(rule: Rule) -> dict[str, Any]:
    data = _plain_data("store", rule.store)
    if rule.store.tags:
        data["tags"] = dict(rule.store.tags)
    return data
