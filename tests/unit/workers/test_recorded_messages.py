"""Messages that were written by earlier code under the same version are read as they were meant.

tests/data/wire holds one of each shape that ever went out. Whoever changes what is read raises WIRE_VERSION,
and a worker then refuses what it does not know (docs/operations.md, upgrade).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.plan import WIRE_VERSION, WireError, decode_batch, encode_batch

RECORDED = sorted((Path(__file__).parents[2] / "data" / "wire").glob("*.json"))


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_a_message_of_an_earlier_shape_is_read_whole(file):
    wire = json.loads(file.read_text())
    batch = decode_batch(wire)
    assert batch.plan.groups[0].primary.host == "origin.invalid:1"
    assert batch.plan.groups[0].standbys[0].host == "origin.invalid:2"
    assert (batch.plan.rule, batch.plan.epoch, batch.plan.trusted_hosts) == ("standby", 1, True)
    assert batch.plan.switch_codes == (404,)
    assert [(item.key, item.path, item.attempt) for item in batch.items] == [("a", "/a", 0), ("b", "/b", 0)]
    again = encode_batch(batch)
    assert {name: again[name] for name in wire if name in again} == wire | {"plan": again["plan"]}
    assert again["plan"] == wire["plan"]


def test_there_is_a_recorded_message_and_a_later_version_is_refused():
    assert RECORDED
    wire = json.loads(RECORDED[0].read_text()) | {"v": WIRE_VERSION + 1}
    with pytest.raises(WireError, match=f"version {WIRE_VERSION + 1}; this worker reads version"):
        decode_batch(wire)
