"""A vendor's document as a whole: from text to a checked rule set.

Owns the way that both vendors share: parse safely, check the root, read the rules, check limits, lint.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from scheduler.rules.lint import lint_rules
from scheduler.rules.model import RuleSet, SourceFormat
from scheduler.rules.problems import Findings, Place, Problem, ProblemKind, ReadOptions
from scheduler.rules.validate import check_rule, check_set, first_rules
from scheduler.rules.xml_tree import MAX_DOCUMENT_BYTES, BadXml, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.rules.model import Rule
    from scheduler.rules.written import WrittenRule
    from scheduler.rules.xml_tree import XmlElement

    ReadRoot = Callable[[XmlElement, Findings, ReadOptions], list[tuple[Rule, WrittenRule]]]

Warnings = tuple[Problem, ...]

#: Options to read again what was accepted once.
KEEP = ReadOptions(owner="file", allow_networks=("0.0.0.0/0", "::/0"), redirect_code_with_mirror=True)


def read_document(
    text: str | bytes,
    root_tag: str,
    read_root: ReadRoot,
    source: SourceFormat,
    options: ReadOptions,
    *,
    needs_rules: bool = True,
) -> tuple[RuleSet, Warnings]:
    """Read a document into a checked rule set and its warnings.

    Raises:
        DocumentError: with every problem found.
    """
    findings = Findings()
    root = _root(text, root_tag, findings)
    rules: list[tuple[Rule, WrittenRule]] = []
    if root is not None:
        rules = read_root(root, findings, options)
        if not rules and needs_rules:
            place = Place(path=root_tag, line=root.line)
            findings.add(place, ProblemKind.MISSING_FIELD, "at least one rule is needed")
        for rule, where in rules:
            check_rule(rule, where, source, options)
        place = Place(path=root_tag, line=root.line)
        check_set(
            [rule for rule, _ in rules], [where for _, where in rules], place, findings, source, options
        )
    findings.raise_any()
    for note in lint_rules([rule for rule, _ in rules]):
        findings.warn(rules[note.index][1].at(note.field), note.message)
    ruleset = RuleSet(
        bucket=options.bucket,
        owner=options.owner,
        rules=tuple(rule for rule, _ in rules),
        source=source,
    )
    return ruleset, tuple(findings.warnings)


def first_rule_elements(parent: XmlElement, tag: str, place: Place, findings: Findings) -> XmlElement:
    """The element with no more rules than a set may have; `first_rules` says what is wrong with more."""
    kept = {id(child) for child in first_rules(parent.all(tag), place, findings)}
    if len(kept) == len(parent.all(tag)):
        return parent
    children = tuple(child for child in parent.children if child.tag != tag or id(child) in kept)
    return replace(parent, children=children)


def _root(text: str | bytes, root_tag: str, findings: Findings) -> XmlElement | None:
    size = len(text.encode()) if isinstance(text, str) else len(text)
    if size > MAX_DOCUMENT_BYTES:
        message = f"{size} bytes; at most {MAX_DOCUMENT_BYTES} are read"
        findings.add(Place(path=""), ProblemKind.TOO_LARGE, message)
        return None
    try:
        root = parse(text)
    except BadXml as error:
        findings.add(Place(path="", line=error.line), ProblemKind.BAD_XML, str(error))
        return None
    if root.tag != root_tag:
        message = f"the root element is {root.tag}, {root_tag} is needed"
        findings.add(Place(path=root.tag, line=root.line), ProblemKind.BAD_XML, message)
        return None
    return root
