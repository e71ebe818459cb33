"""A rule set as Redis keeps it: JSON of the canonical model, a digest, and what of each rule a queued job
depends on.

Owns the stored form and its version. Pure; knows no Redis.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from scheduler.rules.model import Owner, Rule, RuleSet, SourceFormat
from scheduler.rules.xml_tree import XmlElement  # noqa: TC001 - read at run time by the adapter
from workers.errors import WireError

#: Raised when a field of the model changes its meaning; new optional fields do not raise it.
STORED_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What of a rule set is written down; bucket, version and owner stand beside it."""

    rules: tuple[Rule, ...] = ()
    source: SourceFormat = SourceFormat.YAML
    website: tuple[XmlElement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One version of a bucket's rules: who made it, how and when."""

    bucket: str
    version: int
    #: Unix time in seconds.
    at: float
    #: An access key id, `token`, or an operator's name.
    who: str
    #: `PUT ?origin`, `file config.yaml`, `rollback to 7`, …
    how: str
    owner: Owner
    #: The set; None when this change deleted the rules.
    ruleset: RuleSet | None


_CONTENT: TypeAdapter[_Content] = TypeAdapter(_Content)
_RULE: TypeAdapter[Rule] = TypeAdapter(Rule)


def encode_content(
    rules: tuple[Rule, ...], source: SourceFormat, website: tuple[XmlElement, ...]
) -> tuple[str, str]:
    """The stored JSON, and its digest: equal digests mean the same document, spelling included."""
    content = _Content(rules=rules, source=source, website=website)
    wire = _CONTENT.dump_python(content, mode="json", exclude_defaults=True)
    _forget_lines(wire)
    text = orjson.dumps({"v": STORED_VERSION, **wire}, option=orjson.OPT_SORT_KEYS)
    return text.decode(), hashlib.sha256(text).hexdigest()[:32]


def _forget_lines(value: Any) -> None:
    """Line numbers of kept elements: where they stood says nothing about what they say."""
    if isinstance(value, dict):
        value.pop("line", None)
        for part in value.values():
            _forget_lines(part)
    elif isinstance(value, list):
        for part in value:
            _forget_lines(part)


def decode_content(text: str, *, bucket: str, version: int, owner: Owner) -> RuleSet:
    """Read a stored set.

    Raises:
        WireError: written by a newer Ferryman, or not of this shape.
    """
    try:
        wire: dict[str, Any] = orjson.loads(text)
        if wire.pop("v", None) != STORED_VERSION:
            raise WireError(f"rules of {bucket} are stored in a form that this version cannot read")
        content = _CONTENT.validate_python(wire)
    except (ValueError, ValidationError, AttributeError) as error:
        raise WireError(f"rules of {bucket}, version {version}: {error}") from error
    return RuleSet(
        bucket=bucket,
        version=version,
        owner=owner,
        rules=content.rules,
        source=content.source,
        website=content.website,
    )


def job_fingerprint(rule: Rule, owner: Owner) -> str:
    """What a queued job of this rule was promised: which hosts are asked, for what, and how it is stored.

    Conditions, order, weights, deadlines, budgets and the client's answer are not in it: changing them leaves
    queued jobs valid (SEMANTICS.md section 2.7).
    """
    wire = _RULE.dump_python(rule, mode="json", include={"type", "request", "path", "store"})
    hosts = sorted(
        {
            (host.host, host.base_path, host.scheme or "", host.credential or "")
            for group in rule.origin.hosts
            for host in (group.primary, *group.standbys)
        }
    )
    text = orjson.dumps({**wire, "hosts": hosts, "owner": owner}, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:16]
