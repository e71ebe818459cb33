"""Inventories in Parquet, read by what the extra `parquet` brings; and what is no such file."""

from __future__ import annotations

import datetime as dt
import importlib.util
import io
from pathlib import Path

import pytest

from scheduler.scan.inventory.entry import Entry
from scheduler.scan.inventory.s3_inventory import _latest, _parquet
from support.real import skip_or_fail

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[4] / "data" / "parquet"
MOMENT = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
DIGEST = "900150983cd24fb0d6963f7d28e17f72"


@pytest.fixture(autouse=True)
def _it_is_installed():
    if importlib.util.find_spec("pyarrow") is None:
        skip_or_fail("pyarrow is not installed: make test-slow installs it (tests/gateways.lock)")


def entries(body):
    return [Entry(one.key, one.size, one.digest, one.mtime) for one in _latest(_parquet(body, []))]


def written(columns):
    import pyarrow as pa
    from pyarrow import parquet

    body = io.BytesIO()
    parquet.write_table(pa.table(columns), body)
    return body.getvalue()


@pytest.mark.parametrize("file", sorted(DATA.glob("*.parquet")), ids=lambda path: path.stem)
def test_every_way_to_write_the_same_rows_gives_the_same_entries(file):
    at = MOMENT.timestamp()
    assert entries(file.read_bytes()) == [Entry("a b", 3, f"md5:{DIGEST}", at), Entry("c/d", None, None, at)]


def test_a_time_without_a_zone_is_utc(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        found = entries(written({"key": ["a"], "last_modified_date": [MOMENT.replace(tzinfo=None)]}))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == [Entry("a", None, None, MOMENT.timestamp())]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"name": ["a"]}, "no column key; there are name"),
        ({"key": [7]}, "key '7' is no text"),
        ({"key": [None]}, "key 'None' is no text"),
        ({"key": [b"a"]}, "is no text"),
        ({"key": ["a"], "size": [-1]}, "size '-1' is no whole number"),
        ({"key": ["a"], "size": [1.5]}, "size '1.5' is no whole number"),
        ({"key": ["a"], "last_modified_date": ["tomorrow"]}, "time 'tomorrow' is neither"),
    ],
)
def test_columns_that_no_inventory_has_are_refused_by_name(columns, said):
    with pytest.raises(ValueError, match=said):
        entries(written(columns))


@pytest.mark.parametrize("body", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"\x1f\x8b" + bytes(50)])
def test_what_is_no_parquet_is_refused(body):
    with pytest.raises((ValueError, OSError)):
        entries(body)
