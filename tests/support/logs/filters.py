"""Filters of a log from the options that an operator would write for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.logs.filters import make_filter
from scheduler.logs.place import Place

if TYPE_CHECKING:
    from scheduler.logs.filters import MissFilter


def filter_of(*, buckets=None, bucket=None, hosts=None, strip_prefix="", **options) -> MissFilter:
    """Those of the place, and all others."""
    place = Place.of(buckets or {}, bucket=bucket, hosts=hosts, strip_prefix=strip_prefix)
    return make_filter(place, **options)
