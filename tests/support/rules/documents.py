"""Small rule documents of every format, for table-driven tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from scheduler.rules.cos import xml as cos_xml
from scheduler.rules.oss import xml as oss_xml
from scheduler.rules.yaml import document

if TYPE_CHECKING:
    from scheduler.rules.model import Rule, RuleSet
    from scheduler.rules.problems import Problem, ReadOptions

HOST = "<HostInfo><HostName>o.example</HostName></HostInfo>"
CONDITION = (
    "<KeyPrefixEquals></KeyPrefixEquals><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals>"
)


def cos(
    *,
    condition: str = "<HTTPStatusCode>404</HTTPStatusCode><Prefix></Prefix>",
    parameter: str = "",
    standby: str = "",
    hosts: str = HOST,
    files: str = "",
    kind: str = "Mirror",
    priority: str = "",
    extra: str = "",
) -> str:
    """A COS document of one rule."""
    return (
        f"<OriginConfiguration>{cos_rule(condition=condition, parameter=parameter, standby=standby, hosts=hosts, files=files, kind=kind, priority=priority)}"  # noqa: E501
        f"{extra}</OriginConfiguration>"
    )


def cos_rule(
    *,
    condition: str = "<HTTPStatusCode>404</HTTPStatusCode><Prefix></Prefix>",
    parameter: str = "",
    standby: str = "",
    hosts: str = HOST,
    files: str = "",
    kind: str = "Mirror",
    priority: str = "",
) -> str:
    """One `OriginRule`."""
    parts = [
        f"<RulePriority>{priority}</RulePriority>" if priority else "",
        f"<OriginType>{kind}</OriginType>",
        f"<OriginCondition>{condition}</OriginCondition>",
        f"<OriginParameter>{parameter}</OriginParameter>" if parameter else "",
        f"<HTTPStandbyCode>{standby}</HTTPStandbyCode>" if standby else "",
        f"<OriginInfo>{hosts}{f'<FileInfo>{files}</FileInfo>' if files else ''}</OriginInfo>",
    ]
    return f"<OriginRule>{''.join(parts)}</OriginRule>"


def oss(
    redirect: str = "",
    *,
    condition: str = CONDITION,
    kind: str = "Mirror",
    url: str = "http://o.example/",
    number: str = "1",
    extra: str = "",
    top: str = "",
) -> str:
    """An OSS document of one rule; `url` is written for mirrors, `HostName` stands in `redirect`."""
    return f"<WebsiteConfiguration>{top}<RoutingRules>{oss_rule(redirect, condition=condition, kind=kind, url=url, number=number)}{extra}</RoutingRules></WebsiteConfiguration>"  # noqa: E501


def oss_rule(
    redirect: str = "",
    *,
    condition: str = CONDITION,
    kind: str = "Mirror",
    url: str = "http://o.example/",
    number: str = "1",
) -> str:
    """One `RoutingRule`."""
    mirror = f"<MirrorURL>{url}</MirrorURL>" if kind == "Mirror" and url else ""
    return (
        f"<RoutingRule>{f'<RuleNumber>{number}</RuleNumber>' if number else ''}"
        f"<Condition>{condition}</Condition>"
        f"<Redirect><RedirectType>{kind}</RedirectType>{mirror}{redirect}</Redirect></RoutingRule>"
    )


def s3(redirect: str = "<HostName>o.example</HostName>", condition: str = "") -> str:
    """A website document in the dialect of S3."""
    inner = f"<Condition>{condition}</Condition>" if condition else ""
    return (
        "<WebsiteConfiguration><RoutingRules><RoutingRule>"
        f"{inner}<Redirect>{redirect}</Redirect></RoutingRule></RoutingRules></WebsiteConfiguration>"
    )


def yml(*, host: Any = "o.example", **sections: Any) -> str:
    """A YAML document of one rule in the long form; `host` may be a whole entry of `hosts`."""
    origin = {"hosts": [host], **sections.pop("origin", {})}
    rule = {"type": "mirror", "origin": origin, **sections}
    return yaml.safe_dump({"rules": [rule]}, sort_keys=False, allow_unicode=True)


def parse(text: str, options: ReadOptions | None = None) -> tuple[RuleSet, tuple[Problem, ...]]:
    """Read a document of any format."""
    if text.startswith(("<O", '<?xml version="1.0" encoding="UTF-8"?><O')):
        return cos_xml.parse(text, options)
    if text.lstrip().startswith("<"):
        return oss_xml.parse(text, options)
    return document.parse(text, options)


def one(text: str, options: ReadOptions | None = None) -> Rule:
    """The only rule of a document."""
    ruleset, _ = parse(text, options)
    (rule,) = ruleset.rules
    return rule


def field(rule: Rule, path: str) -> Any:
    """The value of a canonical field such as `origin.hosts[0].weight`."""
    value: Any = rule
    for part in path.replace("[", ".[").split("."):
        value = value[int(part[1:-1])] if part.startswith("[") else getattr(value, part)
    return value
