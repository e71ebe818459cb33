"""A whole installation whose Redis fails over under load: nothing is restarted, nothing accepted is lost.

Its user has the rights of docs/operations.md and no others.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import urllib.request

import pytest

from scheduler.config.load import load_settings
from scheduler.doctor.rights import acl_rules
from scheduler.machine.embedded import resolve_running
from support.fleet import SENTINEL_PASSWORD, Fleet
from support.installation import descendants, fetch, running_origin, running_up, until
from support.patience import PATIENCE_S
from workers.ledger.ledger import Ledger
from workers.store.client import ObjectStore

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]
USER, PASSWORD = "ferryman", "of-the-user"


def post(up, keys):
    request = urllib.request.Request(
        f"{up.admin}/v1/miss-events",
        data="\n".join(json.dumps({"bucket": "site", "key": key}) for key in keys).encode(),
        headers={"Authorization": f"Bearer {up.token}", "Content-Type": "application/x-ndjson"},
    )
    return fetch(request, PATIENCE_S)[0]


def refused_rights(fleet):
    """What the servers refused the user for want of a right."""
    found = []
    for port in fleet.servers:
        with fleet.client(port) as client:
            found += [entry for entry in client.acl_log() if entry["username"] == USER]
    return found


async def without_end(settings, accepted, bodies):
    """Accepted keys that are neither stored, with the origin's bytes, nor listed."""
    ledger = Ledger.open(settings.broker)
    async with ObjectStore(settings.store, settings.limits) as store:
        stored = {one.key for page in [page async for page in store.list("site")] for one in page.objects}
        for key in sorted(accepted & stored)[::29]:
            async with await store.get("site", key) as answer:
                assert await answer.read() == bodies[key]
    try:
        listed = {failure.key async for failure in ledger.failures.iterate("site")}
    finally:
        await ledger.close()
    return accepted - stored - listed


def test_a_fail_over_under_load_loses_no_accepted_event_and_needs_no_restart(tmp_path):
    rules = f"user {USER} on >{PASSWORD} {acl_rules('ferryman')}"
    with Fleet(tmp_path / "fleet", acl=rules) as fleet, running_origin() as origin:
        config = tmp_path / "config.yaml"
        config.write_text(
            f"broker:\n  url: {fleet.url(user=USER, password=PASSWORD)}\n"
            f"  sentinel_password: {SENTINEL_PASSWORD}\n  min_replicas: 1\n  heartbeat_timeout_s: 6\n"
        )
        with running_up(tmp_path / "up", origin.url, extra=("--config", str(config))) as up:
            processes = set(descendants(up.process.pid))
            accepted: set[str] = set()
            refused: set[str] = set()

            def send(number):
                keys = [f"e/{number}-{n}.bin" for n in range(20)]
                origin.bodies.update({key: random.Random(key).randbytes(2_000) for key in keys})
                taken = post(up, keys) == 202
                (accepted if taken else refused).update(keys)
                return taken

            numbers = iter(range(1_000_000))
            for _ in range(20):
                assert send(next(numbers))
            fleet.signal(fleet.servers[0], signal.SIGKILL)
            assert not send(next(numbers)), "it was called accepted with no replica left to have it"
            fleet.wait_for_primary(fleet.servers[1])
            fleet.start(fleet.servers[0], of=fleet.servers[1])
            until(lambda: send(next(numbers)), "events are taken again")
            for _ in range(20):
                assert send(next(numbers))
            settings = resolve_running(load_settings(config, env={"FERRYMAN_DATA_DIR": str(up.data_dir)}))
            until(
                lambda: not asyncio.run(without_end(settings, accepted, origin.bodies)),
                "every event has ended",
            )
            assert processes <= set(descendants(up.process.pid)), "something was restarted"
            assert refused_rights(fleet) == []
            assert "of-the-" not in up.output, "a password is shown"
            assert up.interrupt() == 0
