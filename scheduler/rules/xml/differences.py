"""Which fields of a rule say something other than the default, by canonical name. PURE.

Owns the question "what would be lost" for formats that have only a part of the model (W12).
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, cast

from scheduler.rules.model import KEPT_VALIDATORS, Answer, OriginPart, Path, Request, StorePart, When

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.rules.model import HostGroup, OriginHost, Rule

_RENAMED = {"pass_": "pass"}


def differences(rule: Rule) -> Iterator[str]:
    """Canonical names (`request.sni`) of the fields that differ from a vendor's defaults, hosts apart.

    Validators that are kept because a YAML rule says nothing of them are no difference: no document says so.
    """
    parts: tuple[tuple[str, Any, Any], ...] = (
        ("when", rule.when, When()),
        ("request", rule.request, Request()),
        ("path", rule.path, Path()),
        ("origin", rule.origin, OriginPart(hosts=rule.origin.hosts)),
        ("answer", rule.answer, Answer()),
        ("store", _said(rule.store), StorePart()),
    )
    for section, part, default in parts:
        for item in fields(cast("Any", type(part))):
            if getattr(part, item.name) != getattr(default, item.name):
                yield f"{section}.{_RENAMED.get(item.name, item.name)}"


def _said(store: StorePart) -> StorePart:
    if any(getattr(store, name) != value for name, value in KEPT_VALIDATORS.items()):
        return store
    return replace(store, **{name: getattr(StorePart(), name) for name in KEPT_VALIDATORS})


def all_hosts(rule: Rule) -> Iterator[OriginHost]:
    """Every host of a rule, primaries before their standbys."""
    for group in rule.origin.hosts:
        yield group.primary
        yield from group.standbys


def same_meaning(one: Rule, other: Rule) -> bool:
    """Whether two rules differ in nothing but their label and the names of credentials."""
    return _bare(one) == _bare(other)


def _bare(rule: Rule) -> Rule:
    def without(host: OriginHost) -> OriginHost:
        return replace(host, credential="-" if host.credential else None)

    def bare(group: HostGroup) -> HostGroup:
        standbys = tuple(without(host) for host in group.standbys)
        return replace(group, primary=without(group.primary), standbys=standbys)

    hosts = tuple(bare(group) for group in rule.origin.hosts)
    return replace(rule, name="", origin=replace(rule.origin, hosts=hosts))
