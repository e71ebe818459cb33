"""A canonical rule as a `RoutingRule` of OSS, and what that form has no words for (W12).

Owns writing anew; a rule that was read from this format is written as it came by `scheduler.rules.oss.xml`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.rules.matching import ordered
from scheduler.rules.model import RuleType
from scheduler.rules.xml.differences import all_hosts, differences
from scheduler.rules.xml.schema import MASK, branch, leaf, leaf_if
from scheduler.rules.xml_tree import XmlElement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.rules.model import OriginHost, Rule, RuleSet

#: Canonical fields that have an element, some of them only for some values.
_EXPRESSIBLE = frozenset(
    {
        "when.status",
        "when.prefix",
        "when.suffix",
        "when.headers",
        "request.protocol",
        "request.follow_query",
        "request.pass_all",
        "request.pass",
        "request.forbid",
        "request.new",
        "request.follow_redirects",
        "request.sni",
        "request.probe_url",
        "path.fixed",
        "path.add_prefix",
        "path.add_suffix",
        "path.replace_prefix",
        "path.template",
        "path.pass_original_slashes",
        "origin.switch_all",
        "origin.async_status",
        "answer.transparent",
        "answer.redirect_code",
        "answer.allow_head",
        "answer.return_headers",
        "store.save",
        "store.check_md5",
        "store.user_meta",
        "store.last_modified",
        "store.tags",
    }
)
#: What of these a redirect has no element for.
_MIRROR_ONLY = frozenset(
    {
        "request.pass_all",
        "request.pass",
        "request.forbid",
        "request.new",
        "request.follow_redirects",
        "request.sni",
        "request.probe_url",
        "path.pass_original_slashes",
        "origin.switch_all",
        "origin.async_status",
        "answer.transparent",
        "answer.allow_head",
        "answer.return_headers",
        "store.save",
        "store.check_md5",
        "store.last_modified",
        "store.tags",
    }
)


def lost_fields(rule: Rule) -> list[str]:
    """Canonical names of fields that this form has no words for."""
    mirror = rule.type is RuleType.MIRROR
    allowed = _EXPRESSIBLE if mirror else _EXPRESSIBLE - _MIRROR_ONLY
    lost = [field for field in differences(rule) if field not in allowed]
    if rule.type is RuleType.PROXY:
        lost.append("type")
    if len(rule.when.status) != 1 or rule.when.status[0] in {"4xx", "5xx"}:
        lost.append("when.status")
    if mirror and rule.request.protocol == "follow":
        lost.append("request.protocol")
    if max(len(rule.request.pass_), len(rule.request.forbid)) > 10:
        lost.append("request.pass")
    if rule.answer.transparent == "all":
        lost.append("answer.transparent")
    if rule.answer.redirect_code not in {301, 302, 307}:
        lost.append("answer.redirect_code")
    if rule.store.check_md5 == "spool":
        lost.append("store.check_md5")
    return lost + _lost_path(rule) + _lost_hosts(rule, mirror=mirror)


def _lost_path(rule: Rule) -> list[str]:
    path = rule.path
    lost = []
    if path.fixed is not None and ("${" in path.fixed or not path.fixed):
        lost.append("path.fixed")
    if path.replace_prefix is not None:
        if path.replace_prefix.old != rule.when.prefix:
            lost.append("path.replace_prefix")
        lost += [f"path.add_{end}" for end in ("prefix", "suffix") if getattr(path, f"add_{end}")]
    if "${" in f"{path.add_prefix}{path.add_suffix}":
        lost.append("path.add_prefix")
    return lost


def _lost_hosts(rule: Rule, *, mirror: bool) -> list[str]:
    hosts = list(all_hosts(rule))
    lost = []
    if len(rule.origin.hosts) > 1:
        lost.append("origin.hosts")
    if len({host.credential for host in hosts}) > 1:
        lost.append("origin.hosts.credential")
    if not mirror:
        if rule.origin.hosts[0].standbys:
            lost.append("origin.hosts.standbys")
        if hosts[0].base_path != "/":
            lost.append("origin.hosts.base_path")
        if hosts[0].scheme is not None or hosts[0].credential is not None:
            lost.append("origin.hosts.scheme")
    elif hosts[0].scheme is not None:
        lost.append("origin.hosts.scheme")
    return lost


def rule_numbers(ruleset: RuleSet) -> dict[str, int]:
    """RuleNumber by rule: the priorities, or, where one is missing, the order of matching."""
    rules = ordered(ruleset)
    if all(rule.priority is not None for rule in rules):
        return {rule.name: rule.priority or 0 for rule in rules}
    return {rule.name: number for number, rule in enumerate(rules, start=1)}


def rule_element(rule: Rule, number: int) -> XmlElement:
    """The rule as an element, with this `RuleNumber`."""
    status = rule.when.status[0]
    condition = branch(
        "Condition",
        (
            leaf("KeyPrefixEquals", rule.when.prefix),
            leaf_if("KeySuffixEquals", rule.when.suffix, ""),
            leaf("HttpErrorCodeReturnedEquals", status if isinstance(status, int) else ""),
            *(
                branch("IncludeHeader", (leaf("Key", test.name), leaf(_TEST_TAGS[test.kind], test.value)))
                for test in rule.when.headers
            ),
        ),
    )
    redirect = branch("Redirect", _mirror(rule) if rule.type is RuleType.MIRROR else _external(rule))
    children = (leaf("RuleNumber", number), condition, redirect)
    return XmlElement(tag="RoutingRule", children=tuple(child for child in children if child is not None))


_TEST_TAGS = {"equals": "Equals", "starts_with": "StartsWith", "ends_with": "EndsWith"}


def _external(rule: Rule) -> list[XmlElement | None]:
    protocol = rule.request.protocol
    return [
        leaf("RedirectType", "External"),
        leaf("PassQueryString", rule.request.follow_query),
        None if protocol == "follow" else leaf("Protocol", protocol),
        leaf("HostName", rule.origin.hosts[0].primary.host),
        *_replacements(rule),
        leaf("HttpRedirectCode", rule.answer.redirect_code),
    ]


def _mirror(rule: Rule) -> list[XmlElement | None]:
    request, answer, store, origin = rule.request, rule.answer, rule.store, rule.origin
    group = origin.hosts[0]
    scheme = "http" if request.protocol == "follow" else request.protocol
    urls = [_url(host, scheme) for host in group.standbys]
    slave, alternates = (urls[:1], urls[1:]) if request.probe_url is not None else ([], urls)
    headers = branch(
        "MirrorHeaders",
        (
            leaf_if("PassAll", request.pass_all, default=False),
            *(leaf("Pass", name) for name in request.pass_),
            *(leaf("Remove", name) for name in request.forbid),
            *_pairs("Set", [(header.name, header.value) for header in request.new]),
        ),
    )
    returned = _pairs("ReturnHeader", [(header.name, header.value) for header in answer.return_headers])
    codes = answer.transparent if isinstance(answer.transparent, tuple) else ()
    return [
        leaf("RedirectType", "Mirror"),
        leaf("PassQueryString", request.follow_query),
        leaf("MirrorURL", _url(group.primary, scheme)),
        *(leaf("MirrorURLSlave", url) for url in slave),
        leaf_if("MirrorURLProbe", request.probe_url, None),
        _alternates(alternates),
        leaf("MirrorFollowRedirect", request.follow_redirects),
        leaf("MirrorCheckMd5", store.check_md5 != "off"),
        headers,
        branch("MirrorReturnHeaders", returned),
        _auth(group.primary),
        branch("MirrorTaggings", _pairs("Taggings", store.tags)),
        leaf_if("MirrorSNI", request.sni, default=True),
        leaf_if("MirrorPassOriginalSlashes", rule.path.pass_original_slashes, default=False),
        leaf_if("MirrorSwitchAllErrors", origin.switch_all, default=False),
        leaf_if("MirrorAllowHeadObject", answer.allow_head, default=False),
        leaf_if("MirrorAsyncStatus", origin.async_status, None),
        leaf_if("MirrorProxyPass", not store.save, default=False),
        leaf("MirrorSaveOssMeta", store.user_meta),
        leaf_if("MirrorUserLastModified", store.last_modified, default=False),
        leaf_if("TransparentMirrorResponseCodes", ",".join(map(str, codes)), ""),
        *_replacements(rule),
    ]


def _replacements(rule: Rule) -> list[XmlElement | None]:
    """F29, F31 and F34; what is added in front or behind becomes a template."""
    path = rule.path
    if path.replace_prefix is not None:
        new = path.replace_prefix.new
        return [leaf("EnableReplacePrefix", value=True), leaf_if("ReplaceKeyPrefixWith", new, "")]
    whole = path.fixed if path.fixed is not None else path.template
    if whole is None and (path.add_prefix or path.add_suffix):
        whole = f"{path.add_prefix}${{key}}{path.add_suffix}"
    return [leaf_if("ReplaceKeyWith", whole, None)]


def _url(host: OriginHost, scheme: str) -> str:
    return f"{host.scheme or scheme}://{host.host}{host.base_path}"


def _alternates(urls: Sequence[str]) -> XmlElement | None:
    items = [
        branch(
            "MirrorMultiAlternate",
            (leaf("MirrorMultiAlternateNumber", number), leaf("MirrorMultiAlternateURL", url)),
        )
        for number, url in enumerate(urls, start=1)
    ]
    return branch("MirrorMultiAlternates", items)


def _auth(host: OriginHost) -> XmlElement | None:
    if host.credential is None:
        return None
    children = (
        leaf("AuthType", "S3V4"),
        leaf("AccessKeyId", host.credential),
        leaf("AccessKeySecret", MASK),
    )
    return branch("MirrorAuth", children)


def _pairs(tag: str, pairs: Sequence[tuple[str, str]]) -> list[XmlElement | None]:
    return [branch(tag, (leaf("Key", name), leaf("Value", value))) for name, value in pairs]
