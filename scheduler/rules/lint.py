"""What is allowed in a rule set and still probably a mistake.

Owns the warnings at the end of SEMANTICS.md 1.2, and, for the command line, what only a look at the network
shows: hosts that do not resolve, and origins that lead back to Ferryman. PURE: the resolver is a parameter.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.rules.hosts import literal_address, refused_network, split_host
from scheduler.rules.model import RuleType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from scheduler.rules.model import Rule, When


@dataclass(frozen=True, slots=True, kw_only=True)
class LintNote:
    """One warning: the rule's position in the document, the field it is about, and what."""

    index: int
    field: str
    message: str


def lint_rules(rules: Sequence[Rule]) -> list[LintNote]:
    """Warnings that need nothing but the rules; none refuses a document."""
    notes = list(_order_notes(rules))
    for index, rule in enumerate(rules):
        notes += [LintNote(index=index, field=field, message=text) for field, text in _rule_notes(rule)]
    return sorted(notes, key=lambda note: note.index)


def lint_hosts(
    rules: Sequence[Rule],
    resolve: Callable[[str], Iterable[str]],
    *,
    public_hosts: Iterable[str] = (),
    own_addresses: Iterable[str] = (),
    from_file: bool = True,
) -> list[LintNote]:
    """Warnings about where origins lead: names that do not resolve, and addresses that are our own.

    `own_addresses` are `address` or `address:port` on which a gateway of ours listens.
    """
    public = {name.lower() for name in public_hosts}
    own = set(own_addresses)
    known: dict[str, list[str] | OSError] = {}
    notes = []
    for index, rule in enumerate(rules):
        for field, host in _hosts(rule):
            name, port = split_host(host)
            if name in public:
                notes.append(LintNote(index=index, field=field, message=f"{host} is Ferryman itself: a loop"))
                continue
            if name not in known:
                known[name] = _addresses(name, host, resolve)
            found = known[name]
            if isinstance(found, OSError):
                message = f"{name} does not resolve: {found}"
                notes.append(LintNote(index=index, field=field, message=message))
                continue
            texts = _address_notes(host, port, rule, found, own=own, from_file=from_file)
            notes += [LintNote(index=index, field=field, message=text) for text in texts]
    return notes


def covers(earlier: When, later: When) -> bool:
    """Whether every request that meets `later` meets `earlier` as well."""
    return (
        later.prefix.startswith(earlier.prefix)
        and later.suffix.endswith(earlier.suffix)
        and set(earlier.headers) <= set(later.headers)
        and set(earlier.hosts_deny) <= set(later.hosts_deny)
        and (not earlier.hosts_allow or bool(later.hosts_allow))
        and (not earlier.hosts_allow or set(later.hosts_allow) <= set(earlier.hosts_allow))
        and all(_status_covers(earlier, test) for test in later.status)
    )


def _status_covers(earlier: When, test: int | str) -> bool:
    if "any" in earlier.status or test in earlier.status:
        return True
    return isinstance(test, int) and f"{test // 100}xx" in earlier.status


def _order_notes(rules: Sequence[Rule]) -> Iterator[LintNote]:
    order = sorted(
        enumerate(rules), key=lambda pair: (pair[1].priority is None, pair[1].priority or 0, pair[0])
    )
    for place, (index, rule) in enumerate(order):
        for _, earlier in order[:place]:
            if earlier.priority is not None and earlier.priority == rule.priority:
                text = f"the same priority as {earlier.name}: the order of the document decides"
                yield LintNote(index=index, field="priority", message=text)
            if covers(earlier.when, rule.when):
                text = f"can never match: {earlier.name} comes first and takes everything it could"
                yield LintNote(index=index, field="when", message=text)
                break
            if rule.when.prefix.startswith(earlier.when.prefix) and _may_meet(earlier.when, rule.when):
                text = f"overlaps {earlier.name}, which comes first and takes what both could"
                yield LintNote(index=index, field="when.prefix", message=text)


def _may_meet(earlier: When, later: When) -> bool:
    """Whether one request may meet both, as far as suffix and status tell."""
    suffixes = earlier.suffix.endswith(later.suffix) or later.suffix.endswith(earlier.suffix)
    statuses = any(_status_covers(earlier, test) for test in later.status) or any(
        _status_covers(later, test) for test in earlier.status
    )
    return suffixes and statuses


def _rule_notes(rule: Rule) -> Iterator[tuple[str, str]]:
    request = rule.request
    if rule.when.prefix.startswith("/"):
        yield "when.prefix", "can never match: keys have no leading slash"
    named = {name.lower() for name in request.pass_}
    saves = rule.store.save and rule.type is not RuleType.REDIRECT
    if saves and request.pass_all:
        yield "request.pass_all", "what is stored may depend on one client's headers"
    if saves and "cookie" in named:
        yield "request.pass", "Cookie is passed: what is stored may be one client's own"
    both = sorted(named & {name.lower() for name in request.forbid})
    if both:
        yield "request.forbid", f"{', '.join(both)} is in pass as well; forbid wins"
    if request.pass_all and request.pass_:
        yield "request.pass", "pass_all passes these already"
    if saves and request.follow_query:
        yield "request.follow_query", "the query goes to the origin but is not part of the stored key"


def _hosts(rule: Rule) -> Iterator[tuple[str, str]]:
    for index, group in enumerate(rule.origin.hosts):
        yield f"origin.hosts[{index}].host", group.primary.host
        for position, standby in enumerate(group.standbys):
            yield f"origin.hosts[{index}].standbys[{position}]", standby.host


def _addresses(name: str, host: str, resolve: Callable[[str], Iterable[str]]) -> list[str] | OSError:
    if literal_address(host) is not None:
        return [name]
    try:
        return list(resolve(name))
    except OSError as error:
        return error


def _address_notes(
    host: str, port: int | None, rule: Rule, addresses: Iterable[str], *, own: set[str], from_file: bool
) -> Iterator[str]:
    ports = (
        {port} if port is not None else {"http": {80}, "https": {443}}.get(rule.request.protocol, {80, 443})
    )
    for text in addresses:
        if text in own or any(f"{text}:{number}" in own for number in ports):
            yield f"{host} is at {text}, where Ferryman itself listens: a loop"
            continue
        try:
            kind = refused_network(ipaddress.ip_address(text))
        except ValueError:
            continue
        if kind is not None and not (from_file and kind in {"loopback", "private"}):
            yield f"{host} is at {text}, a {kind} address: refused unless origin.allow_networks lists it"
