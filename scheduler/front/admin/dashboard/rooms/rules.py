"""The room of rules: what is in force, the history with differences, and one request explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler.front.admin.dashboard.room import Missing, asked
from scheduler.front.admin.question import Question, WrongQuestion
from scheduler.rules.trying.difference import difference
from scheduler.rules.trying.explain import explain
from scheduler.rules.yaml import document
from workers.errors import BrokerUnavailable, described

if TYPE_CHECKING:
    from starlette.requests import Request

    from scheduler.rules.in_force.stored import Change
    from scheduler.rules.model import RuleSet
    from scheduler.runtime import Services


async def rules(services: Services, request: Request) -> dict[str, Any]:
    """Of every bucket the set in force; of the chosen one its history, a difference, an explanation."""
    names = sorted(services.settings.buckets)
    bucket = asked(request, "bucket") or (names[0] if len(names) == 1 else "")
    if bucket and bucket not in names:
        raise Missing(f"There is no bucket {bucket!r} in config.yaml.")
    found: dict[str, Any] = {
        "sets": [(name, services.rules.snapshot(name), _owner(services, name)) for name in names],
        "bucket": bucket,
        "owner": _owner(services, bucket) if bucket else "",
        "ruleset": None,
        "document": "",
        "history": (),
        "history_problem": "",
        "version": 0,
        "compared": None,
        "question": request.query_params,
        "explanation": None,
        "wrong": {},
    }
    if not bucket:
        return found
    ruleset = await services.rules.read(bucket)
    found["ruleset"] = ruleset
    if ruleset is not None:
        found["document"] = document.render(ruleset, lossy=True)
        found["version"] = ruleset.version
    try:
        history = await services.rules.history(bucket)
    except BrokerUnavailable as error:
        found["history_problem"] = described(error)
    else:
        found["history"] = history
        found["version"] = history[0].version if history else 0
        found["compared"] = _compared(history, request)
    if "key" in request.query_params and ruleset is not None:
        found |= _explained(ruleset, bucket, request)
    return found


def _owner(services: Services, bucket: str) -> str:
    section = services.settings.buckets[bucket]
    return "file" if section is not None and section.rules is not None else "api"


def _compared(history: tuple[Change, ...], request: Request) -> dict[str, Any] | None:
    """The difference between the versions that the address names; of one alone, against the one before."""
    versions = {str(change.version): change for change in history}
    wanted = request.query_params.get("to", "")
    if not wanted:
        return None
    new = versions.get(wanted)
    if new is None:
        raise Missing(f"Version {wanted} is not among the last {len(history)} versions of these rules.")
    before = [change for change in history if change.version < new.version]
    chosen = request.query_params.get("from", "")
    old = versions.get(chosen) if chosen else before[0] if before else None
    if chosen and old is None:
        raise Missing(f"Version {chosen} is not among the last {len(history)} versions of these rules.")
    return {
        "from": old.version if old else 0,
        "to": new.version,
        "difference": difference(old.ruleset if old else None, new.ruleset),
        "eldest": old is None,
    }


def _explained(ruleset: RuleSet, bucket: str, request: Request) -> dict[str, Any]:
    try:
        question = Question.of(request.query_params)
        return {"explanation": explain(ruleset, bucket, question.facts(), kind=question.kind)}
    except WrongQuestion as error:
        return {"wrong": {error.field: str(error)}}
