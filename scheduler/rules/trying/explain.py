"""What would happen to a request, and why: rule, URL, headers, candidates, answer, what is stored. PURE.

Owns the account that `ferryman explain` prints. Decides nothing itself: it asks matching, planning and the
workers' pure parts, so that what it says is what would be done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from scheduler.rules.header_policy import HeaderPolicy, withheld
from scheduler.rules.matching import match, ordered, reasons_against, triggers
from scheduler.rules.model import RuleType
from scheduler.rules.planning import PlanKind, PlanRefused, location, origin_url, plan
from workers.origin.control.balance import order
from workers.origin.wire.headers import fixed_headers, request_headers
from workers.store.metadata import tag_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.rules.matching import RequestFacts
    from scheduler.rules.model import Rule, RuleSet
    from workers.plan import FetchItem, FetchPlan

#: Shown for `X-Ferryman-Hop`, whose value belongs to the installation.
INSTANCE = "<this installation>"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleVerdict:
    """What one rule said, in the order of asking."""

    name: str
    priority: int | None
    type: str
    verdict: Literal["matched", "not_matched", "not_asked"]
    #: Conditions that do not hold.
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One origin that would be asked, were it the turn of its group."""

    #: Group as in the document, from 0, and its share of picks in percent.
    group: int
    share: float
    role: Literal["primary", "standby", "other_primary"]
    weight: int
    url: str
    credential: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything about one request."""

    bucket: str
    key: str
    method: str
    status: int | None
    rules: tuple[RuleVerdict, ...]
    #: The rule that answers, and what kind it is; None when the store's own answer stands.
    rule: str | None = None
    action: Literal["mirror", "proxy", "redirect", "none"] = "none"
    #: Why nothing is done: no_rule, method, dot_segment.
    refused: str = ""
    url: str = ""
    headers_sent: tuple[tuple[str, str], ...] = ()
    #: Client headers that stay here, with the reason.
    headers_withheld: tuple[tuple[str, str], ...] = ()
    #: By group, in the order in which they would be asked.
    candidates: tuple[Candidate, ...] = ()
    #: Sentences: what the client gets, what is stored.
    client: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()
    stored_key: str = ""
    tag: str | None = None


def explain(ruleset: RuleSet, bucket: str, facts: RequestFacts, *, kind: PlanKind = "request") -> Explanation:
    """Account for a request under a rule set."""
    rule = match(ruleset, facts)
    verdicts = tuple(_verdicts(ruleset, facts))
    base = Explanation(bucket=bucket, key=facts.key, method=facts.method, status=facts.status, rules=verdicts)
    if rule is None:
        return _unmatched(base, ruleset, facts)
    try:
        fetch, item = plan(rule, ruleset, bucket, facts, kind=kind)
    except PlanRefused as error:
        return _with(
            base,
            rule=rule.name,
            action=rule.type.value,
            refused=error.reason,
            client=("404 NoSuchKey: a segment . or .. could climb out of the origin's base path",),
            stored=("nothing",),
        )
    if rule.type is RuleType.REDIRECT:
        return _with(
            base,
            rule=rule.name,
            action="redirect",
            url=location(fetch, item),
            client=(f"{rule.answer.redirect_code} to {location(fetch, item)}",),
            stored=("nothing: redirects pull nothing",),
        )
    first = origin_url(fetch.groups[0].primary, item)
    return _with(
        base,
        rule=rule.name,
        action=rule.type.value,
        url=first,
        headers_sent=_sent(fetch),
        headers_withheld=tuple(withheld(HeaderPolicy.of(rule.request), tuple(facts.headers), kind)),
        candidates=tuple(_candidates(fetch, item)),
        client=tuple(_client(rule, fetch, item, facts)),
        stored=tuple(_stored(rule, facts)),
        stored_key=facts.key if rule.store.save and facts.method == "GET" else "",
        tag=tag_value(first, rule.store.tag) if rule.store.save and facts.method == "GET" else None,
    )


def _with(base: Explanation, **changes: object) -> Explanation:
    return replace(base, **changes)  # type: ignore[arg-type]


def _unmatched(base: Explanation, ruleset: RuleSet, facts: RequestFacts) -> Explanation:
    if any(verdict.verdict == "matched" for verdict in base.rules):
        name = next(verdict.name for verdict in base.rules if verdict.verdict == "matched")
        rule = ruleset.rule(name)
        allow = " (answer.allow_head opts in)" if facts.method == "HEAD" and rule is not None else ""
        text = f"the store's own answer, {facts.status}: {facts.method} does not trigger rule {name}{allow}"
        return _with(base, refused="method", client=(text,), stored=("nothing",))
    text = f"the store's own answer, {facts.status}: no rule matches"
    return _with(base, refused="no_rule", client=(text,), stored=("nothing",))


def _verdicts(ruleset: RuleSet, facts: RequestFacts) -> Iterator[RuleVerdict]:
    done = False
    for rule in ordered(ruleset):
        reasons = tuple(reasons_against(rule, facts))
        verdict: Literal["matched", "not_matched", "not_asked"] = "not_matched"
        if done:
            verdict, reasons = "not_asked", ()
        elif not reasons:
            verdict, done = "matched", True
            if not triggers(rule, facts.method):
                reasons = ("method",)
        yield RuleVerdict(
            name=rule.name, priority=rule.priority, type=rule.type.value, verdict=verdict, reasons=reasons
        )


def _sent(fetch: FetchPlan) -> tuple[tuple[str, str], ...]:
    """Passed and new headers, and the fixed ones beside them (H2 to H6); `Host` stands in the URL."""
    headers = request_headers(fetch.headers, fetch.new_headers, instance=INSTANCE)
    names = {name.lower() for name, _ in headers}
    fixed = fixed_headers(INSTANCE).items()
    return (*headers, *((name, value) for name, value in fixed if name.lower() not in names))


def _candidates(fetch: FetchPlan, item: FetchItem) -> Iterator[Candidate]:
    total = sum(group.weight for group in fetch.groups)
    primaries = {group.primary.host for group in fetch.groups}
    for index, group in enumerate(fetch.groups):
        for origin in order(fetch, index):
            role: Literal["primary", "standby", "other_primary"] = "standby"
            if origin == group.primary:
                role = "primary"
            elif origin not in group.standbys and origin.host in primaries:
                role = "other_primary"
            yield Candidate(
                group=index,
                share=round(100 * group.weight / total, 1),
                role=role,
                weight=group.weight,
                url=origin_url(origin, item),
                credential=origin.credential,
            )


def _client(rule: Rule, fetch: FetchPlan, item: FetchItem, facts: RequestFacts) -> Iterator[str]:
    if rule.type is RuleType.PROXY:
        yield _proxy_answer(rule, fetch, item)
        yield "404 NoSuchKey while the key is known to be absent at the origin (A30)"
        return
    if facts.method == "HEAD":
        yield "200 with the origin's headers and x-ferryman-stored: false, no body (A36)"
        yield "404 when the origin says 404, 424 otherwise (A37)"
        return
    yield "200 with the origin's body, streamed while it is stored (A1)"
    transparent = rule.answer.transparent
    if transparent == "all" or (isinstance(transparent, tuple) and 404 in transparent):
        yield "404 with the origin's own page when the origin says 404 (A6)"
    else:
        yield "404 NoSuchKey when the origin says 404 (A5)"
    if transparent == "all":
        yield "the origin's own status and body for any other failure (A10), 424 without an answer (A11)"
    elif isinstance(transparent, tuple):
        codes = ", ".join(map(str, transparent))
        yield f"the origin's own status and body for {codes} (A10), else 424 MirrorFailed (A9)"
    else:
        yield "424 MirrorFailed for any other answer or none (A9, A11)"
    if not rule.request.follow_redirects:
        yield "the origin's 3xx as it is; nothing is stored then (A8)"
    if rule.origin.async_status is not None:
        yield f"{rule.origin.async_status} of the origin as it is, with a pull queued (F28)"


def _proxy_answer(rule: Rule, fetch: FetchPlan, item: FetchItem) -> str:
    reply = rule.answer.proxy_reply
    if reply == "not_found":
        return "404 NoSuchKey; a pull is queued (A28)"
    if reply == "redirect" and fetch.groups[0].primary.credential is not None:
        return "503 SlowDown, Retry-After: 2, because the origin needs a credential; a pull is queued (A31)"
    if reply == "retry":
        return "503 SlowDown, Retry-After: 2; a pull is queued (A29)"
    return f"{rule.answer.redirect_code} to {location(fetch, item)}; a pull is queued (A27)"


def _stored(rule: Rule, facts: RequestFacts) -> Iterator[str]:
    if facts.method == "HEAD":
        yield "nothing: HEAD never pulls"
        return
    if not rule.store.save:
        yield "nothing: store.save is false"
        return
    yield f"the object {facts.key!r}, once, never replacing another (S11)"
    if rule.store.check_md5 != "off":
        yield f"the client waits for the origin's digest: {rule.store.check_md5} (F43)"
    if rule.store.user_meta:
        yield "with the origin's user metadata (F44)"
    if rule.store.tags:
        yield f"with the tags {', '.join(f'{key}={value}' for key, value in rule.store.tags)} (F46)"
    if rule.store.max_object_bytes is not None:
        yield f"unless it is larger than {rule.store.max_object_bytes} bytes (F58)"
