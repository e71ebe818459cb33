"""Whether the rules of every bucket can be read, and what in them is probably a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.doctor.model import Subject
from scheduler.rules.in_force.apply import read_file_rules
from scheduler.rules.lint import lint_rules
from scheduler.rules.problems import DocumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.config.settings import Settings
    from scheduler.doctor.model import Finding
    from scheduler.rules.model import RuleSet


def check(settings: Settings, in_force: Mapping[str, RuleSet]) -> tuple[list[Finding], dict[str, RuleSet]]:
    """The findings, and the rule sets to look at further: the file's, and others that are in force."""
    found = Subject("rules")
    sets = dict(in_force)
    try:
        from_file, warnings = read_file_rules(settings)
    except DocumentError as error:
        for problem in error.problems:
            found.failed("document", str(problem), "correct it there; the rules in force stay meanwhile")
        from_file, warnings = {}, ()
    sets.update(from_file)
    for warning in warnings:
        found.warning("document", str(warning), "see the field's row in docs/semantics.md")
    for bucket in sorted({*settings.buckets, *sets}):
        ruleset = sets.get(bucket)
        if ruleset is None or not ruleset.rules:
            remedy = "give it rules in the configuration file, by `ferryman rules`, or by the vendor's API"
            found.warning("present", "no rule is in force: no miss is ever pulled", remedy, of=bucket)
            continue
        number = f"{len(ruleset.rules)} rule{'' if len(ruleset.rules) == 1 else 's'}"
        found.ok("present", f"{number}, owned by the {ruleset.owner}", of=bucket)
        for note in lint_rules(ruleset.rules):
            name = ruleset.rules[note.index].name
            found.warning(
                "lint", f"rule {name}: {note.field}: {note.message}", "see docs/semantics.md", of=bucket
            )
    return found.findings, sets
