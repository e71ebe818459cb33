"""Which rule answers for a request: the first whose conditions all hold. PURE.

Owns section 2 of SEMANTICS.md. A rule set is compiled once and keeps its compiled form, so that a request
costs a few dictionary look-ups, not a walk over all rules. Knows nothing of what a rule then does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from scheduler.rules.model import RuleType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scheduler.rules.model import HeaderTest, Rule, RuleSet, Scheme, StatusTest, When

#: Why a rule does not answer for a request.
Reason = Literal["prefix", "suffix", "header", "host_denied", "host_not_allowed", "status", "method"]

_MEMO = "matching"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """What conditions and plans look at."""

    key: str
    method: str = "GET"
    #: What the store answered; None when it has not been asked yet.
    status: int | None = 404
    #: Client request headers in order, names as sent.
    headers: Sequence[tuple[str, str]] = ()
    #: Client `Host` without port.
    host: str = ""
    #: Scheme the client used; None when nobody knows (events, scans).
    scheme: Scheme | None = None
    #: Raw query without `?`.
    query: str = ""
    #: Slashes that were cut from the front of the key (F35).
    leading_slashes: int = 0


@dataclass(frozen=True, slots=True)
class _Check:
    """One rule, its conditions flattened; header names are in lower case."""

    rule: Rule
    suffix: str
    headers: tuple[tuple[str, HeaderTest], ...]
    first_header: str
    hosts: bool
    status: tuple[StatusTest, ...]


@dataclass(slots=True)
class _Compiled:
    """Rules in order of priority, and by the end of the key that they name."""

    checks: tuple[_Check, ...]
    #: Positions of rules that name no prefix: those without a suffix, and those with one by it.
    anywhere: tuple[int, ...]
    by_suffix: dict[str, tuple[int, ...]]
    suffix_lengths: tuple[int, ...]
    #: Positions by prefix, and the lengths that occur.
    by_prefix: dict[str, tuple[int, ...]]
    prefix_lengths: tuple[int, ...]
    #: Whether a rule for any status exists, and whether one of type Proxy does.
    any_status: bool
    proxies: bool

    def candidates(self, key: str) -> Sequence[int]:
        """Positions of the rules whose prefix, or only suffix, the key has, in order of priority."""
        found = self.anywhere
        merged = False
        get = self.by_prefix.get
        for length in self.prefix_lengths:
            here = get(key[:length])
            if here is not None:
                merged = merged or bool(found)
                found += here
        get = self.by_suffix.get
        for length in self.suffix_lengths:
            here = get(key[-length:])
            if here is not None:
                merged = merged or bool(found)
                found += here
        return sorted(found) if merged else found


def ordered(ruleset: RuleSet) -> tuple[Rule, ...]:
    """The rules in the order they are judged: by priority, ties and missing ones by document (2.1)."""
    return tuple(
        sorted(ruleset.rules, key=lambda rule: (rule.priority is None, rule.priority or 0)),
    )


def match(ruleset: RuleSet, request: RequestFacts) -> Rule | None:
    """The rule that answers for the request, or None (section 2).

    The first rule whose conditions hold decides alone: when it does not trigger for the method (2.4),
    nothing does. With `status=None` only a rule for `any` status can answer, and only if no rule before it
    needs the status.
    """
    compiled = _compiled(ruleset)
    checks = compiled.checks
    key = request.key
    values: dict[str, list[str]] | None = None
    for position in compiled.candidates(key):
        check = checks[position]
        if check.suffix and not key.endswith(check.suffix):
            continue
        if check.headers:
            if values is None:
                values = _by_name(request.headers)
            if check.first_header not in values or not _tests_hold(check.headers, values):
                continue
        if check.hosts and _host_reason(check.rule.when, request) is not None:
            continue
        if request.status is None:
            if "any" not in check.status:
                return None
        elif not status_holds(check.status, request.status):
            continue
        return check.rule if triggers(check.rule, request.method) else None
    return None


def needs_no_status(ruleset: RuleSet) -> bool:
    """Whether a rule for `any` status exists: only then is a match before the look-up worth trying (2.5)."""
    return _compiled(ruleset).any_status


def has_proxy(ruleset: RuleSet) -> bool:
    """Whether a Proxy rule exists: only then may a miss be answered without waiting for the store."""
    return _compiled(ruleset).proxies


def names(ruleset: RuleSet, key: str) -> bool:
    """Whether some rule's prefix or suffix fits the key, whatever else the rule asks: it might bring it."""
    return bool(_compiled(ruleset).candidates(key))


