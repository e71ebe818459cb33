"""A run that is cut ends in at most twice the time that it would take if its ranges were equal, by a clock.

The clock is reckoned: a page takes `PAGE_S`, and longer where the store is slow; so do the pages that a split
asks for. What is tried is the search for places and for halves, under the coordinator's rules for splits.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import pytest

from scheduler.scan.shards import cutting
from scheduler.scan.shards.probing import cuts, halved, seen_in
from support.scan.key_families import FAMILIES

#: Keys of a page here: fewer than those of a store, so that fewer keys make a long run.
PAGE, PAGE_S = 50, 0.08
KEYS, PROCESSES = 60_000, 8
#: Seconds between two looks of the coordinator, and those in which an idle process has a new range.
LOOK_S = 0.1


@dataclass
class Range:
    """Places in the sorted keys: the next one, the last and the first; when its worker is free again."""

    at: int
    end: int
    begin: int
    free_s: float
    active_s: float = 0.0
    wanted: bool = False
    unsplittable: bool = False


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr("scheduler.scan.shards.probing._PAGE_KEYS", PAGE + 10)
    monkeypatch.setattr("scheduler.scan.shards.probing._LEAST", 2 * PAGE)


def bounds(keys, points):
    places = [0, *(bisect_left(keys, point) for point in points), len(keys)]
    return [(low, high) for low, high in pairwise(places) if low < high]


async def ended_s(keys, ranges, slow):
    """When all are compared, by `PROCESSES` workers; a page of `slow` keys takes five times as long."""

    async def split(one):
        rounds = 0

        async def probe(after):
            nonlocal rounds
            rounds += 1
            return seen_in(keys, after, page=PAGE)

        end = None if one.end == len(keys) else keys[one.end]
        at, _ = await halved(probe, keys[one.at - 1], end)
        # Pages come twelve or more at a time; each look waits for the one before.
        one.free_s += PAGE_S * math.ceil(rounds / 12)
        place = None if at is None else bisect_left(keys, at)
        return place if place is not None and one.at < place < one.end else None

    def page_s(at):
        return PAGE_S * (5 if slow is not None and slow(keys[at]) else 1)

    def left(one):
        return one.end - one.at

    waiting = [Range(low, high, low, 0.0) for low, high in ranges]
    running: list[Range] = []
    now = 0.0
    while waiting or running:
        while waiting and len(running) < PROCESSES:
            one = waiting.pop(0)
            one.free_s = now
            running.append(one)
        for one in running:
            while one.free_s <= now and left(one) > 0:
                took = page_s(one.at)
                one.free_s += took
                one.active_s += took
                one.at = min(one.at + PAGE, one.end)
                if one.wanted and left(one) > 0:
                    one.wanted = False
                    place = await split(one)
                    if place is None:
                        one.unsplittable = True
                    else:
                        waiting.append(Range(place, one.end, place, now))
                        one.end = place
        running = [one for one in running if left(one) > 0 or one.free_s > now]
        idle = PROCESSES - len(running) - sum(one.wanted for one in running)
        if idle > 0 and not waiting:
            old = [one for one in running if one.active_s > cutting._SPLIT_AFTER_S and one.at > one.begin]
            free = [one for one in old if not one.wanted and not one.unsplittable and left(one) > 0]
            for one in sorted(free, key=lambda one: -left(one))[:idle]:
                one.wanted = True
        now += LOOK_S
    return now


def best_s(keys, slow):
    pages = range(0, len(keys), PAGE)
    return sum(PAGE_S * (5 if slow is not None and slow(keys[at]) else 1) for at in pages) / PROCESSES


async def searched(keys, parts):
    async def probe(after):
        return seen_in(keys, after, page=PAGE)

    return bounds(keys, (await cuts(probe, parts)).points)


@pytest.mark.parametrize("family", sorted(FAMILIES))
async def test_ranges_that_were_searched_for_end_within_twice_the_best_time(family):
    keys = sorted(FAMILIES[family](KEYS))
    took = await ended_s(keys, await searched(keys, PROCESSES), None)
    assert took <= 2 * best_s(keys, None), took


@pytest.mark.parametrize("family", sorted(FAMILIES))
async def test_what_was_cut_wrongly_is_split_until_it_ends_within_twice_the_best_time(family):
    keys = sorted(FAMILIES[family](KEYS))
    wrong = [(0, 500), (500, 1_000), (1_000, 31_000), (31_000, len(keys))]
    took = await ended_s(keys, wrong, None)
    assert took <= 2 * best_s(keys, None), took


@pytest.mark.parametrize("family", sorted(FAMILIES))
async def test_where_the_store_is_slow_is_split_until_all_ends_within_twice_the_best_time(family):
    keys = sorted(FAMILIES[family](KEYS))
    low, high = keys[20_000], keys[27_500]
    ranges = await searched(keys, PROCESSES)

    def slow(key):
        return low <= key < high

    took = await ended_s(keys, ranges, slow)
    assert took <= 2 * best_s(keys, slow), took
