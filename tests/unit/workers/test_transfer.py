# ruff: noqa: E501 - a table reads best with one row a line
"""What a look at the store spares the origin, over a store and an origin of our own."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from workers.errors import StoreDenied, StoreUnavailable
from workers.origin.fetch.fetched import Fetched
from workers.plan import (
    AlreadyPresent,
    FetchItem,
    FetchPlan,
    Lane,
    Origin,
    OriginGroup,
    Skipped,
    Stored,
    StorePolicy,
)
from workers.store.guarantees import StoreGuarantees
from workers.store.metadata import ATTEMPT, KEY_SHA256, SHA256
from workers.store.model import ObjectInfo
from workers.transfer import Mover, Try

PLAN = FetchPlan(bucket="site", rule="r", groups=(OriginGroup(primary=Origin(host="o.example")),))
KEY = "a/b"


class OriginAsked(Exception):
    """The origin would have been asked."""


class Fetcher:
    def session(self, *_, **__):
        raise OriginAsked


class Store:
    """Answers one HEAD."""

    def __init__(self, answer, *, unrepresentable=()):
        self.answer = answer
        self._known = StoreGuarantees(unrepresentable=frozenset(unrepresentable))

    async def head(self, bucket, key):
        assert (bucket, key[0]) == ("site", "a")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def journal(self):
        return self

    async def notes(self, bucket, *, attempt=""):
        self.asked_for = attempt
        for note in ():
            yield note

    def known(self, bucket):
        assert bucket == "site"
        return self._known


def there(**meta):
    return ObjectInfo(key=KEY, size=5, etag="e", last_modified=0, user_meta=meta)


async def moved(store, *, look_first=True, tried_before=False, **item):
    mover = Mover(fetcher=Fetcher(), store=store, now=lambda: datetime.now(tz=UTC))
    this = Try(attempt="mine", look_first=look_first, tried_before=tried_before)
    return await mover.move(PLAN, FetchItem(**({"key": KEY, "path": KEY} | item)), this, lane=Lane.HOT)


async def test_s11_an_object_of_this_very_try_is_stored_by_us_and_the_origin_is_not_asked():
    """S11."""
    outcome = await moved(Store(there(**{ATTEMPT: "mine", SHA256: "abc"})))
    assert outcome == Stored(key=KEY, size=5, etag="e", origin="", url="", sha256="abc")
    replaced = await moved(Store(there(**{ATTEMPT: "mine"})), replace_etag="old")
    assert isinstance(replaced, Stored)


@pytest.mark.parametrize("meta", [{}, {ATTEMPT: "other"}, {KEY_SHA256: sha256(KEY.encode()).hexdigest()}])
async def test_anybody_elses_object_is_already_present(meta):
    assert await moved(Store(there(**meta))) == AlreadyPresent(key=KEY, etag="e", size=5)


@pytest.mark.parametrize(
    ("what", "store", "item"),
    [
        ("nothing there", Store(None), {}),
        ("who may not list cannot know", Store(StoreDenied("403", status=403)), {}),
        ("an object to be replaced", Store(there()), {"replace_etag": "e"}),
        ("the store collapsed two keys", Store(there(**{KEY_SHA256: "another"})), {}),
        ("a key that it cannot hold", Store(there(), unrepresentable=["double_slash"]), {"key": "a//b"}),
    ],
)
async def test_the_origin_is_asked_where_the_look_settles_nothing(what, store, item):
    with pytest.raises(OriginAsked):
        await moved(store, **item)
    assert what


async def test_a_store_that_does_not_answer_is_no_reason_to_burden_the_origin():
    with pytest.raises(StoreUnavailable):
        await moved(Store(StoreUnavailable("503", status=503)))


async def test_p41_what_a_killed_delivery_of_this_try_left_open_is_looked_for_before_it_begins_again():
    """P41."""
    store = Store(None)
    with pytest.raises(OriginAsked):
        await moved(store, tried_before=True)
    assert store.asked_for == "mine"


class Lease:
    released = False

    def release(self):
        self.released = True


class Written(Exception):
    """The object would have been stored."""


class TakingStore:
    """Lends memory, and takes what comes."""

    def __init__(self):
        self.lease = Lease()

    async def reserve(self, size):
        return self.lease

    def upload(self, *_, **__):
        raise Written


class OneAnswer:
    """An origin with one answer, as fetcher and session."""

    def __init__(self, headers):
        self.headers = headers

    def session(self, *_, **__):
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def open(self):
        return Fetched(
            status=200, headers=self.headers, length=1, framing="length", content_range=None, origin="o",
            url="http://o/a", digests_offered=False, _read=lambda _: None,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("what", "plan", "header", "reason"),
    [
        ("a rule that lets cookies through", replace(PLAN, passes_cookie=True), ("Cache-Control", "private"), "private"),
        ("headers of a client", replace(PLAN, headers=(("X-T", "1"),)), ("Vary", "x-t"), "vary"),
        ("the rule says for all", replace(PLAN, passes_cookie=True, store=StorePolicy(private=True)), ("Cache-Control", "private"), None),
        ("nothing of a client's, as in a scan", PLAN, ("Cache-Control", "no-store"), None),
    ],
)  # fmt: skip
async def test_what_is_meant_for_one_client_is_skipped_by_its_reason(what, plan, header, reason):
    """F61."""
    store = TakingStore()
    mover = Mover(fetcher=OneAnswer((header,)), store=store, now=lambda: datetime.now(tz=UTC))
    moving = mover.move(plan, FetchItem(key=KEY, path=KEY), Try(attempt="a"), lane=Lane.COLD)
    if reason is None:
        with pytest.raises(Written):
            await moving
    else:
        assert await moving == Skipped(key=KEY, reason=reason), what
        assert store.lease.released
