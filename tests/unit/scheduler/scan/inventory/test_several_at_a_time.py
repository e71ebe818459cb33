"""Sources that are read in parts: a few at a time, within bounds, and in one order."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import threading
import time
from types import SimpleNamespace

import pytest

from scheduler.scan.inventory import s3_inventory
from scheduler.scan.inventory.entry import Entry
from scheduler.scan.inventory.opening import open_source
from scheduler.scan.inventory.walk import Unread, Walk
from support.scan.free_control import FreeControl
from workers.errors import BudgetExhausted, ConfigError


async def collected(inventory, services, walk=None):
    return [entry async for block in open_source(inventory, services=services, walk=walk) for entry in block]


@contextlib.asynccontextmanager
async def site(pages, *, together=1):
    """A server of these pages; each is answered when as many as `together` are asked for, or are left."""
    serving = set()
    state = SimpleNamespace(asked=[], at_once=0, most=0, left=len(pages), gate=asyncio.Condition())

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
                state.asked.append(path)
                async with state.gate:
                    state.at_once += 1
                    state.most = max(state.most, state.at_once)
                    state.gate.notify_all()
                    # The first page is alone: it names the others.
                    if len(state.asked) > 1:
                        await state.gate.wait_for(lambda: state.most >= min(together, state.left))
                    state.at_once -= 1
                    state.left -= 1
                    state.gate.notify_all()
                kind, body = pages.get(path, ("text/plain", ""))
                head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write((head + body).encode())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", state
        await asyncio.gather(*serving)


def index(*names):
    return "text/html", "<h1>Index of /</h1>" + "".join(f'<a href="{name}">{name}</a>' for name in names)


async def test_pages_of_an_index_are_asked_for_so_many_at_a_time_within_the_budget():
    folders = [f"d{n}/" for n in range(9)]
    pages = {"/f/": index(*folders)} | {f"/f/{folder}": index("x") for folder in folders}
    control = FreeControl()
    async with asyncio.timeout(20), site(pages, together=3) as (url, state):
        inventory = {"http_index": f"{url}/f/", "concurrency": 3}
        found = await collected(inventory, SimpleNamespace(control=control))
    assert sorted(entry.key for entry in found) == sorted(f"{folder}x" for folder in folders)
    assert state.most == control.most == 3
    assert control.asked == [f"cold {url.removeprefix('http://')}"] * 10
    assert control.bytes == sum(len(body) for _, body in pages.values())


async def test_sitemaps_come_in_the_order_in_which_they_were_named_whichever_is_first():
    def one(number):
        return "text/xml", f"<urlset><url><loc>/k{number}</loc></url><url><loc>/same</loc></url></urlset>"

    named = "".join(f"<sitemap><loc>/s{n}.xml</loc></sitemap>" for n in range(7))
    pages = {"/s.xml": ("text/xml", f"<sitemapindex>{named}</sitemapindex>")}
    pages |= {f"/s{n}.xml": one(n) for n in range(7)}
    control, walk = FreeControl(), Walk()
    async with asyncio.timeout(20), site(pages, together=4) as (url, state):
        found = await collected({"sitemap": f"{url}/s.xml"}, SimpleNamespace(control=control), walk)
    assert [entry.key for entry in found if entry.key != "same"] == [f"k{n}" for n in range(7)]
    assert (state.most, control.most, walk.pages) == (4, 4, 8)


async def test_a_crawl_waits_for_an_origin_that_is_closed_for_hours():
    class Closed(FreeControl):
        async def acquire(self, host, lane, *, timeout_s):
            if len(self.asked) < 3:
                self.asked.append(host)
                raise BudgetExhausted("closed")
            return await super().acquire(host, lane, timeout_s=timeout_s)

    async with asyncio.timeout(20), site({"/f/": index("x")}) as (url, _):
        found = await collected({"http_index": f"{url}/f/"}, SimpleNamespace(control=Closed()))
    assert [entry.key for entry in found] == ["x"]


@pytest.mark.parametrize("source", ["http_index", "sitemap"])
@pytest.mark.parametrize("number", [0, 65, -1, "x", 1.5, None])
async def test_a_concurrency_that_is_none_is_refused(source, number):
    with pytest.raises(ConfigError, match=rf"^{source}: concurrency .*: 1 to 64$"):
        await collected({source: "http://o/", "concurrency": number}, SimpleNamespace(control=FreeControl()))


def report(files, size):
    bodies = {f"data/{name}.csv.gz": gzip.compress(f"b,{name}7,7\n".encode()) for name in files}
    named = [
        {
            "key": key,
            "MD5checksum": hashlib.md5(body).hexdigest(),
            "size": len(body) if size is None else size,
        }
        for key, body in bodies.items()
    ]
    record = {"fileFormat": "CSV", "fileSchema": "Bucket, Key, Size", "files": named}
    return {**bodies, "manifest.json": json.dumps(record).encode()}


@pytest.mark.parametrize(("size", "at_once"), [(None, 4), (40 << 20, 1), (20 << 20, 3), (0, 1)])
async def test_files_of_an_s3_inventory_are_fetched_ahead_as_far_as_memory_is_meant_for_it(size, at_once):
    objects = report("abcdefgh", size)
    held: set[str] = set()
    most = 0

    class Store:
        async def get(self, bucket, key):
            return Answer(objects.get(key), key)

    class Answer:
        def __init__(self, body, key):
            self.status, self.body, self.key = 404 if body is None else 200, body, key

        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            return None

        async def chunks(self):
            nonlocal most
            held.add(self.key)
            most = max(most, len(held))
            await asyncio.sleep(0)
            yield self.body
            held.discard(self.key)

    services = SimpleNamespace(store=Store())
    found = await collected({"s3_inventory": "s3://inv/manifest.json"}, services)
    assert found == [Entry(f"{name}7", 7) for name in "abcdefgh"]
    assert most == at_once
    assert s3_inventory._AT_ONCE == 4


async def test_folders_are_read_several_at_a_time_and_each_file_is_given_once(tmp_path, monkeypatch):
    names = [
        f"f{folder:02}/s{below}/{file:02}" for folder in range(40) for below in range(2) for file in range(30)
    ]
    for name in [*names, "left/out/x", "shut/x"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12")
    reading, most, scandir, lock = [], [], os.scandir, threading.Lock()

    def slow(path):
        with lock:
            reading.append(path)
            most.append(len(reading))
        time.sleep(0.01)
        with lock:
            reading.remove(path)
        if str(path).endswith("/shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("scheduler.scan.inventory.directory.os.scandir", slow)
    walk = Walk(exclude=("^left/",))
    found = await collected({"directory": str(tmp_path)}, SimpleNamespace(settings=None), walk)
    assert sorted(entry.key for entry in found) == names
    assert 2 <= max(most) <= 8
    assert (walk.pages, walk.left_out) == (1 + 40 + 80, 1)
    assert walk.unread == [Unread(str(tmp_path / "shut"), "Permission denied")]


async def test_folders_that_are_being_read_end_with_who_asked_for_them(tmp_path):
    for number in range(3000):
        (tmp_path / f"{number % 60}").mkdir(exist_ok=True)
        (tmp_path / f"{number % 60}" / f"{number}").touch()
    before = asyncio.all_tasks()
    source = open_source({"directory": str(tmp_path)}, services=SimpleNamespace(settings=None))
    assert len(await anext(source)) > 0
    await source.aclose()
    assert asyncio.all_tasks() == before
