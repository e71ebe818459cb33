"""Whether every origin can be reached, and what it offers; within its budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.doctor.model import Subject
from workers.errors import TransferError
from workers.origin.fetch.inspect import inspect_origin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scheduler.doctor.model import Finding
    from scheduler.rules.model import OriginHost, Rule, RuleSet
    from workers.origin.control.control import OriginControl
    from workers.origin.fetch.inspect import OriginReport
    from workers.origin.wire.client import OriginClient


async def check(
    sets: Mapping[str, RuleSet], client: OriginClient, control: OriginControl, *, urls: Sequence[str] = ()
) -> list[Finding]:
    """Findings about every origin of every rule, by its base path, and about `urls`, which are objects."""
    found = Subject("origins")
    asked: set[str] = set()
    for ruleset in sets.values():
        for rule in ruleset.rules:
            for group in rule.origin.hosts:
                for origin in (group.primary, *group.standbys):
                    url = _url(rule, origin)
                    if url not in asked:
                        asked.add(url)
                        trusted = ruleset.owner == "file"
                        await _ask(found, client, control, url, trusted, origin.credential, is_object=False)
    for url in urls:
        await _ask(found, client, control, url, trusted=True, credential=None, is_object=True)
    return found.findings


def _url(rule: Rule, origin: OriginHost) -> str:
    scheme = origin.scheme or (rule.request.protocol if rule.request.protocol != "follow" else None)
    return f"{scheme or rule.request.follow_fallback}://{origin.host}{origin.base_path}"


async def _ask(
    found: Subject,
    client: OriginClient,
    control: OriginControl,
    url: str,
    trusted: bool,
    credential: str | None,
    *,
    is_object: bool,
) -> None:
    try:
        report = await inspect_origin(client, control, url, trusted=trusted, credential=credential)
    except (TransferError, ValueError) as error:
        found.failed("reachable", str(error), "check the URL and the budget of this origin", of=url)
        return
    if not report.reachable:
        reasons = "; ".join(report.problems) or "no answer"
        remedy = "check name, port and firewall; private networks need origin.allow_networks"
        if "certificate" in reasons.lower():
            remedy = (
                "give its authority as origin.ca_file, or let the origin have a certificate for this name"
            )
        found.failed("reachable", reasons, remedy, of=url)
        return
    _judge(found, url, report, is_object=is_object)


def _judge(found: Subject, url: str, report: OriginReport, *, is_object: bool) -> None:
    waited = (
        f", first byte after {report.first_byte_s * 1000:.0f} ms" if report.first_byte_s is not None else ""
    )
    tls = f", {report.tls}" if report.tls else ""
    if report.status is not None and report.status >= 500:
        remedy = "such an origin is ejected after five answers of this kind"
        found.warning("reachable", f"answers {report.status}{tls}{waited}", remedy, of=url)
    else:
        found.ok("reachable", f"answers {report.status}{tls}{waited}", of=url)
    if report.soft_404:
        remedy = "set store.soft_404: learn in the rule, or error pages are stored as objects"
        found.warning("soft_404", "a key that nobody has gets 200", remedy, of=url)
    if not is_object:
        # A directory or a start page says little of an object; still, it is this server that answers.
        looked = _offered(report) if report.status == 200 else "nothing was offered at this path"
        found.ok("offers", f"{looked}; `--url URL` looks at an object", of=url)
        return
    for problem in report.problems:
        found.warning("object", problem, "see docs/operations.md, origins", of=url)
    if not report.problems:
        found.ok("object", _offered(report), of=url)


def _offered(report: OriginReport) -> str:
    """Ranges, validator and digests, in words."""
    digests = ", ".join(report.digests) or "none"
    return f"ranges {report.ranges or 'not seen'}, validator {report.validator or 'none'}, digests {digests}"
