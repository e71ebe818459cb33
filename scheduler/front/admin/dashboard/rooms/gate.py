"""The room of the gate: may the rules of a scan go, and what is missing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from scheduler.front.admin.dashboard.room import Missing, asked
from scheduler.front.admin.gate import report_names
from scheduler.scan.gate.gate import look
from scheduler.scan.gate.period import DEFAULT_QUIET, quiet_period_s
from scheduler.scan.record.state import ScanStates

if TYPE_CHECKING:
    from starlette.requests import Request

    from scheduler.runtime import Services


async def gate(services: Services, request: Request) -> dict[str, Any]:
    """The scans, the verdict on the chosen one, what was retired before, and the reports."""
    states = ScanStates(services.redis, namespace=services.settings.broker.namespace)
    scans = sorted(await states.recent(), key=lambda state: state.requested_at, reverse=True)
    name = asked(request, "scan") or (scans[0].name if len(scans) == 1 else "")
    found: dict[str, Any] = {
        "scan_names": [state.name for state in scans],
        "scan": None,
        "quiet": request.query_params.get("quiet", "") or DEFAULT_QUIET,
        "wrong": {},
        "verdict": None,
        "retired": {},
        "reports": await asyncio.to_thread(report_names, services),
    }
    if not name:
        return found
    state = await states.get(name)
    if state is None:
        raise Missing(f"There is no scan {name!r}.")
    found["scan"] = state
    found["retired"] = await services.rules.retired.read(state.options.bucket)
    try:
        quiet_s = quiet_period_s(found["quiet"])
    except ValueError as error:
        found["wrong"] = {"quiet": str(error)}
        return found
    found["verdict"] = await look(services, state, quiet_s=quiet_s)
    return found
