"""Keys that the embedded store cannot hold as themselves: each answers with its own bytes, by every way in.

Guarantees 1 and 9 over a real SeaweedFS: it reads a backslash as a slash, collapses `//`, shows directories
as empty objects and never lists what lies below segments that it keeps for itself.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from hashlib import sha256
from urllib.parse import quote

import pytest

from scheduler.config.load import load_settings
from scheduler.machine.embedded import resolve_running
from support.installation import fetch, running_origin, running_up, until
from workers.store.client import ObjectStore
from workers.store.metadata import KEY_SHA256

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

#: No store is asked to hold these, so they have a reason of their own.
CONTROLS = ["con\x01trol", "con\x7ftrol"]
#: A key that the store holds, and one that it would take for it, or hide.
PAIRS = [
    ("s/b", "s\\b"),
    ("d/b", "d//b"),
    ("docs/page", "docs/"),
    ("plain", "n/.uploads/x"),
    ("plain", "n/x.versions"),
    ("plain", "n/x.versions/y"),
    *(("plain", key) for key in CONTROLS),
]
ODD = sorted({odd for _, odd in PAIRS})
KEPT = sorted({kept for kept, _ in PAIRS})


@pytest.fixture(scope="module")
def origin():
    with running_origin() as origin:
        origin.bodies.update({key: f"the bytes of {key!r}".encode() for key in (*ODD, *KEPT)})
        yield origin


@pytest.fixture(scope="module")
def up(tmp_path_factory, origin):
    with running_up(tmp_path_factory.mktemp("up"), origin.url) as up:
        yield up


def path(key):
    return "/site/" + quote(key, safe="/")


def listed(up):
    """Each listed key, sorted, with its reason."""
    status, _, body = up.ask("/v1/failures", token=up.token)
    assert status == 200
    return {row["key"]: row["reason"] for row in json.loads(body)["failures"]}


#: Whichever way such a key came.
REASONS = {key: "control_character" if key in CONTROLS else "key_not_representable" for key in ODD}


def in_the_store(up):
    """Every key that the store lists, without ours, and whose object each is by its provenance."""

    async def look():
        settings = resolve_running(load_settings(None, env={"FERRYMAN_DATA_DIR": str(up.data_dir)}))
        async with ObjectStore(settings.store, settings.limits) as store:
            keys = [one.key async for page in store.list("site") for one in page.objects]
            keys = [key for key in keys if not key.startswith(".ferryman/")]
            found = {key: await store.head("site", key) for key in keys}
        return {key: info.user_meta.get(KEY_SHA256) for key, info in found.items() if info is not None}

    return asyncio.run(look())


def test_every_key_answers_with_its_own_bytes_whichever_came_first(up, origin):
    for _ in range(2):
        for key in (*ODD, *KEPT, *ODD):
            status, _, body = up.get(path(key))
            assert (key, status, body) == (key, 200, origin.bodies[key])
    for key in KEPT:
        until(lambda key=key: up.stored("site", key), f"{key} is stored")
    for key in (*KEPT, *ODD):
        status, _, body = up.get(path(key))
        assert (key, status, body) == (key, 200, origin.bodies[key])


def test_a_range_and_a_head_of_such_a_key_are_its_own(up, origin):
    for key in ODD:
        request = urllib.request.Request(up.gateway + path(key), headers={"Range": "bytes=4-8"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert (answer.status, answer.read()) == (206, origin.bodies[key][4:9]), key
        status, _, _ = fetch(urllib.request.Request(up.gateway + path(key), method="HEAD"), 30)
        assert status == 404, "what is not stored is not asked of the origin by HEAD (A35)"


def test_such_keys_are_listed_once_and_nothing_of_them_is_stored(up):
    until(lambda: listed(up) == REASONS, f"{REASONS} are listed")
    for key in ODD:
        up.get(path(key))
    asyncio.run(asyncio.sleep(1))
    assert listed(up) == REASONS
    assert in_the_store(up) == {key: sha256(key.encode()).hexdigest() for key in KEPT}


def test_an_event_for_such_a_key_ends_as_the_listed_failure_and_not_as_present(up, origin):
    origin.bodies["docs/deep/"] = b"a page under a directory's name"
    origin.bodies["docs/deep/below"] = b"below"
    assert up.get(path("docs/deep/below"))[0] == 200
    until(lambda: up.stored("site", "docs/deep/below"), "below is stored")
    assert up.post_event("site", "docs/deep/")[0] == 202
    until(lambda: "docs/deep/" in listed(up), "the event's key is listed")
    assert up.get(path("docs/deep/"))[2] == origin.bodies["docs/deep/"]


def test_an_absent_key_of_such_a_kind_is_absent_and_no_failure(up):
    assert up.get(path("nobody//has"))[0] == 404
    assert up.post_event("site", "nobody\\has")[0] == 202
    asyncio.run(asyncio.sleep(2))
    assert not {"nobody//has", "nobody\\has"} & set(listed(up))


def test_a_key_with_a_slash_behind_an_object_that_has_others_below_is_not_that_object(up, origin):
    """SeaweedFS answers HEAD `k/` with the record of `k` once something lies below it."""
    origin.bodies.update({"um": b"the object", "um/x": b"below it", "um/": b"a page of its own"})
    for key in ("um", "um/x"):
        assert up.get(path(key))[2] == origin.bodies[key]
    until(lambda: up.stored("site", "um"), "um is stored")
    for _ in range(2):
        status, _, body = up.get(path("um/"))
        assert (status, body) == (200, origin.bodies["um/"])


def test_a_waived_key_of_such_a_kind_is_not_listed_by_the_next_visit_or_event(up, origin):
    origin.bodies["w//accepted"] = b"accepted"
    assert up.get(path("w//accepted"))[2] == b"accepted"
    until(lambda: "w//accepted" in listed(up), "the key is listed")
    chosen = {"bucket": "site", "keys": ["w//accepted"], "because": "nobody links to it"}
    assert json.loads(up.ask("/v1/failures/waive", token=up.token, order=chosen)[2]) == {"waived": 1}
    origin.bodies["w//marker"] = b"comes after it"
    for key in ("w//accepted", "w//marker"):
        assert up.get(path(key))[2] == origin.bodies[key]
        assert up.post_event("site", key)[0] == 202
    until(lambda: "w//marker" in listed(up), "what came later is listed")
    assert "w//accepted" not in listed(up)