def triggers(rule: Rule, method: str) -> bool:
    """Whether a method triggers a rule: GET; HEAD for redirects and with `allow_head` (2.4, A33 to A36)."""
    if method == "GET":
        return True
    if method != "HEAD":
        return False
    return rule.type is RuleType.REDIRECT or (rule.answer.allow_head and rule.type is RuleType.MIRROR)


def status_holds(tests: Sequence[StatusTest], status: int) -> bool:
    """Whether a store's status is one of those that a rule names (F4)."""
    for test in tests:
        if (
            test in {status, "any"}
            or (test == "4xx" and 400 <= status < 500)
            or (test == "5xx" and 500 <= status < 600)
        ):
            return True
    return False


def reasons_against(rule: Rule, request: RequestFacts) -> Iterator[Reason]:
    """Every condition of a rule that the request does not meet; for explaining, not for the hot path."""
    when = rule.when
    if not request.key.startswith(when.prefix):
        yield "prefix"
    if not request.key.endswith(when.suffix):
        yield "suffix"
    if not _tests_hold(_check(rule).headers, _by_name(request.headers)):
        yield "header"
    reason = _host_reason(when, request)
    if reason is not None:
        yield reason
    if request.status is not None and not status_holds(when.status, request.status):
        yield "status"


def _compiled(ruleset: RuleSet) -> _Compiled:
    compiled: _Compiled | None = ruleset.memo.get(_MEMO)
    if compiled is None:
        compiled = ruleset.memo[_MEMO] = _compile(ruleset)
    return compiled


def _compile(ruleset: RuleSet) -> _Compiled:
    checks = tuple(_check(rule) for rule in ordered(ruleset))
    by_prefix: dict[str, tuple[int, ...]] = {}
    by_suffix: dict[str, tuple[int, ...]] = {}
    for position, check in enumerate(checks):
        prefix = check.rule.when.prefix
        table, end = (by_prefix, prefix) if prefix else (by_suffix, check.suffix)
        table[end] = (*table.get(end, ()), position)
    return _Compiled(
        checks=checks,
        anywhere=by_suffix.pop("", ()),
        by_suffix=by_suffix,
        suffix_lengths=tuple(sorted({len(end) for end in by_suffix})),
        by_prefix=by_prefix,
        prefix_lengths=tuple(sorted({len(end) for end in by_prefix})),
        any_status=any("any" in check.status for check in checks),
        proxies=any(check.rule.type is RuleType.PROXY for check in checks),
    )


def _check(rule: Rule) -> _Check:
    when = rule.when
    return _Check(
        rule=rule,
        suffix=when.suffix,
        headers=tuple((test.name.lower(), test) for test in when.headers),
        first_header=when.headers[0].name.lower() if when.headers else "",
        hosts=bool(when.hosts_allow or when.hosts_deny),
        status=when.status,
    )


def _by_name(headers: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(value)
    return values


def _tests_hold(tests: Sequence[tuple[str, HeaderTest]], values: Mapping[str, Sequence[str]]) -> bool:
    """Whether every test has a value that passes (F7)."""
    for name, test in tests:
        found = values.get(name)
        if found is None or not any(map(test.holds, found)):
            return False
    return True


def _host_reason(when: When, request: RequestFacts) -> Literal["host_denied", "host_not_allowed"] | None:
    host = request.host.lower()
    if host in when.hosts_deny:
        return "host_denied"
    if when.hosts_allow and host not in when.hosts_allow:
        return "host_not_allowed"
    return None
