"""A merged list is that of one bucket which had everything: the same names, in one order, each once."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.front.s3.call import Refused
from scheduler.front.s3.listing.origins import OriginList, Wanted
from scheduler.front.s3.listing.page import read_page
from scheduler.front.s3.listing.paging import union_page
from scheduler.front.s3.listing.positions import common_prefix
from scheduler.front.s3.listing.request import list_document, list_request
from scheduler.front.s3.listing.sides import read_by_bytes, read_by_component
from scheduler.rules.keys import has_dot_segment
from scheduler.rules.listable.access import BucketAccess
from scheduler.rules.listable.routes import list_routes
from scheduler.rules.model import HostGroup, OriginHost, OriginPart, Path, Replacement, Rule, RuleSet, When
from support.store.list_server import Server, part, without_clashes

SECRET = "a secret"
ACCESS = {"old": BucketAccess()}


def rule(name, *, prefix="", suffix="", path=None, base_path="/bucket/"):
    host = OriginHost(host="old.example", base_path=base_path, scheme="https", credential="old")
    return Rule(
        name=name,
        when=When(prefix=prefix, suffix=suffix),
        path=path or Path(),
        origin=OriginPart(hosts=(HostGroup(primary=host),)),
    )


class World:
    """A store, the origins of some rules, and what was deleted."""

    def __init__(self, store, rules, origins, buried, *, by_component=(True, False)):
        self.store = Server(store, by_component=by_component[0])
        self.origins = [Server(keys, by_component=by_component[1]) for keys in origins]
        self.buried_keys = buried
        self.routes = list_routes(RuleSet(bucket="site", rules=tuple(rules)), ACCESS)
        self.by_component = by_component
        self.most_requests = 0

    def everything(self):
        """What one bucket with all of it would have."""
        found = set(self.store.keys)
        for at, (route, server) in enumerate(zip(self.routes, self.origins, strict=True)):
            for theirs in server.keys:
                if not theirs.startswith(route.front):
                    continue
                key = route.here(theirs)
                taken = any(
                    key.startswith(one.rule.when.prefix) and key.endswith(one.rule.when.suffix)
                    for one in self.routes[:at]
                )
                mine = key.startswith(route.rule.when.prefix) and key.endswith(route.rule.when.suffix)
                if mine and not taken and route.holds(key) and key not in self.buried_keys:
                    found.add(key)
        return found

    async def page(self, place, wanted, most):
        async def buried(keys):
            return {key for key in keys if key in self.buried_keys}

        async def below(directories):
            return {d for d in directories if any(key.startswith(d) for key in self.buried_keys)}

        def reader(server, *, by_component):
            read = read_by_component if by_component else read_by_bytes
            return lambda at, prefix, delimiter, limit: read(
                server, at, prefix=prefix, delimiter=delimiter, limit=limit
            )

        async def store(at, wanted):
            delimiter = "/" if wanted.delimiter == "/" else ""
            above = common_prefix(at.removesuffix("\0"), wanted.prefix, delimiter)
            at = at if above is None else min(at, above)
            read = reader(self.store, by_component=self.by_component[0])
            return await read(at, wanted.prefix, delimiter, wanted.limit)

        sides = [
            OriginList(
                route,
                self.routes[:at],
                read=reader(self.origins[at], by_component=self.by_component[1]),
                holds=lambda key, size: bool(key),
                buried_below=below,
            )
            for at, route in enumerate(self.routes)
        ]
        before = [server.requests for server in self.origins]
        page = await union_page(place, wanted, most=most, store=store, origins=sides, buried=buried)
        used = [server.requests - had for server, had in zip(self.origins, before, strict=True)]
        self.most_requests = max([self.most_requests, *used])
        return page

    async def pages(self, *, version, size, prefix, delimiter, after=""):
        """Every page, as a client of this version of the API goes through them."""
        given = {"prefix": prefix, "delimiter": delimiter, "max-keys": str(size), "encoding-type": "url"}
        given |= {"list-type": "2", "start-after": after} if version == 2 else {"marker": after}
        keys, prefixes = [], []
        for _ in range(400):
            asked = list_request("site", given, secret=SECRET)
            wanted = Wanted(prefix=prefix, delimiter=delimiter, limit=max(2, size))
            shown = await self.page(asked.place, wanted, asked.most)
            assert len(shown.keys) + len(shown.prefixes) <= size
            document = list_document(asked, shown, secret=SECRET)
            page = read_page(document, plus_is_space=True)
            keys += page.keys
            prefixes += page.prefixes
            if not page.truncated:
                return keys, prefixes
            token = "NextContinuationToken" if version == 2 else "NextMarker"
            value = document.partition(f"<{token}>".encode())[2].partition(f"</{token}>".encode())[0].decode()
            if version == 2:
                given["continuation-token"] = value
            else:
                from urllib.parse import unquote_plus

                given["marker"] = unquote_plus(value)
        raise AssertionError("the list does not end")


def expected(keys, prefix, delimiter, after):
    plain, above = [], set()
    passed = common_prefix(after, prefix, delimiter) if after.startswith(prefix) and after else None
    for key in sorted(key for key in keys if key.startswith(prefix) and key > after):
        rolled = common_prefix(key, prefix, delimiter)
        if rolled is None:
            plain.append(key)
        elif rolled != passed:
            above.add(rolled)
    return plain, sorted(above)


# A common prefix of nothing but keys that cannot be asked for is shown (docs/s3.md says so).
keys = st.sets(part.filter(lambda key: not has_dot_segment(key)), max_size=16).map(without_clashes)
RULES = {
    "one": lambda: [rule("r")],
    "two": lambda: [rule("img", prefix="a/"), rule("all")],
    "suffix": lambda: [rule("dots", suffix="0"), rule("all")],
    "moved": lambda: [
        rule("r", prefix="a", path=Path(replace_prefix=Replacement(old="a", new="old/b"), add_prefix="x/"))
    ],
    "below": lambda: [rule("r", prefix="a/", base_path="/bucket/deep/er/")],
}


@settings(max_examples=200, deadline=None)
@given(data=st.data(), which=st.sampled_from(sorted(RULES)), version=st.sampled_from([1, 2]))
def test_a_merged_list_is_that_of_one_bucket_that_had_everything(data, which, version):
    rules = RULES[which]()
    routes = list_routes(RuleSet(bucket="site", rules=tuple(rules)), ACCESS)
    origins = []
    for route in routes:
        mine = {key for key in data.draw(keys) if key.startswith(route.cut)}
        others = data.draw(st.sets(st.sampled_from(["other", "deep/x", "old", "x/old/c"]), max_size=2))
        origins.append(without_clashes({route.at_origin(key) for key in mine} | others))
    buried = data.draw(st.sets(st.sampled_from(sorted({k for o in origins for k in o} | {"a"})), max_size=8))
    world = World(
        data.draw(keys), rules, origins, buried,
        by_component=(data.draw(st.booleans()), data.draw(st.booleans())),
    )  # fmt: skip
    prefix = data.draw(st.sampled_from(["", "a", "a/", "a-", ".", "a/a"]))
    delimiter = data.draw(st.sampled_from(["", "/", "-"]))
    after = data.draw(st.one_of(st.just(""), part))
    size = data.draw(st.integers(1, 6))
    found = asyncio.run(
        world.pages(version=version, size=size, prefix=prefix, delimiter=delimiter, after=after)
    )
    assert found == expected(world.everything(), prefix, delimiter, after)
    if not world.by_component[1]:
        assert world.most_requests <= 2


def test_a_common_prefix_of_nothing_but_deleted_keys_is_not_shown():
    gone = {f"gone/{n:03}" for n in range(500)}
    world = World(["new"], RULES["one"](), [gone | {"kept/1", "kept/2"}], gone | {"kept/1"})
    found = asyncio.run(world.pages(version=1, size=10, prefix="", delimiter="/"))
    assert found == (["new"], ["kept/"])
    assert world.most_requests <= 2


def test_a_page_of_nothing_but_deleted_keys_is_empty_and_not_the_last():
    gone = {f"k{n:05}" for n in range(100)}
    world = World(["z"], RULES["one"](), [gone], gone, by_component=(False, False))
    asked = list_request("site", {"list-type": "2", "max-keys": "10"}, secret=SECRET)
    shown = asyncio.run(world.page(asked.place, Wanted(prefix="", delimiter="", limit=10), 10))
    assert (shown.keys, shown.place) == ([], "k00019\0")
    assert asyncio.run(world.pages(version=2, size=10, prefix="", delimiter="")) == (["z"], [])


def test_a_page_without_anything_hidden_is_one_request_a_side():
    world = World(
        [f"k{n:05}" for n in range(0, 3000, 2)], RULES["one"](), [{f"k{n:05}" for n in range(3000)}], set(),
        by_component=(False, False),
    )  # fmt: skip
    shown = asyncio.run(world.page("", Wanted(prefix="", delimiter="", limit=1000), 1000))
    assert len(shown.keys) == 1000
    assert (world.store.requests, world.origins[0].requests) == (1, 1)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"max-keys": "many"}, "max-keys"),
        ({"max-keys": "-1"}, "max-keys"),
        ({"encoding-type": "gzip"}, "encoding-type"),
        ({"list-type": "3"}, "list-type"),
        ({"list-type": "2", "continuation-token": ""}, "continuation token"),
        ({"list-type": "2", "continuation-token": "!!!"}, "continuation token"),
        ({"list-type": "2", "continuation-token": "AAAAAAAAAAAAAAAAAAAAAAAAAAA"}, "continuation token"),
    ],
)
def test_what_s3_does_not_know_is_refused_by_name(given, named):
    with pytest.raises(Refused) as caught:
        list_request("site", given, secret=SECRET)
    assert caught.value.error.code == "InvalidArgument"
    assert named in caught.value.error.message


def test_a_token_is_for_one_list_and_cannot_be_changed():
    world = World([f"k{n}" for n in range(9)], [], [], set())
    given = {"list-type": "2", "prefix": "k", "max-keys": "2"}
    asked = list_request("site", given, secret=SECRET)
    shown = asyncio.run(world.page(asked.place, Wanted(prefix="k", delimiter="", limit=2), 2))
    document = list_document(asked, shown, secret=SECRET).decode()
    token = document.partition("<NextContinuationToken>")[2].partition("<")[0]
    assert list_request("site", {**given, "continuation-token": token}, secret=SECRET).place == "k1\0"
    changed = token[:-3] + ("A" if token[-3] != "A" else "B") + token[-2:]
    for bucket, more, secret in (
        ("site", {"continuation-token": changed}, SECRET),
        ("site", {"continuation-token": token, "prefix": ""}, SECRET),
        ("site", {"continuation-token": token, "delimiter": "/"}, SECRET),
        ("other", {"continuation-token": token}, SECRET),
        ("site", {"continuation-token": token}, "another secret"),
    ):
        with pytest.raises(Refused):
            list_request(bucket, {**given, **more}, secret=secret)
