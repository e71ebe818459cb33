"""The room of scans: all of them, or one with its prefixes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from scheduler.front.admin.dashboard.room import PAGE, Missing, asked
from scheduler.scan.inventory.opening import SOURCES
from scheduler.scan.names import TERMS, Names, first
from scheduler.scan.record.state import ScanStates
from scheduler.scan.service import ScanService
from workers.errors import FerrymanError, described

if TYPE_CHECKING:
    from starlette.requests import Request

    from scheduler.runtime import Services

#: Prefixes of the table, the largest first.
MOST_PREFIXES = 200
#: Ranges of a scan that is cut, the slowest first.
MOST_RANGES = 8
NOTHING: dict[str, Any] = {
    "sources": sorted(SOURCES),
    "buckets": [],
    "report": None,
    "options": {},
    "name": "",
    "prefixes": [],
    "prefixes_left": 0,
    "ranges": [],
    "ranges_left": 0,
}
NO_KEYS: dict[str, Any] = {"name": "", "term": "", "terms": TERMS, "rows": [], "more": False, "problem": ""}


async def scans(services: Services, request: Request) -> dict[str, Any]:
    """What the form offers; and everything there is to say of the scan that the address names."""
    found = {**NOTHING, "buckets": sorted(services.settings.buckets)}
    name = asked(request, "name")
    if not name:
        return found
    service = ScanService(services)
    state = await service.states.get(name)
    if state is None:
        raise Missing(f"There is no scan {name!r}.")
    report = await service.report(state)
    rows = sorted(report["prefixes"].items(), key=lambda row: -row[1]["found"])
    options = {
        key: ", ".join(map(str, value))
        if isinstance(value, list | tuple)
        else "yes"
        if value is True
        else value
        for key, value in asdict(state.options).items()
        if value not in (None, "", (), [], False) and key not in {"bucket", "inventory"}
    }
    inventory = ", ".join(state.options.inventory)
    left = [one for one in report["shards"]["ranges"] if one["state"] != "done"]
    left.sort(key=lambda one: -one["active_s"])
    return {
        **found,
        "name": name,
        "report": report,
        "prefixes": rows[:MOST_PREFIXES],
        "prefixes_left": max(0, len(rows) - MOST_PREFIXES),
        "options": {"inventory": inventory, **options},
        "ranges": left[:MOST_RANGES],
        "ranges_left": max(0, len(left) - MOST_RANGES),
    }


async def scan_keys(services: Services, request: Request) -> dict[str, Any]:
    """The first keys behind one term of a scan's account."""
    name, term = request.query_params.get("name", ""), request.query_params.get("term", "")
    given: dict[str, Any] = {**NO_KEYS, "name": name, "term": term}
    state = await ScanStates(services.redis, namespace=services.settings.broker.namespace).get(name)
    if state is None:
        raise Missing(f"There is no scan {name!r}.")
    if term not in TERMS:
        return given
    try:
        found = [one async for one in first(Names(services, state).read([term]), PAGE + 1)]
    except FerrymanError as error:
        return {**given, "problem": described(error)}
    return {**given, "rows": found[:PAGE], "more": len(found) > PAGE}
