"""Which rules have an origin that can be listed, and which of a bucket's keys lie where in it. PURE.

Owns what `list: union` asks of a bucket's rules: an S3 bucket as origin (a credential of type `s3v4`), and
a path that can be followed backwards in the order of keys. Every refusal names the rule and the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import unquote

from scheduler.rules.keys import has_dot_segment
from scheduler.rules.matching import ordered
from scheduler.rules.model import RuleType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scheduler.rules.listable.access import BucketAccess
    from scheduler.rules.model import OriginHost, Path, Rule, RuleSet

_KEY: Final = "${key}"
#: Names of vendors' endpoints whose first label is the bucket.
_BUCKET_FIRST: Final = re.compile(
    r"[a-z0-9][a-z0-9.-]*[a-z0-9]\."
    r"(?:s3[.-][a-z0-9.-]+|cos\.[a-z0-9-]+\.myqcloud\.com|oss-[a-z0-9-]+\.aliyuncs\.com|storage\.googleapis\.com)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRoute:
    """Where the keys of one rule lie in the bucket that is its origin."""

    rule: Rule
    host: OriginHost
    #: Path of the bucket itself: `/bucket`, or `/` where the host name has it.
    root: str
    order: Literal["auto", "bytes", "path"]
    #: What is cut from the front of a key, and what stands there instead in the origin's bucket.
    cut: str
    front: str

    def at_origin(self, key: str) -> str:
        """A key of ours, as the origin's bucket names it."""
        return self.front + key[len(self.cut) :]

    def here(self, key: str) -> str:
        """A key of the origin's bucket, as ours."""
        return self.cut + key[len(self.front) :]

    def holds(self, key: str) -> bool:
        """Whether a key of ours is one that the rule names, and could be asked for."""
        when = self.rule.when
        return (
            key.startswith(when.prefix)
            and key.endswith(when.suffix)
            and not key.startswith("/")
            and not ("." in key and (has_dot_segment(key) or has_dot_segment(self.at_origin(key))))
        )


def list_routes(ruleset: RuleSet, access: Mapping[str, BucketAccess]) -> tuple[ListRoute, ...]:
    """The rules of a set in the order they are judged, each with the way back from its origin's keys.

    Raises:
        ValueError: one cannot be listed; `unlistable` says which and why.
    """
    key = ("list_routes", tuple(sorted(access)))
    found: tuple[ListRoute, ...] | None = ruleset.memo.get(key)
    if found is None:
        found = ruleset.memo[key] = tuple(_route(rule, access) for rule in ordered(ruleset))
    return found


def unlistable(rules: Sequence[Rule], access: Mapping[str, BucketAccess]) -> list[tuple[int, str]]:
    """Of each rule that stands in the way of `list: union`: its place in the document, and why."""
    problems = []
    for at, rule in enumerate(rules):
        try:
            _route(rule, access)
        except ValueError as error:
            problems.append((at, str(error)))
    return problems


def _route(rule: Rule, access: Mapping[str, BucketAccess]) -> ListRoute:
    reason = _reason(rule, access)
    if reason is None:
        host = rule.origin.hosts[0].primary
        known = access[host.credential or ""]
        cut, front = _front(rule.path)
        if not front and rule.when.prefix[len(cut) :].startswith("/"):
            cut += "/"  # the path at the origin begins with no slash
        inside = unquote(host.base_path)[1:] + front
        if known.addressing == "virtual" or (
            known.addressing == "auto" and _BUCKET_FIRST.fullmatch(host.host.partition(":")[0])
        ):
            return ListRoute(rule=rule, host=host, root="/", order=known.listing_order, cut=cut, front=inside)
        bucket, slash, below = inside.partition("/")
        if bucket and slash:
            return ListRoute(
                rule=rule, host=host, root=f"/{bucket}", order=known.listing_order, cut=cut, front=below
            )
        reason = (
            "the URL of its origin names no bucket: https://HOST/BUCKET/ is expected, or addressing: virtual "
            f"in origin.credentials.{host.credential} where the host name has it"
        )
    message = f"the rule {rule.name!r} cannot be listed: {reason}"
    raise ValueError(message)


def _reason(rule: Rule, access: Mapping[str, BucketAccess]) -> str | None:
    when, path, groups = rule.when, rule.path, rule.origin.hosts
    if rule.type is not RuleType.MIRROR:
        return f"it is a {rule.type} rule, and only what mirror rules bring can be read at once"
    if len(groups) != 1:
        return f"it has {len(groups)} hosts, and which of them has a key is not known"
    name = groups[0].primary.credential
    if name is None or name not in access:
        listed = ", ".join(sorted(access)) or "none"
        what = "has no credential" if name is None else f"has the credential {name!r}"
        return (
            f"its origin {groups[0].primary.host} {what}; one of type s3v4 (there: {listed}) says that it is "
            "an S3 bucket"
        )
    if groups[0].standbys and (rule.origin.switch_all or any(c < 500 for c in rule.origin.switch_codes)):
        return "its standby answers for keys that the primary lacks (origin.switch_codes, switch_all)"
    for field, given in (
        ("when.headers", bool(when.headers)),
        ("when.hosts_allow", bool(when.hosts_allow)),
        ("when.hosts_deny", bool(when.hosts_deny)),
        ("path.fixed", path.fixed is not None),
        ("path.pass_original_slashes", path.pass_original_slashes),
    ):
        if given:
            return f"{field}: which key an object of the origin stands for must be told by its key alone"
    if not rule.store.save:
        return "store.save is off: what it serves never comes to be in the bucket"
    return _not_backwards(rule)


def _not_backwards(rule: Rule) -> str | None:
    path = rule.path
    if path.template is not None and (path.template.count(_KEY) != 1 or not path.template.endswith(_KEY)):
        return f"path.template {path.template!r} does not end with its only ${{key}}"
    if path.add_suffix or path.replace_suffix is not None:
        return "path.add_suffix, replace_suffix: its origin lists the keys in another order than the bucket"
    cut, front = _front(path)
    if not rule.when.prefix.startswith(cut):
        return f"path.replace_prefix: two keys could lie in one place; when.prefix must begin with {cut!r}"
    if cut and not front and rule.when.prefix == cut:
        return f"path.replace_prefix: {cut}/x and {cut}x would lie in one place"
    if has_dot_segment(front):
        return "its path has a dot segment"
    return None


def _front(path: Path) -> tuple[str, str]:
    """What is cut from a key, and what is put there."""
    if path.template is not None:
        return "", path.template.removesuffix(_KEY).removeprefix("/")
    front, cut = path.add_prefix, ""
    if path.replace_prefix is not None:
        front, cut = front + path.replace_prefix.new, path.replace_prefix.old
    return cut, front.removeprefix("/")
