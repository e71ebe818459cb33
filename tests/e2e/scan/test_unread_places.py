"""Places of an inventory that cannot be read: named, counted, settled; and a crawl that obeys."""

from __future__ import annotations

import asyncio
import time

import pytest

from scheduler.dispatch.failures import retry
from scheduler.scan.gate.gate import look
from scheduler.scan.service import scan_options
from support.installation import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

PAGE = "<html><head><title>Index of /{0}</title></head><body><h1>Index of /{0}</h1>{1}</body></html>"


def listing(origin, folder, *names):
    origin.content_type = "text/html"
    origin.bodies[folder] = PAGE.format(
        folder, "".join(f'<a href="{name}">{name}</a>' for name in names)
    ).encode()


async def places(fleet):
    return {
        one.key.removeprefix(fleet.origin.url): one.message
        async for one in fleet.services.ledger.failures.iterate(fleet.bucket)
        if one.reason == "unread_place"
    }


async def condition(fleet, name):
    verdict = await look(fleet.services, await fleet.scans.states.get("s"), quiet_s=0.5)
    return next(one for one in verdict.conditions if one.name == name)


async def test_a_folder_that_cannot_be_read_is_named_and_keeps_the_gate_shut_until_it_is_settled(fleet):
    origin = fleet.origin
    listing(origin, "", "a.txt", "good/", "gone/", "site/", "X%FF", "X%FE")
    listing(origin, "good/", "b.txt", "http://elsewhere.example/c.txt")
    origin.bodies |= {"a.txt": b"a", "good/b.txt": b"b", "site/": b"<h1>Welcome</h1>"}
    source = {"inventory": {"http_index": origin.url}}
    report = await fleet.scan("s", **source)
    assert (report["phase"], report["total"]["found"], report["total"]["stored"]) == ("done", 2, 2)
    assert (report["pages"], report["unread"], report["outside"]) == (2, 4, 1)
    assert await places(fleet) == {
        "/gone/": "status 404",
        "/site/": "no index page: a page titled 'Welcome'",
        "/X%FF": "its name is not UTF-8",
        "/X%FE": "its name is not UTF-8",
    }
    shut = await condition(fleet, "places_read")
    assert not shut.ok
    assert "4 places of the inventory could not be read, 0 of them waived" in shut.evidence
    listed = [one async for one in fleet.services.ledger.failures.iterate(fleet.bucket)]
    tried = await retry(fleet.services, listed)
    assert (tried.retried, len(tried.kept)) == (0, 4), "a place is no key that could be fetched"

    listing(origin, "gone/", "late.txt")
    origin.bodies["gone/late.txt"] = b"late"
    report = await fleet.scan("s", exclude=("^site/",), **source)
    assert (report["total"]["stored"], report["unread"]) == (1, 2)
    assert set(await places(fleet)) == {"/X%FF", "/X%FE"}, "what was read or left out is off the list"
    assert not (await condition(fleet, "places_read")).ok
    keys = [origin.url + "/X%FF", origin.url + "/X%FE"]
    await fleet.services.ledger.failures.waive(fleet.bucket, keys, reason="test files", by="me")
    assert (await condition(fleet, "places_read")).ok
    assert (await condition(fleet, "failures_settled")).ok
    report = await fleet.scan("s", exclude=("^site/",), **source)
    assert (report["unread"], await places(fleet)) == (0, {}), "what was waived stays waived"
    assert (await condition(fleet, "places_read")).ok


async def test_filters_keep_the_crawl_out(fleet):
    origin = fleet.origin
    listing(origin, "", "in/", "out/", "aside/")
    listing(origin, "in/", "private/", "deep/", "a.txt")
    listing(origin, "in/deep/", "b.txt")
    origin.bodies |= {"in/a.txt": b"a", "in/deep/b.txt": b"b"}
    given = {"inventory": {"http_index": origin.url}, "prefix": "in/", "exclude": ("(^|/)private/.*",)}
    report = await fleet.scan("s", **given)
    assert (report["total"]["stored"], report["unread"]) == (2, 0)
    assert not {"out/", "aside/", "in/private/"} & set(origin.asked)


@pytest.mark.parametrize("start", ["/d%20e/~u/?token=1", "/d e/%7Eu", "/x/../d%20e/%7eu/#top"])
async def test_the_start_page_may_be_spelled_as_one_likes(idle_fleet, start):
    listing(
        idle_fleet.origin,
        "d e/~u/",
        "/d%20e/%7Eu/a.txt",
        "b.txt",
        "http://" + idle_fleet.origin.url[7:] + "/d e/~u/c.txt",
    )
    report = await idle_fleet.scan("s", inventory={"http_index": idle_fleet.origin.url + start}, dry_run=True)
    assert (report["would_fetch"], report["unread"], report["outside"]) == (3, 0, 0)


