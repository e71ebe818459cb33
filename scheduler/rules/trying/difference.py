"""What changes between two rule sets: the names of rules, and the lines of the canonical document. PURE.

Owns the comparison that is shown before rules are put in force and between versions of the history.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal

from scheduler.rules.yaml import document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.rules.model import RuleSet

#: Lines that are the same, shown around a change.
CONTEXT_LINES = 3
#: Longer differences end with a line that says so.
MAX_LINES = 2000

Sign = Literal["+", "-", " ", "@"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceLine:
    """One line: added, removed, the same; `@` stands for lines that are left out."""

    sign: Sign
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Names of rules in the order of their documents, and the lines."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    #: The rules are the same ones, asked in another order.
    reordered: bool
    lines: tuple[DifferenceLine, ...]


def difference(before: RuleSet | None, after: RuleSet | None) -> Difference:
    """What `after` says otherwise than `before`; None is a bucket without rules."""
    old = {rule.name: document.rule_data(rule) for rule in (before.rules if before else ())}
    new = {rule.name: document.rule_data(rule) for rule in (after.rules if after else ())}
    kept = [name for name in old if name in new]
    lines = tuple(_lines(_text(before), _text(after)))
    if len(lines) > MAX_LINES:
        left = len(lines) - MAX_LINES
        lines = (*lines[:MAX_LINES], DifferenceLine(sign="@", text=f"{left} more lines"))
    return Difference(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(name for name in kept if old[name] != new[name]),
        reordered=kept != [name for name in new if name in old],
        lines=lines,
    )


def _text(ruleset: RuleSet | None) -> list[str]:
    return document.render(ruleset, lossy=True).splitlines() if ruleset is not None else []


def _lines(old: list[str], new: list[str]) -> Iterator[DifferenceLine]:
    last_old = 0
    for group in SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(CONTEXT_LINES):
        skipped = group[0][1] - last_old
        if skipped:
            yield DifferenceLine(sign="@", text=f"{skipped} lines that stay")
        for kind, old_from, old_to, new_from, new_to in group:
            if kind == "equal":
                yield from (DifferenceLine(sign=" ", text=text) for text in old[old_from:old_to])
                continue
            yield from (DifferenceLine(sign="-", text=text) for text in old[old_from:old_to])
            yield from (DifferenceLine(sign="+", text=text) for text in new[new_from:new_to])
        last_old = group[-1][2]
    if last_old and last_old < len(old):
        yield DifferenceLine(sign="@", text=f"{len(old) - last_old} lines that stay")
