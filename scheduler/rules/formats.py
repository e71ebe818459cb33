"""Which codec a document needs, and writing a rule set in any form.

Owns the names of the forms on the command line. The codecs are `document`, `cos_xml` and `oss_xml`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from scheduler.rules.cos import xml as cos_xml
from scheduler.rules.oss import xml as oss_xml
from scheduler.rules.problems import DocumentError, Problem, ProblemKind
from scheduler.rules.xml_tree import BadXml
from scheduler.rules.xml_tree import parse as parse_tree
from scheduler.rules.yaml import document

if TYPE_CHECKING:
    from scheduler.rules.model import RuleSet
    from scheduler.rules.problems import ReadOptions


class Form(StrEnum):
    """What a rule set can be written as."""

    YAML = "yaml"
    JSON = "json"
    COS = "cos"
    OSS = "oss"


Found = dict[str, tuple["RuleSet", tuple[Problem, ...]]]


def is_xml(text: str) -> bool:
    """Whether a document is one of the XML ones."""
    return text.removeprefix("\ufeff").lstrip().startswith("<")


def read_any(text: str, options: ReadOptions) -> Found:
    """Rule sets and warnings of a document of any form, by bucket.

    A vendor's document, and a bare list of rules, are those of `options.bucket`. XML is read as what the API
    would be sent unless the options say otherwise.

    Raises:
        DocumentError: with every problem found.
    """
    if not is_xml(text):
        return document.parse_buckets(text, options)
    try:
        root = parse_tree(text).tag
    except BadXml:
        root = cos_xml.ROOT if cos_xml.ROOT in text else oss_xml.ROOT
    if root == cos_xml.ROOT:
        return {options.bucket: cos_xml.parse(text, options)}
    if root == oss_xml.ROOT:
        return {options.bucket: oss_xml.parse(text, options)}
    message = f"the root element is {root}; known: {cos_xml.ROOT}, {oss_xml.ROOT}"
    raise DocumentError([Problem(path=root, kind=ProblemKind.BAD_XML, message=message)])


def write_as(ruleset: RuleSet, form: Form, *, lossy: bool = False) -> str:
    """The text of a rule set in a form, for people: XML is indented.

    Raises:
        NotExpressible: fields would be lost, unless `lossy`.
    """
    if form is Form.YAML:
        return document.render(ruleset, lossy=lossy)
    if form is Form.JSON:
        return document.render_json(ruleset, lossy=lossy).decode() + "\n"
    if form is Form.COS:
        return cos_xml.render(ruleset, lossy=lossy, indent=2)
    return oss_xml.render(ruleset, lossy=lossy, indent=2)


def losses(ruleset: RuleSet, form: Form) -> list[str]:
    """What a form cannot say of a rule set, as `rule: field`; empty when it says everything."""
    if form in {Form.YAML, Form.JSON}:
        return document.losses(ruleset)
    return cos_xml.losses(ruleset) if form is Form.COS else oss_xml.losses(ruleset)