@pytest.mark.parametrize("body", [b"It works!", b"", b"<form><input type=password></form>"])
async def test_a_start_page_that_is_no_index_fails_the_scan(idle_fleet, body):
    idle_fleet.origin.content_type = "text/html"
    idle_fleet.origin.bodies[""] = body
    report = await idle_fleet.scan("s", inventory={"http_index": idle_fleet.origin.url + "/"})
    assert report["phase"] == "failed"
    assert "no index page" in report["error"]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<html><body>Log in</body></html>", "an HTML page; a sitemap is expected"),
        (b"<!DOCTYPE html><html><p>Log in", "an HTML page; a sitemap is expected"),
        (b'<rss version="2.0"><channel/></rss>', "an RSS feed; a sitemap is expected"),
        (b'<feed xmlns="http://www.w3.org/2005/Atom"/>', "an Atom feed; a sitemap is expected"),
        (b"", "an empty answer; a sitemap is expected"),
        (b"It works!", "syntax error"),
    ],
)
async def test_what_is_no_sitemap_fails_the_scan(idle_fleet, body, what):
    idle_fleet.origin.bodies["sitemap.xml"] = body
    report = await idle_fleet.scan("s", inventory={"sitemap": idle_fleet.origin.url + "/sitemap.xml"})
    assert report["phase"] == "failed"
    assert what in report["error"]


async def test_a_crawl_shows_its_pages_and_obeys_while_a_page_hangs(idle_fleet):
    fleet, origin = idle_fleet, idle_fleet.origin
    listing(origin, "", "slow/", "a/")
    listing(origin, "a/", "1.txt")
    listing(origin, "slow/", "x/")
    half_sent, release = origin.gate("slow/")
    given = {"bucket": fleet.bucket, "inventory": {"http_index": origin.url + "/"}}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", given))
    running = asyncio.create_task(fleet.scans.coordinate("s"))
    assert await asyncio.to_thread(half_sent.wait, 30)

    async def two_pages():
        report = await fleet.report("s")
        return (report["phase"], report["pages"]) == ("inventory", 2)

    async def paused():
        return (await fleet.report("s"))["paused"]

    await eventually(two_pages, "the pages that were read are counted while another hangs")
    began = time.monotonic()
    await fleet.scans.states.order("s", "pause")
    await eventually(paused, "a pause during a crawl")
    assert time.monotonic() - began < 3, "a second, and room for a busy machine"
    release.set()
    await fleet.scans.states.order("s", "cancel")
    await asyncio.wait_for(running, 10)
    assert (await fleet.report("s"))["phase"] == "cancelled"
    assert "slow/x/" not in origin.asked


async def test_a_crawl_is_cancelled_while_a_page_hangs(idle_fleet):
    fleet, origin = idle_fleet, idle_fleet.origin
    listing(origin, "", "a.txt")
    half_sent, _ = origin.gate("")
    given = {"bucket": fleet.bucket, "inventory": {"http_index": origin.url + "/"}}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", given))
    running = asyncio.create_task(fleet.scans.coordinate("s"))
    assert await asyncio.to_thread(half_sent.wait, 30)
    began = time.monotonic()
    await fleet.scans.states.order("s", "cancel")
    await asyncio.wait_for(running, 30)
    assert time.monotonic() - began < 3, "a second, and room for a busy machine"
    assert (await fleet.report("s"))["phase"] == "cancelled"


async def test_names_of_find_that_are_not_utf8_are_refused_by_name(fleet):
    fleet.origin.bodies |= {"a,b.txt": b"ab", "中.txt": b"zh"}
    path = fleet.tmp_path / "files.find0"
    path.write_bytes(b"2 1.5 a,b.txt\0" + "2 1.5 中.txt\0".encode() + b"1 1.5 X\xff\0" + b"1 1.5 X\xfe\0")
    report = await fleet.scan("s", inventory={"manifest": str(path)})
    total = report["total"]
    assert (total["found"], total["stored"], total["failed"]) == (4, 2, 2)
    failures = [one async for one in fleet.services.ledger.failures.iterate(fleet.bucket)]
    assert {(one.key, one.reason) for one in failures} == {("X%FF", "not_utf8"), ("X%FE", "not_utf8")}
