"""Rules that write back (F63): which may, which keys are theirs, and where these lie at their origin. PURE.

Owns the refusals and the routes that workers are given. A written key has no client, so its rule is told by
the key alone; and no two keys may lie at one place of the origin, because deleting the one would delete the
other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scheduler.rules.matching import ordered
from scheduler.rules.model import RuleType
from scheduler.rules.problems import ProblemKind
from workers.back_routes import BackRoute, route_for
from workers.plan import Origin

if TYPE_CHECKING:
    from scheduler.rules.model import Owner, Path, Rule, RuleSet
    from scheduler.rules.problems import ReadOptions
    from scheduler.rules.written import WrittenRule

_KEY: Final = "${key}"
_FIELD: Final = "origin.write_back"
_MEMO: Final = "write_back"


def check_write_back(rule: Rule, where: WrittenRule, options: ReadOptions) -> None:
    """What a rule with `write_back` may not have; every problem is recorded, none raised."""
    if rule.origin.write_back == "off":
        return
    if rule.type is not RuleType.MIRROR:
        where.refuse(_FIELD, ProblemKind.CONFLICT, f"only with mirror; this is a {rule.type} rule")
    groups = rule.origin.hosts
    if len(groups) != 1 or groups[0].standbys:
        n = sum(1 + len(group.standbys) for group in groups)
        message = f"{n} hosts; exactly one, without standbys, can be kept equal"
        where.refuse(_FIELD, ProblemKind.CONFLICT, message)
    else:
        name = groups[0].primary.credential
        known = options.bucket_credentials
        if name is None:
            message = (
                "the origin must be a bucket with a credential that may write: "
                "origin.hosts[0].credential names none"
            )
            where.refuse(_FIELD, ProblemKind.CONFLICT, message)
        elif known is not None and name not in known:
            listed = ", ".join(sorted(known)) or "none"
            message = (
                f"the credential {name!r} is not of type s3v4 (there: {listed}), so the origin is no bucket"
            )
            where.refuse(_FIELD, ProblemKind.CONFLICT, message)
    for field, given in (
        ("when.headers", bool(rule.when.headers)),
        ("when.hosts_allow", bool(rule.when.hosts_allow)),
        ("when.hosts_deny", bool(rule.when.hosts_deny)),
        ("path.fixed", rule.path.fixed is not None),
        ("path.pass_original_slashes", rule.path.pass_original_slashes),
        ("store.save", not rule.store.save),
    ):
        if given:
            message = f"not with {where.at(field).path}: where a key goes must be told by the key alone"
            where.refuse(_FIELD, ProblemKind.CONFLICT, message)
    problem = _collision(rule)
    if problem is not None:
        where.refuse(_FIELD, ProblemKind.CONFLICT, problem)


def _collision(rule: Rule) -> str | None:
    """Why two keys of the rule could lie at one place of the origin, or have none; None when they cannot."""
    path, when = rule.path, rule.when
    if path.template is not None and path.template.count(_KEY) != 1:
        return f"path.template {path.template!r}: ${{key}} is needed once, so that each key has its own place"
    front, end = path.replace_prefix, path.replace_suffix
    if front is not None and not when.prefix.startswith(front.old):
        return (
            f"path.replace_prefix needs a when.prefix that begins with {front.old!r}, or two keys could meet"
        )
    if end is not None and not when.suffix.endswith(end.old):
        return f"path.replace_suffix needs a when.suffix that ends with {end.old!r}, or two keys could meet"
    return None


def routes(ruleset: RuleSet) -> tuple[BackRoute, ...]:
    """Where the keys of a bucket go, in the order of asking; rules that look at clients are passed over."""
    found: tuple[BackRoute, ...] | None = ruleset.memo.get(_MEMO)
    if found is None:
        found = ruleset.memo[_MEMO] = routes_of(ruleset.rules, ruleset.owner, ordered(ruleset))
    return found


def routes_of(
    rules: tuple[Rule, ...], owner: Owner, in_order: tuple[Rule, ...] | None = None
) -> tuple[BackRoute, ...]:
    """The same of rules that are in no set yet; none when nothing writes back."""
    if all(rule.origin.write_back == "off" for rule in rules):
        return ()
    judged = in_order or tuple(sorted(rules, key=lambda rule: (rule.priority is None, rule.priority or 0)))
    return tuple(
        _route(rule, owner)
        for rule in judged
        if not (rule.when.headers or rule.when.hosts_allow or rule.when.hosts_deny)
        and rule.type is not RuleType.REDIRECT
    )


def writes_back(ruleset: RuleSet | None, key: str) -> BackRoute | None:
    """The route of a key that is written back; None for all others."""
    if ruleset is None:
        return None
    return route_for(routes(ruleset), key)


def _route(rule: Rule, owner: Owner) -> BackRoute:
    host = rule.origin.hosts[0].primary
    front, end, cut_front, cut_end = _affixes(rule.path)
    if not front and rule.when.prefix.startswith(cut_front + "/"):
        # What is left of every key begins with a slash, which reads of it do not ask for.
        cut_front += "/"
    protocol = rule.request.protocol
    scheme = host.scheme or (rule.request.follow_fallback if protocol == "follow" else protocol)
    return BackRoute(
        rule=rule.name,
        mode=rule.origin.write_back,
        prefix=rule.when.prefix,
        suffix=rule.when.suffix,
        origin=Origin(host=host.host, base_path=host.base_path, scheme=scheme, credential=host.credential),
        timeouts=rule.origin.timeouts,
        trusted=owner == "file",
        cut_front=cut_front,
        front=front.removeprefix("/"),
        cut_end=cut_end,
        end=end,
    )


def _affixes(path: Path) -> tuple[str, str, str, str]:
    """What is put in front (with a slash that reads drop) and at the end of a key, and cut from both."""
    if path.template is not None:
        front, _, end = path.template.partition(_KEY)
        return front, end, "", ""
    front, end, cut_front, cut_end = path.add_prefix, path.add_suffix, "", ""
    if path.replace_prefix is not None:
        front, cut_front = front + path.replace_prefix.new, path.replace_prefix.old
    if path.replace_suffix is not None:
        end, cut_end = path.replace_suffix.new + end, path.replace_suffix.old
    return front, end, cut_front, cut_end
