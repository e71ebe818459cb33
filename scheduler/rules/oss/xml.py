"""Rule sets as OSS `WebsiteConfiguration`, and its S3 dialect, both ways (SEMANTICS.md 1.2, 9 and D24).

Owns the document as a whole and its writing. A rule that was read from this format is written as it came;
others are written anew, as far as the format has words for them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from scheduler.rules.model import RuleType, SourceFormat
from scheduler.rules.oss.read import OssRuleReader
from scheduler.rules.oss.schema import ROUTING_RULE, WEBSITE
from scheduler.rules.oss.write import lost_fields, rule_element, rule_numbers
from scheduler.rules.problems import Findings, NotExpressible, Place, ProblemKind, ReadOptions
from scheduler.rules.written import WrittenRule
from scheduler.rules.xml.differences import same_meaning
from scheduler.rules.xml.document import KEEP, Warnings, first_rule_elements, read_document
from scheduler.rules.xml.schema import branch, leaf, read
from scheduler.rules.xml_tree import BadXml, XmlElement, write
from scheduler.rules.xml_tree import parse as parse_tree

if TYPE_CHECKING:
    from scheduler.rules.model import Rule, RuleSet
    from scheduler.rules.xml.schema import Cursor

ROOT = "WebsiteConfiguration"

_WEBSITE_TAGS = ("IndexDocument", "ErrorDocument")


def parse(text: str | bytes, options: ReadOptions | None = None) -> tuple[RuleSet, Warnings]:
    """Read a document; one whose rules all lack number and type is the S3 dialect (D24).

    Raises:
        DocumentError: with every problem found, by element path and line.
    """
    options = options or ReadOptions()
    source = _dialect(text)
    documents: list[XmlElement] = []

    def read_root(
        root: XmlElement, findings: Findings, options: ReadOptions
    ) -> list[tuple[Rule, WrittenRule]]:
        place = Place(path=ROOT, line=root.line)
        cut = (first_rule_elements(child, "RoutingRule", place, findings) for child in root.children)
        root = replace(root, children=tuple(cut))
        cursor = read(root, WEBSITE, "", findings, strict=options.strict)
        documents.extend(_website(cursor, findings))
        given = [*documents, *cursor.all("RoutingRules", "RoutingRule"), *cursor.all("RedirectAllRequestsTo")]
        if not given:
            message = "IndexDocument, ErrorDocument or RoutingRules/RoutingRule is needed"
            findings.add(Place(path=ROOT, line=root.line), ProblemKind.MISSING_FIELD, message)
        return _rules(cursor, source, findings, options)

    ruleset, warnings = read_document(text, ROOT, read_root, source, options, needs_rules=False)
    return replace(ruleset, website=tuple(documents)), warnings


def render(ruleset: RuleSet, *, lossy: bool = False, indent: int | None = None) -> str:
    """The document of a rule set: what was written, or what differs from the defaults.

    Without `indent` (spaces a level, for people) it is in the normal form of section 9.

    Raises:
        NotExpressible: a field has no element in this format, unless `lossy` (W12).
    """
    lost = losses(ruleset)
    if lost and not lossy:
        raise NotExpressible(lost, target="oss")
    kept = [_written(rule, ruleset.source) for rule in ruleset.rules]
    if ruleset.source is SourceFormat.S3 and not all(kept):
        kept = [None] * len(kept)
    numbers = rule_numbers(ruleset)
    rules = [
        element or rule_element(rule, numbers[rule.name])
        for rule, element in zip(ruleset.rules, kept, strict=True)
    ]
    children = [*ruleset.website, branch("RoutingRules", rules)]
    present = tuple(child for child in children if child is not None)
    return write(XmlElement(tag=ROOT, children=present), indent=indent)


def losses(ruleset: RuleSet) -> list[str]:
    """Fields that this format cannot say, as `rule: field`."""
    return [
        f"{rule.name}: {field}"
        for rule in ruleset.rules
        if _written(rule, ruleset.source) is None
        for field in lost_fields(rule)
    ]


# -------------------------------------------------------------------- reading


def _dialect(text: str | bytes) -> SourceFormat:
    """S3 when there are rules and none has a number or a type; what cannot be read is told later."""
    try:
        root = parse_tree(text)
    except BadXml:
        return SourceFormat.OSS
    rules = [rule for rules in root.all("RoutingRules") for rule in rules.all("RoutingRule")]
    return SourceFormat.S3 if rules and not any(map(_numbered_or_typed, rules)) else SourceFormat.OSS


def _numbered_or_typed(rule: XmlElement | Cursor) -> bool:
    return any(
        child.tag == "RuleNumber" or any(below.tag == "RedirectType" for below in child.children)
        for child in rule.children
    )


def _rules(
    cursor: Cursor, source: SourceFormat, findings: Findings, options: ReadOptions
) -> list[tuple[Rule, WrittenRule]]:
    rules = []
    for index, item in enumerate(cursor.all("RoutingRules", "RoutingRule")):
        where = WrittenRule(index=index, place=item.place, findings=findings)
        if source is SourceFormat.OSS and not _numbered_or_typed(item):
            message = "neither RuleNumber nor RedirectType, which other rules of this document have"
            findings.add(item.place, ProblemKind.CONFLICT, message)
            continue
        rules.append((OssRuleReader(item, where, source, options).read(), where))
    return rules


def _website(cursor: Cursor, findings: Findings) -> list[XmlElement]:
    """F50: kept, without effect."""
    whole = cursor.get("RedirectAllRequestsTo")
    if whole is not None:
        message = "redirects of a whole bucket are a rule with an empty prefix here"
        findings.add(whole.place, ProblemKind.UNSUPPORTED, message)
    found = [item for tag in _WEBSITE_TAGS if (item := cursor.get(tag)) is not None]
    for item in found:
        findings.warn(item.place, "ignored: the front is no web site host; kept as it is")
    return [item.element() for item in found]


def _written(rule: Rule, source: SourceFormat) -> XmlElement | None:
    """The element that the rule was read from, completed, while it still says what the rule says."""
    if rule.written is None or rule.written.tag != "RoutingRule":
        return None
    findings = Findings()
    cursor = read(rule.written, ROUTING_RULE, "RoutingRule", findings)
    where = WrittenRule(index=0, place=Place(path="RoutingRule"), findings=findings)
    again = OssRuleReader(cursor, where, source, KEEP).read()
    if not same_meaning(again, rule) or findings.problems:
        return None
    if source is SourceFormat.S3:
        return rule.written
    # An SDK fails on an empty status: 404 is what a mirror means without one. `any` has no number.
    return _with_condition(rule.written, status="404" if rule.type is RuleType.MIRROR else "")


def _with_condition(rule: XmlElement, *, status: str) -> XmlElement:
    """Both elements of a condition, always: an SDK fails to read a rule without either (section 9)."""
    condition = rule.find("Condition") or XmlElement(tag="Condition")
    wanted = {"KeyPrefixEquals": "", "HttpErrorCodeReturnedEquals": status}
    given = {child.tag for child in condition.children if child.text or not wanted.get(child.tag)}
    missing = [leaf(tag, text) for tag, text in wanted.items() if tag not in given]
    if not missing:
        return rule
    order = list(ROUTING_RULE.children["Condition"].children)
    kept = [child for child in condition.children if child.tag in given]
    children = sorted((*kept, *missing), key=lambda child: order.index(child.tag))
    whole = replace(condition, children=tuple(children))
    return replace(
        rule, children=tuple(whole if child.tag == "Condition" else child for child in rule.children)
    )
