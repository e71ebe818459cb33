"""What a run may go on with, and when it stops by itself."""

from __future__ import annotations

import pytest

from scheduler.config.settings import ScanSettings, Settings
from scheduler.machine.embedded import store_identity
from scheduler.scan.limits import (
    NearlyAllAbsent,
    empty_is_meant,
    heed_absent,
    max_absent_of,
    nearly_all_absent,
)
from scheduler.scan.record.account import Account
from scheduler.scan.record.state import Checkpoint, ScanOptions, ScanState, not_to_be_continued


def state(*, options=(), **more):
    return ScanState(
        name="s", run="s-1", options=ScanOptions(bucket="b", inventory={}, **dict(options)), **more
    )


@pytest.mark.parametrize(
    ("absent", "of", "share", "stops"),
    [
        (99, 99, 0.9, False), (100, 100, 0.9, True), (306, 319, 0.9, True), (900, 1000, 0.9, False),
        (901, 1000, 0.9, True), (5000, 1_000_000, 0.9, False), (1000, 1000, 1.0, False),
        (100, 1000, 0.0, True),
    ],
)  # fmt: skip
def test_nearly_all_is_more_than_the_share_and_a_hundred_keys(absent, of, share, stops):
    assert nearly_all_absent(absent, of, share) is stops


def test_a_scan_under_way_is_judged_from_a_thousand_keys_on():
    early = Account(found=5000, absent=950, stored=40, pending=4010)
    heed_absent(state(), early, ended=False)
    with pytest.raises(NearlyAllAbsent, match=r"950 of 990 keys are absent at the origin, more than 90%"):
        heed_absent(state(), early, ended=True)
    later = Account(found=5000, absent=950, stored=55, excluded=100, pending=3895)
    with pytest.raises(NearlyAllAbsent):
        heed_absent(state(), later, ended=False)
    heed_absent(state(options={"max_absent": 1.0}), later, ended=True)


def test_what_is_meant_is_said_with_the_scan_or_in_the_settings_since():
    quiet = Settings()
    told = Settings(scans={"s": ScanSettings(bucket="b", allow_empty=True, max_absent=1)})
    assert (empty_is_meant(quiet, state()), max_absent_of(quiet, state())) == (False, 0.9)
    assert (empty_is_meant(told, state()), max_absent_of(told, state())) == (True, 1)
    with_it = state(options={"allow_empty": True, "max_absent": 0.95})
    assert (empty_is_meant(quiet, with_it), max_absent_of(quiet, with_it)) == (True, 0.95)


def test_a_run_is_not_gone_on_with_on_another_store_or_from_a_checkpoint_without_an_order():
    assert not not_to_be_continued(state(), "https://a")
    assert not not_to_be_continued(state(store="https://a"), "https://a")
    assert "begun on the store https://a" in not_to_be_continued(state(store="https://a"), "https://b")
    point = Checkpoint(key="slow/n1")
    assert "earlier version" in not_to_be_continued(state(checkpoint=point), "https://a")
    assert not not_to_be_continued(state(checkpoint=point, collation="path"), "https://a")
    assert not not_to_be_continued(state(checkpoint=Checkpoint(key="z", compared=True)), "https://a")
    assert not_to_be_continued(state(spoilt="it is not what it was"), "") == "it is not what it was"


def test_a_store_is_its_address_and_an_embedded_one_its_generated_key():
    def of(endpoint, key="AKIA"):
        return store_identity(
            Settings.model_validate(
                {"store": {"endpoint": endpoint, "access_key_id": key, "secret_access_key": "s"}}
            )
        )

    assert of("https://S3.example.com/") == of("https://s3.example.com") == "https://s3.example.com"
    assert of("http://S3.example.com:9000") == "http://s3.example.com:9000"
    assert of("http://127.0.0.1:8333") != of("http://127.0.0.1:8334")
    mine = "FM0123456789ABCDEF01"
    assert of("http://127.0.0.1:8333", mine) == of("http://127.0.0.1:9444", mine) == f"embedded {mine}"
    assert of("http://127.0.0.1:8333", mine) != of("http://127.0.0.1:8333", mine[:-1] + "2")
