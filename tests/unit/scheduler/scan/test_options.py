"""What is said to somebody who asks for a scan wrongly."""

from __future__ import annotations

import pytest

from scheduler.config.settings import ScanSettings, Settings
from scheduler.scan.service import WrongScan, scan_options


@pytest.mark.parametrize(("scans", "has"), [({}, "none"), ({"site": ScanSettings(bucket="b")}, "site")])
def test_a_scan_that_the_configuration_does_not_have_is_told_from_one_that_lacks_an_option(scans, has):
    with pytest.raises(WrongScan) as wrong:
        scan_options(Settings(scans=scans), "sight", {})
    said = f"needed, because config.yaml has no scan of this name; it has: {has}"
    assert wrong.value.fields == {
        "bucket": f"scan sight: bucket: {said}",
        "inventory": f"scan sight: inventory: {said}",
    }
