"""`ferryman doctor` writes, reads, lists and deletes through the running gateway and cleans up."""

from __future__ import annotations

import socket

import pytest

from scheduler.config.settings import AccessKey
from scheduler.doctor import gateway
from scheduler.doctor.model import Level
from support.store.s3_calls import KEY_ID, SECRET

pytestmark = pytest.mark.real
ALL = ("read", "list", "write", "delete")


def rule(chaos):
    return {
        "name": "r",
        "type": "mirror",
        "request": {"protocol": "http"},
        "origin": {"hosts": [{"host": chaos.host}]},
    }


def settings_of(front, *keys, port=None):
    """The gateway's own settings, as the configuration file beside doctor has them."""
    found = front.services.settings
    update = {"listen": f"127.0.0.1:{port or front.port}"}
    if keys:
        update["access_keys"] = tuple(AccessKey.model_validate(key) for key in keys)
    return found.model_copy(update={"gateway": found.gateway.model_copy(update=update)})


async def checked(front, settings):
    """(level, message, remedy) of the one finding."""
    sets = {front.bucket: front.services.rules.snapshot(front.bucket)}
    (one,) = await gateway.check(settings, front.services.ledger, {b: r for b, r in sets.items() if r})
    return one.level, one.message, one.remedy


async def left_behind(front):
    claims = front.services.ledger.claims
    listed = [
        one.key
        async for page in front.services.store.list(front.bucket, gateway.PROBE_PREFIX)
        for one in page.objects
    ]
    noted = await claims.tombstoned_until(front.bucket) is not None
    return listed, await claims.tombstones(front.bucket), noted


async def test_what_works_is_ok_and_leaves_no_object_and_no_tombstone(start, chaos):
    front = await start(rule(chaos))
    level, message, _ = await checked(front, settings_of(front))
    assert level is Level.OK, message
    assert f"{KEY_ID} wrote, read, listed and deleted" in message
    assert await left_behind(front) == ([], [], False)
    assert chaos.count() == 0


async def test_tombstones_of_others_stay(start, chaos):
    front = await start(rule(chaos))
    claims = front.services.ledger.claims
    await claims.add_tombstones(front.bucket, ["dead"], ttl_s=60, reason="operator")
    await checked(front, settings_of(front))
    listed, tombstones, noted = await left_behind(front)
    assert (listed, [row[0] for row in tombstones], noted) == ([], ["dead"], True)


@pytest.mark.parametrize(
    ("keys", "step", "code", "remedy"),
    [
        ({"id": KEY_ID, "secret": "another"}, "PUT", "SignatureDoesNotMatch", "start it anew"),
        ({"id": "NOBODY", "secret": SECRET}, "PUT", "InvalidAccessKeyId", "start it anew"),
        # The gateway's own configuration lets it list and write only.
        ({"id": "WRITER", "secret": "writer-secret"}, "GET", "AccessDenied", "start it anew"),
    ],
)
async def test_the_step_that_fails_is_named_with_its_remedy_and_nothing_is_left(
    start, chaos, keys, step, code, remedy
):
    front = await start(rule(chaos))
    level, message, said = await checked(front, settings_of(front, {**keys, "may": ALL}))
    assert level is Level.FAILED
    assert f"a signed {step} by {keys['id']}" in message
    assert code in message
    assert remedy in said
    assert await left_behind(front) == ([], [], False)


async def test_without_a_key_of_all_rights_or_a_gateway_that_runs_it_is_a_note(start):
    front = await start()
    level, message, _ = await checked(front, settings_of(front, {"id": "READER", "secret": "x"}))
    assert (level, "no access key may read, list, write and delete" in message) == (Level.OK, True)
    elsewhere = {"id": "OTHER", "secret": "x", "may": ALL, "buckets": ["elsewhere"]}
    assert (await checked(front, settings_of(front, elsewhere)))[0] is Level.OK
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    level, message, _ = await checked(front, settings_of(front, port=port))
    assert (level, "skipped: no gateway listens on" in message) == (Level.OK, True)


async def test_something_else_on_the_gateways_port_is_failed(start):
    front = await start()
    port = int(front.services.settings.store.endpoint.rpartition(":")[2])
    level, message, _ = await checked(front, settings_of(front, port=port))
    assert level is Level.FAILED
    assert "a signed PUT" in message
