"""Every way to compare, in shards as in one piece: the oracle knows what each key is."""

from __future__ import annotations

import hashlib

import pytest

from scheduler.scan.names import Names
from support.scan.shards import put, shards_of
from support.store.fake_s3 import Stored

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

KEYS = [f"d{n % 3}/{n:05}" for n in range(2_400)]
#: The store has these otherwise, or not at all; sizes and digests differ, or digests alone.
LONGER, OTHER, GONE = set(KEYS[100:130]), set(KEYS[900:950]), set(KEYS[2000:2070])
#: The origin has these changed since; all others long before.
YOUNGER = set(KEYS[1500:1540])
MD5 = hashlib.md5(b"xx", usedforsecurity=False).hexdigest()


def manifest(fleet):
    path = fleet.tmp_path / "all.csv"
    rows = [f"{key},2,{MD5},{'2099' if key in YOUNGER else '2001'}-01-02T03:04:05Z" for key in KEYS]
    path.write_text("\n".join(["key,size,md5,mtime", *rows, ""]))
    return {"manifest": str(path)}


@pytest.mark.parametrize(
    ("compare", "differs"),
    [
        ((), set()),
        (("size",), LONGER),
        (("digest",), LONGER | OTHER),
        (("mtime",), YOUNGER),
        (("size", "digest", "mtime"), LONGER | OTHER | YOUNGER),
    ],
    ids=lambda value: "+".join(value) or "nothing" if isinstance(value, tuple) else "",
)
async def test_what_differs_and_what_is_missing_is_counted_the_same_in_shards_as_in_one(
    bytes_fleet, bytes_store, compare, differs
):
    fleet, store = bytes_fleet, bytes_store
    put(store, ["of-somebody-else"])
    for key in KEYS:
        if key not in GONE:
            body = b"xxx" if key in LONGER else b"yy" if key in OTHER else b"xx"
            store.objects[key] = Stored(body, {}, hashlib.md5(body, usedforsecurity=False).hexdigest())
    found = {}
    for name, shards in (("one", 1), ("s", 6)):
        report = await fleet.scan(
            name, inventory=manifest(fleet), compare=compare, dry_run=True, shards=shards
        )
        total = report["total"]
        assert (report["phase"], total["found"], total["differs"]) == ("done", len(KEYS), len(differs)), (
            report
        )
        assert total["present"] == len(KEYS) - len(GONE) - len(differs)
        assert (report["would_fetch"], report["extra"], report["dry_run"]) == (len(GONE), 1, True)
        state = await fleet.scans.states.get(name)
        named = sorted([one.key async for one in Names(fleet.services, state).read(["differs"])])
        assert named == sorted(differs)
        found[name] = (total, report["prefixes"])
    assert found["one"] == found["s"]
    _, shards = await shards_of(fleet)
    assert len(shards) == 6
