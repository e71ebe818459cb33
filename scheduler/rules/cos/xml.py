"""Rule sets as COS `OriginConfiguration`, both ways (SEMANTICS.md 1.2 and 9).

Owns the document as a whole and its writing. A rule that was read from this format is written as it came;
others are written anew, as far as the format has words for them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from scheduler.rules.cos.read import ORIGIN_CONFIGURATION, ORIGIN_RULE, read_rule
from scheduler.rules.keys import encode_path
from scheduler.rules.model import RuleType, SourceFormat
from scheduler.rules.problems import Findings, NotExpressible, Place, ReadOptions
from scheduler.rules.written import WrittenRule
from scheduler.rules.xml.differences import all_hosts, differences, same_meaning
from scheduler.rules.xml.document import KEEP, Warnings, first_rule_elements, read_document
from scheduler.rules.xml.schema import MASK, branch, leaf, leaf_if, read
from scheduler.rules.xml_tree import XmlElement, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.rules.model import HostGroup, OriginHost, Path, Replacement, Rule, RuleSet

ROOT = "OriginConfiguration"

#: Canonical fields that have an element, some of them only for some values.
_EXPRESSIBLE = frozenset(
    {
        "when.status",
        "when.prefix",
        "when.suffix",
        "when.hosts_allow",
        "when.hosts_deny",
        "request.protocol",
        "request.follow_query",
        "request.pass_all",
        "request.pass",
        "request.forbid",
        "request.new",
        "request.follow_redirects",
        "request.redirect_headers",
        "request.redirect_decode",
        "origin.switch_codes",
        "path.fixed",
        "path.add_prefix",
        "path.replace_prefix",
        "path.add_suffix",
        "path.replace_suffix",
        "answer.transparent",
        "answer.redirect_code",
        "store.save",
    }
)
_KEY = "${key}"
_TYPES = {RuleType.MIRROR: "Mirror", RuleType.PROXY: "Proxy", RuleType.REDIRECT: "Redirect"}


def parse(text: str | bytes, options: ReadOptions | None = None) -> tuple[RuleSet, Warnings]:
    """Read a document.

    Raises:
        DocumentError: with every problem found, by element path and line.
    """
    return read_document(text, ROOT, _read_root, SourceFormat.COS, options or ReadOptions())


def render(ruleset: RuleSet, *, lossy: bool = False, indent: int | None = None) -> str:
    """The document of a rule set: what was written, or what differs from the defaults.

    Without `indent` (spaces a level, for people) it is in the normal form of section 9.

    Raises:
        NotExpressible: a field has no element in this format, unless `lossy` (W12).
    """
    lost = losses(ruleset)
    if lost and not lossy:
        raise NotExpressible(lost, target="cos")
    rules = tuple(_rule_element(rule, ruleset) for rule in ruleset.rules)
    return write(XmlElement(tag=ROOT, children=rules), indent=indent)


def losses(ruleset: RuleSet) -> list[str]:
    """Fields that this format cannot say, as `rule: field`."""
    if ruleset.source is SourceFormat.COS:
        return [
            f"{rule.name}: {field}"
            for rule in ruleset.rules
            if not _as_written(rule)
            for field in _lost(rule)
        ]
    return [f"{rule.name}: {field}" for rule in ruleset.rules for field in _lost(rule)] + [
        element.tag for element in ruleset.website
    ]


# -------------------------------------------------------------------- reading


def _read_root(root: XmlElement, findings: Findings, options: ReadOptions) -> list[tuple[Rule, WrittenRule]]:
    root = first_rule_elements(root, "OriginRule", Place(path=ROOT, line=root.line), findings)
    cursor = read(root, ORIGIN_CONFIGURATION, "", findings, strict=options.strict)
    rules = []
    for index, item in enumerate(cursor.all("OriginRule")):
        where = WrittenRule(index=index, place=item.place, findings=findings)
        rules.append((read_rule(item, where, options), where))
    return rules


def _as_written(rule: Rule) -> bool:
    """Whether the element that the rule was read from still says what the rule says."""
    if rule.written is None or rule.written.tag != "OriginRule":
        return False
    findings = Findings()
    cursor = read(rule.written, ORIGIN_RULE, "OriginRule", findings)
    where = WrittenRule(index=0, place=Place(path="OriginRule"), findings=findings)
    again = read_rule(cursor, where, KEEP)
    return same_meaning(again, rule) and not findings.problems


# -------------------------------------------------------------------- writing


def _lost(rule: Rule) -> list[str]:
    folded = _fold_base_path(rule)
    lost = [field for field in differences(folded) if field not in _EXPRESSIBLE]
    if len(folded.when.status) != 1 or not isinstance(folded.when.status[0], int):
        lost.append("when.status")
    if isinstance(folded.answer.transparent, tuple):
        lost.append("answer.transparent")
    if rule.answer.redirect_code not in {301, 302, 307}:
        lost.append("answer.redirect_code")
    if folded.path.fixed == "":
        lost.append("path.fixed")  # an empty element says nothing
    if folded.path.add_prefix and folded.path.replace_prefix is not None:
        lost.append("path.add_prefix")
    if folded.path.add_suffix and folded.path.replace_suffix is not None:
        lost.append("path.add_suffix")
    if not rule.store.user_meta and rule.type is RuleType.REDIRECT:
        lost.remove("store.user_meta")
    if any(host.base_path != "/" for host in all_hosts(folded)):
        lost.append("origin.hosts.base_path")
    if any(host.scheme is not None for host in all_hosts(folded)):
        lost.append("origin.hosts.scheme")
    return lost


def _fold_base_path(rule: Rule) -> Rule:
    """The same rule with a common base path moved into the path, where that gives the same URLs."""
    rule = replace(rule, path=_plain_path(rule.path))
    bases = {host.base_path for host in all_hosts(rule)}
    base = unquote(next(iter(bases))) if len(bases) == 1 else "/"
    path = rule.path
    if base == "/" or encode_path(base) not in bases or path.template or path.pass_original_slashes:
        return rule
    if path.fixed is not None:
        path = replace(path, fixed=base[1:] + path.fixed.removeprefix("/"))
    elif path.add_prefix.startswith("/"):
        return rule
    elif path.replace_prefix is not None:
        # Foldable only where every key that matches has the prefix.
        if not rule.when.prefix.startswith(path.replace_prefix.old):
            return rule
        new = base[1:] + path.add_prefix + path.replace_prefix.new
        path = replace(path, add_prefix="", replace_prefix=replace(path.replace_prefix, new=new))
    else:
        path = replace(path, add_prefix=base[1:] + path.add_prefix)

    def moved(host: OriginHost) -> OriginHost:
        return replace(host, base_path="/")

    hosts = tuple(
        replace(group, primary=moved(group.primary), standbys=tuple(map(moved, group.standbys)))
        for group in rule.origin.hosts
    )
    return replace(rule, path=path, origin=replace(rule.origin, hosts=hosts))


def _plain_path(path: Path) -> Path:
    """The same path without a template, where what stands around the key says it (F30, F32, F29)."""
    if path.template is None or path.template.count(_KEY) > 1:
        return path
    before, key, after = path.template.partition(_KEY)
    if not key:
        return replace(path, template=None, fixed=path.template)
    return replace(path, template=None, add_prefix=before, add_suffix=after)


def _rule_element(rule: Rule, ruleset: RuleSet) -> XmlElement:
    if ruleset.source is SourceFormat.COS and rule.written is not None and _as_written(rule):
        return rule.written
    rule = _fold_base_path(rule)
    children = (
        None if rule.priority is None else leaf("RulePriority", rule.priority),
        leaf("OriginType", _TYPES[rule.type]),
        _condition(rule),
        _parameter(rule),
        branch("HTTPStandbyCode", [leaf("StatusCode", code) for code in rule.origin.switch_codes]),
        branch("OriginInfo", [*map(_host_info, rule.origin.hosts), _file_info(rule.path)]),
    )
    return branch("OriginRule", children) or XmlElement(tag="OriginRule")


def _condition(rule: Rule) -> XmlElement | None:
    when = rule.when
    codes = [test for test in when.status if isinstance(test, int)]
    return branch(
        "OriginCondition",
        (
            leaf("HTTPStatusCode", codes[0] if codes else 404),
            leaf("Prefix", when.prefix),
            leaf_if("Suffix", when.suffix, ""),
            _filter("FilterHost", when.hosts_allow),
            _filter("ForbidHost", when.hosts_deny),
        ),
    )


def _filter(tag: str, names: Sequence[str]) -> XmlElement | None:
    return branch(tag, [branch("DomainList", [leaf("Domain", name) for name in names])])


def _parameter(rule: Rule) -> XmlElement | None:
    request = rule.request
    code = rule.answer.redirect_code
    header = branch(
        "HttpHeader",
        (
            leaf_if("FollowAllHeaders", request.pass_all, default=False),
            _headers("NewHttpHeaders", [(header.name, header.value) for header in request.new]),
            _headers("FollowHttpHeaders", [(name, None) for name in request.pass_]),
            _headers("ForbidFollowHeaders", [(name, None) for name in request.forbid]),
        ),
    )
    redirect = branch(
        "FollowRedirectionConfiguration",
        (
            leaf_if("FollowOriginHeaders", request.redirect_headers, default=False),
            leaf_if("FollowUrlAutoDecode", request.redirect_decode, default=False),
        ),
    )
    return branch(
        "OriginParameter",
        (
            leaf("Protocol", request.protocol.upper()),
            leaf_if("TransparentErrorCode", rule.answer.transparent == "all", default=False),
            leaf("FollowQueryString", request.follow_query),
            header,
            leaf("FollowRedirection", request.follow_redirects),
            redirect,
            None if rule.type is RuleType.MIRROR else leaf_if("HttpRedirectCode", code, default=302),
            leaf_if("CopyOriginData", rule.store.save, default=True),
        ),
    )


def _headers(tag: str, pairs: Sequence[tuple[str, str | None]]) -> XmlElement | None:
    items = [
        branch("Header", (leaf("Key", name), None if value is None else leaf("Value", value)))
        for name, value in pairs
    ]
    return branch(tag, items)


def _host_info(group: HostGroup) -> XmlElement | None:
    hosts = [("", group.primary), *((f"_{n}", host) for n, host in enumerate(group.standbys, start=1))]
    plain = [
        leaf(f"StandbyHostName{number}" if number else "HostName", host.host)
        for number, host in hosts
        if host.credential is None
    ]
    private = [
        _private_host(f"PrivateStandbyHost{number}" if number else "PrivateHost", host)
        for number, host in hosts
        if host.credential is not None
    ]
    weight = leaf_if("Weight", group.weight, default=1)
    first = 0 if group.primary.credential is not None else 1
    return branch("HostInfo", [*plain[:first], weight, *plain[first:], *private])


def _private_host(tag: str, host: OriginHost) -> XmlElement | None:
    provider = branch("CredentialProvider", (leaf("SecretId", host.credential), leaf("SecretKey", MASK)))
    return branch(tag, (leaf("Host", host.host), provider))


def _file_info(path: Path) -> XmlElement | None:
    fixed = None
    if path.fixed is not None:
        fixed = branch("FixedFileConfiguration", (leaf("FixedFilePath", path.fixed),))
    return branch(
        "FileInfo",
        (
            fixed,
            _affix("Prefix", path.add_prefix, path.replace_prefix),
            _affix("Suffix", path.add_suffix, path.replace_suffix),
        ),
    )


def _affix(tag: str, added: str, replacement: Replacement | None) -> XmlElement | None:
    if replacement is not None:
        children = (leaf(tag, replacement.old), leaf(f"ReplacedWith{tag}", replacement.new))
        return branch(f"{tag}Configuration", children)
    return branch(f"{tag}Configuration", (leaf_if(tag, added, ""),))
