"""Whether a scan may be cut, and a source listed in ranges; where not, a sentence that says why."""

from __future__ import annotations

import pytest

from scheduler.scan.record.state import ScanOptions, ScanState
from scheduler.scan.shards.cutting import why_one
from scheduler.scan.shards.source import lists_in_ranges
from workers.store.guarantees import StoreGuarantees

BY_BYTES = StoreGuarantees(collation="bytes", start_after=True)


def scan(**options):
    return ScanState(name="s", run="s-0", options=ScanOptions(bucket="b", inventory={}, **options))


@pytest.mark.parametrize(
    ("store", "options", "why"),
    [
        (BY_BYTES, {}, ""),
        (StoreGuarantees(collation="path", start_after=True), {}, "the store lists by path component"),
        (
            StoreGuarantees(collation="none", start_after=True),
            {},
            "the store lists in no order that is known",
        ),
        (StoreGuarantees(collation="bytes"), {}, "the store does not obey start-after"),
        (BY_BYTES, {"limit": 5}, "--limit counts"),
    ],
)
def test_a_scan_is_cut_where_ranges_can_be_listed_and_else_says_why_not(store, options, why):
    found = why_one(scan(**options), store)
    assert found.startswith(why)
    assert bool(found) == bool(why)


OSS = {"bucket": "b", "endpoint": "https://oss-cn-hangzhou.aliyuncs.com"}
OTHER = {"bucket": "b", "endpoint": "https://s3.example.com"}


@pytest.mark.parametrize(
    ("inventory", "ours", "right"),
    [
        ({"manifest": "m.txt"}, BY_BYTES, False),
        # The store itself, as it was found to be.
        ({"bucket": "b", "prefix": "a/"}, BY_BYTES, True),
        ({"bucket": "b"}, StoreGuarantees(collation="path", start_after=True), False),
        ({"bucket": "b"}, StoreGuarantees(collation="bytes"), False),
        # Somebody else's: known by its vendor, or said; the configured store says nothing of it.
        (OSS, StoreGuarantees(), True),
        ({"bucket": "b", "endpoint": "https://cos.ap-guangzhou.myqcloud.com"}, StoreGuarantees(), True),
        ({"bucket": "b", "endpoint": "https://s3.eu-west-1.amazonaws.com"}, StoreGuarantees(), True),
        ({"bucket": "b", "region": "eu-west-1"}, StoreGuarantees(), True),
        ({"bucket": "b", "endpoint": "https://amazonaws.com.example.org"}, BY_BYTES, False),
        (OTHER, BY_BYTES, False),
        (OTHER | {"listing": "bytes"}, StoreGuarantees(), True),
        (OSS | {"listing": "path"}, StoreGuarantees(), False),
    ],
)
def test_a_source_is_listed_in_ranges_only_where_it_is_known_to_list_by_bytes(inventory, ours, right):
    assert lists_in_ranges(inventory, ours) is right
