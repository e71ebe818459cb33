"""The way back: may the credentials write and delete at the origin, and how far is it behind?

Writes one small object under `.ferryman/probe/` below the origin's base path, and deletes it.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from scheduler.back.state import collect_back, sentence
from scheduler.doctor.model import Subject
from scheduler.rules.in_force.repository import RulesRepository
from scheduler.rules.write_back import routes
from workers.back.wire import OriginWire
from workers.back.writer import OriginWriter
from workers.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.config.settings import Settings
    from scheduler.doctor.model import Finding
    from scheduler.rules.model import RuleSet
    from workers.back_routes import BackRoute
    from workers.ledger.ledger import Ledger
    from workers.origin.control.control import OriginControl

_BODY = b"ferryman doctor"


async def check(sets: Mapping[str, RuleSet], settings: Settings, control: OriginControl) -> list[Finding]:
    """Findings about every origin that is written back to."""
    found = Subject("back")
    async with OriginWire(settings.origin, control, listeners=settings.own_listeners()) as wire:
        writer = OriginWriter(wire)
        for bucket, ruleset in sets.items():
            for route in routes(ruleset):
                if route.mode != "off":
                    await _try(found, writer, route, f"{bucket}/{route.rule}")
    return found.findings


async def behind(ledger: Ledger) -> list[Finding]:
    """Findings about what origins lack now."""
    found = Subject("back")
    repository = RulesRepository(ledger.redis, namespace=ledger.namespace)
    await repository.refresh()
    for one in await collect_back(ledger.back, repository, repository.buckets()):
        if one.could_go_back:
            found.ok("equal", sentence(one), of=one.bucket)
        else:
            remedy = "ferryman back status --keys names them; workers of the cold lane bring them"
            found.warning("equal", sentence(one), remedy, of=one.bucket)
    return found.findings


async def _try(found: Subject, writer: OriginWriter, route: BackRoute, of: str) -> None:
    key = f"{route.cut_front}.ferryman/probe/{uuid.uuid4().hex}{route.cut_end}"
    where = f"{route.origin.host}{route.origin.base_path}{route.path(key)}"
    try:
        await writer.put(route, key, _BODY, {"content-type": "text/plain"}, ())
        there = await writer.head(route, key)
        await writer.delete(route, key)
        left = await writer.head(route, key)
    except TransferError as error:
        remedy = (
            f"the credential {route.origin.credential!r} needs to read, write and delete there "
            "(PutObject, GetObject, DeleteObject, tagging)"
        )
        found.failed("may_write", f"{where}: {error}", remedy, of=of)
        return
    if there is None or there.size != len(_BODY):
        found.failed("may_write", f"{where}: written, and not there", "is it the bucket?", of=of)
    elif left is not None:
        found.failed("may_write", f"{where}: deleted, and still there", "is it versioned by a proxy?", of=of)
    else:
        found.ok("may_write", f"{route.origin.host}: wrote, read and deleted an object", of=of)
