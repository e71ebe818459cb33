"""What stands in the dependency report for a client's Referer, whatever the client sends."""

from __future__ import annotations

import pytest

from scheduler.dispatch.dependency import NONE, referrer_of


@pytest.mark.parametrize("referer", ["http://[", "http://[::1/a", "//[x]y", "http://\u2100.example/"])
def test_a_referer_that_is_no_url_is_none_and_no_exception(referer):
    assert referrer_of(referer) == NONE


def test_a_referer_is_its_host_and_path():
    assert referrer_of("https://user:word@www.example/a/b?token=1") == "www.example/a/b"
