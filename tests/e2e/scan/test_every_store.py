"""One migration from end to end on every known store: scan, verify, what was lost is seen, finalize."""

from __future__ import annotations

import json
import os
from pathlib import Path

from scheduler.scan.gate.finalize import finalize
from scheduler.scan.verify.verify import Verifier
from support.store.stores import MIB


async def verified(fleet, **options):
    return await Verifier(fleet.services, await fleet.scans.states.get("s"), **options).run()


async def test_a_site_moves_is_verified_and_its_rule_is_retired(fleet_on_every_store):
    known, fleet = fleet_on_every_store
    bodies = {f"img/{n:03}.png": b"%d" % n * 100 for n in range(40)}
    bodies |= {
        "a b/ü+1.txt": b"odd",
        "a-b/1": b"before",
        "a/b": b"below",
        "empty": b"",
        "large": os.urandom(9 * MIB),
    }
    fleet.origin.bodies.update({**bodies, "x//y": b"double", "x/y": b"single"})
    await fleet.put("img/000.png", b"a user's own")
    await fleet.scan("s", [*bodies, "gone.txt"])
    for key, body in bodies.items():
        expected = b"a user's own" if key == "img/000.png" else body
        assert await fleet.body(key) == expected, key
    assert await fleet.services.ledger.failures.count(fleet.bucket) == 0
    report = await verified(fleet, full=True)
    found = {(one.key, one.finding) for one in report.problems if one.key != "img/000.png"}
    assert found == {("gone.txt", "absent_at_origin")}
    await fleet.services.store.delete(fleet.bucket, "img/007.png")
    report = await verified(fleet)
    assert ("img/007.png", "missing") in {(one.key, one.finding) for one in report.problems}
    # Keys that only some stores hold beside others: there, or a listed failure; never another's bytes.
    await fleet.scan("t", ["x/y", "x//y"])
    assert await fleet.body("x/y") == b"single"
    listed = {one.key: one.reason async for one in fleet.services.ledger.failures.iterate(fleet.bucket)}
    if known.deviates("keys"):
        assert listed == {"x//y": "key_not_representable"}
    else:
        assert listed == {}
        assert await fleet.body("x//y") == b"double"
    state = await fleet.scans.states.get("s")
    done = await finalize(fleet.services, state, quiet_s=0.5, who="ann", override="a drill")
    assert done.retired == ("rule-1",)
    told = " ".join(json.loads(Path(done.reports[0]).read_text())["store"])
    weak = known.deviates("create_only") or known.deviates("multipart_create_only")
    assert ("a HEAD before" in told) is weak
