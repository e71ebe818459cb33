"""From a rule and a request to what a worker is told: candidates, path, query, headers, policies. PURE.

Owns sections 3 and 4 of SEMANTICS.md. What does not depend on the request is made once per rule set: without
passed headers every request of a rule gets the very same `FetchPlan` object.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from scheduler.rules.header_policy import HeaderPolicy, PlanKind, hop_marker
from scheduler.rules.keys import (
    ClientPath,
    KeyRefused,
    client_key,
    client_path,
    encode_path,
    forwarded_query,
    has_dot_segment,
)
from workers.errors import FerrymanError
from workers.plan import FetchItem, FetchPlan, Origin, OriginGroup, RedirectPolicy, StorePolicy, origin_url

if TYPE_CHECKING:
    from scheduler.rules.matching import RequestFacts
    from scheduler.rules.model import OriginHost, Path, Rule, RuleSet

__all__ = [
    "ClientPath",
    "KeyRefused",
    "PlanKind",
    "PlanRefused",
    "client_key",
    "client_path",
    "fetch_plan",
    "location",
    "origin_path",
    "origin_url",
    "plan",
]

#: Plans with passed headers that are kept per rule, so that a batch of like requests shares one object.
_MAX_HEADER_PLANS = 256
_KEY_VARIABLE = "${key}"


class PlanRefused(FerrymanError):
    """Nothing may be asked for this key: `reason` is that of `Skipped` (`dot_segment`)."""

    def __init__(self, key: str, reason: Literal["dot_segment"] = "dot_segment") -> None:
        super().__init__(f"{key!r}: {reason}")
        self.key = key
        self.reason = reason


@dataclass(slots=True)
class _Prepared:
    """What one rule always gives."""

    plan: FetchPlan
    policy: HeaderPolicy
    passes_nothing: bool
    #: Fixed scheme, or None to follow the client's.
    scheme: Literal["http", "https"] | None
    rewrites: bool
    #: Plans by their passed headers.
    by_headers: dict[tuple[tuple[str, str], ...], FetchPlan]


def plan(
    rule: Rule,
    ruleset: RuleSet,
    bucket: str,
    facts: RequestFacts,
    *,
    kind: PlanKind = "request",
    request_id: str = "",
) -> tuple[FetchPlan, FetchItem]:
    """How and what to fetch for a request that a rule matched (sections 3, 4, 6 and 7).

    `kind` decides which client headers go along: all that the rule passes (`request`), those without
    `Cookie` for a queued pull (`event`), none (`scan`; H9). `request_id` travels with the item.

    Raises:
        PlanRefused: the key, or the path that the rule makes of it, has a `.` or `..` segment (3.1).
    """
    prepared = _prepared(rule, ruleset, bucket)
    key = facts.key
    if "." in key and has_dot_segment(key):
        raise PlanRefused(key)
    request = rule.request
    path = origin_path(rule.path, key) if prepared.rewrites else encode_path(key)
    if facts.leading_slashes and rule.path.pass_original_slashes:
        path = "/" * facts.leading_slashes + path
    item = FetchItem(
        key=key,
        path=path,
        query=forwarded_query(facts.query) if facts.query and request.follow_query else "",
        scheme=prepared.scheme or facts.scheme or request.follow_fallback,
        request_id=request_id,
    )
    if not facts.headers or kind == "scan":
        return prepared.plan, item
    headers = () if prepared.passes_nothing else prepared.policy.passed(facts.headers, kind)
    headers += hop_marker(facts.headers)
    return _with_headers(prepared, headers) if headers else prepared.plan, item


def fetch_plan(rule: Rule, ruleset: RuleSet, bucket: str) -> FetchPlan:
    """The plan of a rule without client headers, as scans use it; the same object every time."""
    return _prepared(rule, ruleset, bucket).plan


def origin_path(path: Path, key: str) -> str:
    """The encoded path below the base path, without kept leading slashes (3.2).

    Raises:
        PlanRefused: the rewritten path has a `.` or `..` segment.
    """
    if path.fixed is not None:
        result = path.fixed
    elif path.template is not None:
        result = path.template.replace(_KEY_VARIABLE, key)
    else:
        result = key
        if path.replace_prefix is not None and result.startswith(path.replace_prefix.old):
            result = path.replace_prefix.new + result[len(path.replace_prefix.old) :]
        result = path.add_prefix + result
        if path.replace_suffix is not None and result.endswith(path.replace_suffix.old):
            result = result[: len(result) - len(path.replace_suffix.old)] + path.replace_suffix.new
        result += path.add_suffix
    result = result.removeprefix("/")
    if has_dot_segment(result):
        raise PlanRefused(key)
    return encode_path(result)


def location(fetch: FetchPlan, item: FetchItem) -> str:
    """Where a redirect, or a Proxy answer, sends the client (A27, A33): the URL of the picked origin."""
    index = item.pick if item.pick is not None and 0 <= item.pick < len(fetch.groups) else 0
    return origin_url(fetch.groups[index].primary, item)


def _prepared(rule: Rule, ruleset: RuleSet, bucket: str) -> _Prepared:
    found = ruleset.memo.get((bucket, rule.name))
    if found is None:
        found = ruleset.memo[bucket, rule.name] = _prepare(rule, ruleset, bucket)
    prepared: _Prepared = found
    return prepared


def _prepare(rule: Rule, ruleset: RuleSet, bucket: str) -> _Prepared:
    request, origin, store = rule.request, rule.origin, rule.store
    policy = HeaderPolicy.of(request)
    scheme = None if request.protocol == "follow" else request.protocol
    base = FetchPlan(
        bucket=bucket,
        rule=rule.name,
        epoch=ruleset.version,
        groups=tuple(
            OriginGroup(
                primary=_origin(group.primary, scheme),
                weight=group.weight,
                standbys=tuple(_origin(standby, scheme) for standby in group.standbys),
            )
            for group in origin.hosts
        ),
        switch_codes=origin.switch_codes,
        switch_all=origin.switch_all,
        across_groups=origin.across_groups,
        max_attempts=origin.max_attempts,
        passes_cookie=policy.passes_cookie,
        new_headers=policy.new,
        sni=request.sni,
        redirects=RedirectPolicy(
            follow=request.follow_redirects,
            resend_headers=request.redirect_headers,
            decode_location=request.redirect_decode,
            allow_downgrade=request.allow_downgrade,
        ),
        timeouts=origin.timeouts,
        store=StorePolicy(
            save=store.save,
            check_md5=store.check_md5,
            tag=store.tag,
            user_meta=store.user_meta,
            last_modified=store.last_modified,
            etag=store.etag,
            private=store.private,
            tags=store.tags,
            max_object_bytes=store.max_object_bytes,
            accept_close_delimited=store.accept_close_delimited,
            trust_etag_md5=origin.trust_etag_md5,
            soft_404=store.soft_404,
        ),
        trusted_hosts=ruleset.owner == "file",
        probe_url=request.probe_url,
        absent_ttl_s=rule.answer.absent_ttl_s,
        async_status=origin.async_status,
    )
    return _Prepared(
        plan=base,
        policy=policy,
        passes_nothing=policy.passes_nothing,
        scheme=scheme,
        rewrites=rule.path.rewrites,
        by_headers={(): base},
    )


def _origin(host: OriginHost, scheme: Literal["http", "https"] | None) -> Origin:
    return Origin(
        host=host.host,
        base_path=host.base_path,
        scheme=host.scheme or scheme,
        credential=host.credential,
    )


def _with_headers(prepared: _Prepared, headers: tuple[tuple[str, str], ...]) -> FetchPlan:
    found = prepared.by_headers.get(headers)
    if found is None:
        if len(prepared.by_headers) >= _MAX_HEADER_PLANS:
            prepared.by_headers.clear()
            prepared.by_headers[()] = prepared.plan
        found = prepared.by_headers[headers] = replace(prepared.plan, headers=headers)
    return found
