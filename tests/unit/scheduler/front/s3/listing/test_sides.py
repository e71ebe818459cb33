"""A list is read in the order of bytes, whatever order its server lists in."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.front.s3.listing.page import Entry, Page
from scheduler.front.s3.listing.positions import behind_key, behind_prefix, common_prefix, start_after
from scheduler.front.s3.listing.sides import OutOfOrder, read_by_bytes, read_by_component
from support.store.list_server import Server, part, without_clashes

sets = st.sets(part, max_size=25).map(without_clashes)


async def everything(read, server, *, prefix, delimiter, limit, at=""):
    found, pages = [], 0
    while True:
        chunk = await read(server, at, prefix=prefix, delimiter=delimiter, limit=limit)
        pages += 1
        found += [name for name, _ in chunk.items]
        if chunk.until is None:
            return found
        assert chunk.until > at
        at = chunk.until
        assert pages < 500


def expected(keys, prefix, delimiter, at=""):
    names = {common_prefix(key, prefix, delimiter) or key for key in keys if key.startswith(prefix)}
    return sorted(name for name in names if name >= at)


@settings(max_examples=150, deadline=None)
@given(
    keys=sets,
    prefix=st.sampled_from(["", "a", "a/", "a-", "a/a"]),
    delimiter=st.sampled_from(["", "/"]),
    limit=st.integers(1, 7),
    by_component=st.booleans(),
)
def test_all_keys_come_once_and_in_the_order_of_bytes(keys, prefix, delimiter, limit, by_component):
    server = Server(keys, by_component=by_component)
    read = read_by_component if by_component else read_by_bytes
    found = asyncio.run(everything(read, server, prefix=prefix, delimiter=delimiter, limit=limit))
    assert found == expected(keys, prefix, delimiter)


@settings(max_examples=150, deadline=None)
@given(keys=sets, after=part, limit=st.integers(1, 7), by_component=st.booleans(), whole=st.booleans())
def test_a_list_goes_on_from_any_place(keys, after, limit, by_component, whole):
    at = behind_prefix(f"{after}/") if whole else behind_key(after)
    server = Server(keys, by_component=by_component)
    read = read_by_component if by_component else read_by_bytes
    found = asyncio.run(everything(read, server, prefix="", delimiter="", limit=limit, at=at))
    assert found == expected(keys, "", "", at)


@pytest.mark.parametrize("by_component", [True, False])
def test_behind_all_keys_with_a_prefix_nothing_is_asked(by_component):
    server = Server(["a-/1", "a-/2", "a/a/1"], by_component=by_component)
    read = read_by_component if by_component else read_by_bytes
    chunk = asyncio.run(read(server, "a/a/-/a", prefix="a-", delimiter="", limit=1))
    assert (chunk.items, chunk.until, server.requests) == ([], None, 0)


def test_siblings_of_a_directory_that_are_directories_are_not_gone_through_again():
    keys = ["a-/1", "a-/2", "a--0", "a--1", "a-1", "a-2", "a/1", "a/2", "b"]
    server = Server(keys, by_component=True)
    for limit in range(1, 9):
        found = asyncio.run(everything(read_by_component, server, prefix="", delimiter="", limit=limit))
        assert found == sorted(keys)


def test_a_page_of_a_server_that_lists_by_bytes_is_one_request():
    server = Server([f"k{n:04}" for n in range(3000)], by_component=False)
    chunk = asyncio.run(read_by_bytes(server, "k0500", prefix="", delimiter="", limit=1000))
    assert (len(chunk.items), chunk.until, server.requests) == (1000, "k1499\0", 1)


def test_a_page_of_a_server_that_lists_by_component_costs_a_few_requests():
    server = Server([f"img/2024/{n // 500}/photo-{n:05}.jpg" for n in range(3000)], by_component=True)
    asked = []
    at = ""
    while at is not None:
        before = server.requests
        chunk = asyncio.run(read_by_component(server, at, prefix="", delimiter="", limit=1000))
        asked.append(server.requests - before)
        at = chunk.until
    assert max(asked) <= 7, asked


@pytest.mark.parametrize("keys", [["b", "a"], ["a/1", "a-1"]])
def test_a_server_that_lists_in_another_order_is_found_out(keys):
    async def ask(**_):
        return Page(keys=dict.fromkeys(keys, Entry(xml="")), truncated=False)

    with pytest.raises(OutOfOrder, match="order of UTF-8 bytes"):
        asyncio.run(read_by_bytes(ask, "", prefix="", delimiter="", limit=10))


def test_a_server_that_does_not_heed_start_after_is_found_out():
    async def ask(**_):
        return Page(keys=dict.fromkeys(["a", "b"], Entry(xml="")), truncated=True)

    with pytest.raises(OutOfOrder, match="start-after"):
        asyncio.run(read_by_bytes(ask, "b\0", prefix="", delimiter="", limit=2))


@given(st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_places_are_next_to_what_they_are_named_after(key):
    assert start_after(behind_key(key)) == key
    assert start_after(behind_prefix(key)) >= key
    assert all(behind_prefix(key) > key + more for more in ("", "a", "\U0010fffd"))
