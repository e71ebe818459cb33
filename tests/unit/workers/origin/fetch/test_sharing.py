# ruff: noqa: E501 - a table reads best with one row a line
"""F61: what a shared cache must not keep (RFC 9111, 3 and 4.1)."""

from __future__ import annotations

import pytest

from workers.origin.fetch.sharing import withheld
from workers.plan import FetchPlan, Origin, OriginGroup

GROUPS = (OriginGroup(primary=Origin(host="o")),)
COOKIE = (("Cookie", "session=1"),)
TOKEN = (("X-Token", "t"), ("Accept-Language", "de"))
HOP = (("X-Ferryman-Hop", "another"),)


def plan(headers=(), *, passes_cookie=False):
    return FetchPlan(bucket="b", rule="r", groups=GROUPS, headers=headers, passes_cookie=passes_cookie)


@pytest.mark.parametrize(
    ("what", "made", "headers", "reason"),
    [
        ("nothing of a client's: anybody gets it", plan(), [("Cache-Control", "private, no-store"), ("Vary", "*")], None),
        ("a hop marker says nothing of a client", plan(HOP), [("Cache-Control", "no-store")], None),
        ("no-store", plan(COOKIE, passes_cookie=True), [("cache-control", "No-Store")], "no_store"),
        ("private", plan(COOKIE, passes_cookie=True), [("Cache-Control", "max-age=9 , Private")], "private"),
        ("private with a field", plan(COOKIE, passes_cookie=True), [("Cache-Control", 'private="set-cookie"')], "private"),
        ("two fields of one name", plan(COOKIE, passes_cookie=True), [("Cache-Control", "max-age=1"), ("Cache-Control", "private")], "private"),
        ("public", plan(COOKIE, passes_cookie=True), [("Cache-Control", "public, max-age=60")], None),
        ("no-cache may be kept", plan(COOKIE, passes_cookie=True), [("Cache-Control", "no-cache")], None),
        ("a header that only looks so", plan(COOKIE, passes_cookie=True), [("Cache-Control", "x-private, not-no-store")], None),
        ("a queued pull has no Cookie, its rule does", plan(passes_cookie=True), [("Cache-Control", "private")], "private"),
        ("Vary: Cookie without a Cookie", plan(passes_cookie=True), [("Vary", "Accept-Encoding, cookie")], "vary"),
        ("Vary: Cookie where none can pass", plan(TOKEN), [("Vary", "Cookie")], None),
        ("Vary on a header that went along", plan(TOKEN), [("Vary", "X-TOKEN")], "vary"),
        ("Vary on one that did not", plan(TOKEN), [("Vary", "Accept-Encoding, Origin")], None),
        ("Vary on everything", plan(TOKEN), [("Vary", "*")], "vary"),
        ("another header of a client", plan(TOKEN), [("Cache-Control", "private")], "private"),
    ],
)  # fmt: skip
def test_what_is_meant_for_one_client_is_not_for_others(what, made, headers, reason):
    assert withheld(tuple(headers), made) == reason, what
