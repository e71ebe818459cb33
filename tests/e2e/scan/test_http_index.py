"""Index pages of the real nginx, crawled; and sitemaps."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from scheduler.config.ports import free_ports
from scheduler.scan.inventory.manifest import ManifestBroken
from scheduler.scan.inventory.opening import open_source
from scheduler.scan.inventory.walk import Walk
from support.installation import running_origin
from support.real import skip_or_fail
from support.scan.free_control import FreeControl

NAMES = [
    "a b.txt", "a+b.txt", "a%20b.txt", "100%.txt", "q?1#2.txt", "中é.txt", "quote'\"&<>.txt", "semi;c.txt",
    "a-very-long-name-that-autoindex-cuts-in-what-it-shows-but-not-in-the-link-0123456789.txt",
]  # fmt: skip


@contextlib.contextmanager
def nginx_index(root: Path, form: str):
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(binary).exists():
        skip_or_fail("nginx is not installed")
    (port,) = free_ports(1)
    www = root / "www"
    (root / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n"
        "events {}\nhttp { access_log off; charset utf-8;\n"
        + "".join(
            f"{name}_temp_path {root}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + f"server {{ listen 127.0.0.1:{port}; root {www}; autoindex on; autoindex_format {form}; }} }}\n"
    )
    process = subprocess.Popen([binary, "-c", str(root / "nginx.conf"), "-e", str(root / "error.log")])
    try:
        answers(port)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def apache_index(root: Path, options: str):
    binary = shutil.which("apache2") or "/usr/sbin/apache2"
    if not Path(binary).exists():
        skip_or_fail("apache2 is not installed")
    (port,) = free_ports(1)
    modules = ("mpm_event", "authz_core", "autoindex", "dir", "mime")
    (root / "mime.types").write_text("text/plain txt\ntext/html html\n")
    (root / "apache.conf").write_text(
        f"ServerRoot /usr/lib/apache2\nServerName localhost\nPidFile {root}/pid\nErrorLog {root}/error.log\n"
        f"Listen 127.0.0.1:{port}\n"
        + "".join(f"LoadModule {name}_module modules/mod_{name}.so\n" for name in modules)
        + f"TypesConfig {root}/mime.types\nDocumentRoot {root}/www\nDirectoryIndex index.html\n"
        f"<Directory {root}/www>\nOptions Indexes FollowSymLinks\n{options}\n"
        "Require all granted\n</Directory>\n"
        "<Location /shut/>\nRequire all denied\n</Location>\n"
    )
    process = subprocess.Popen([binary, "-X", "-f", str(root / "apache.conf")])
    try:
        answers(port)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(10)


def answers(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/", timeout=1)
        except httpx.HTTPError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def readable(tmp_path: Path) -> None:
    """For servers that run as somebody else."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)


async def crawl(inventory, tmp_path, walk=None):
    services = SimpleNamespace(settings=SimpleNamespace(data_dir=tmp_path), control=FreeControl())
    found = [entry async for block in open_source(inventory, services=services, walk=walk) for entry in block]
    return {entry.key: entry for entry in found}


@pytest.mark.real
@pytest.mark.parametrize("form", ["html", "json"])
async def test_nginx_autoindex_is_crawled_with_odd_names_and_exact_sizes(tmp_path, form):
    www = tmp_path / "www"
    for number, name in enumerate(NAMES):
        for folder in ("", "d e/", "d e/sub%2F/"):
            path = www / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * (number + 1))
            os.utime(path, (1_700_000_000, 1_700_000_040))
    readable(tmp_path)
    with nginx_index(tmp_path, form) as url:
        found = await crawl({"http_index": url, "prefix": "p/"}, tmp_path)
    want = {f"p/{folder}{name}" for folder in ("", "d e/", "d e/sub%2F/") for name in NAMES}
    assert set(found) == want
    assert found["p/d e/" + NAMES[2]].size == 3
    assert found["p/" + NAMES[0]].mtime == pytest.approx(1_700_000_040, abs=60)


@pytest.mark.real
@pytest.mark.parametrize(
    "options",
    [
        "",
        "IndexOptions FancyIndexing VersionSort",
        "IndexOptions FancyIndexing HTMLTable XHTML Charset=UTF-8 NameWidth=20",
        "IndexOptions ShowForbidden",
    ],
)
async def test_apache_autoindex_is_crawled_and_its_holes_are_named(tmp_path, options):
    www = tmp_path / "www"
    names = [*NAMES, "a:b.txt", "x&copy=1.txt", "~user.txt"]
    for folder in ("", "d e/", "d e/sub%2F/"):
        for name in names:
            path = www / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    for folder in ("shut", "site"):
        (www / folder).mkdir()
    (www / "site" / "index.html").write_text("<title>Our site</title><a href='/about'>About us</a>")
    (www / "d e" / os.fsdecode(b"X\xff")).write_bytes(b"x")
    readable(tmp_path)
    walk = Walk()
    with apache_index(tmp_path, options) as url:
        found = await crawl({"http_index": url}, tmp_path, walk)
    assert set(found) == {f"{folder}{name}" for folder in ("", "d e/", "d e/sub%2F/") for name in names}
    holes = {one.place.removeprefix(url): one.reason for one in walk.unread}
    want = {"d%20e/X%FF": "its name is not UTF-8", "site/": "no index page: a page titled 'Our site'"}
    if "ShowForbidden" in options:
        want["shut/"] = "status 403"
    assert holes == want


async def test_a_page_that_fails_fails_the_crawl(tmp_path):
    with running_origin() as origin:
        origin.bodies["index/"] = b"no html"
        with pytest.raises(ManifestBroken, match="an index page is expected"):
            await crawl({"http_index": origin.url + "/index/"}, tmp_path)
        with pytest.raises(ManifestBroken, match="status 404"):
            await crawl({"http_index": origin.url + "/none/"}, tmp_path)


async def test_sitemaps_are_read_through_indexes_and_gzip(tmp_path):
    with running_origin() as origin:
        index = (
            '<?xml version="1.0"?><sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
            f"<sitemap><loc>{origin.url}/a.xml.gz</loc></sitemap>"
            "<sitemap><loc>/b.xml</loc></sitemap></sitemapindex>"
        )
        page = (
            '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url><loc>{}</loc>'
            "<lastmod>2026-01-01</lastmod></url></urlset>"
        )
        origin.bodies["sitemap.xml"] = index.encode()
        origin.bodies["a.xml.gz"] = gzip.compress(page.format(f"{origin.url}/x%20y.html?q=1").encode())
        origin.bodies["b.xml"] = page.format("http://elsewhere.example/z.html").encode()
        walk = Walk()
        found = await crawl({"sitemap": origin.url + "/sitemap.xml"}, tmp_path, walk)
        assert (walk.pages, walk.outside, walk.unread) == (3, 1, [])
        assert {key: entry.mtime for key, entry in found.items()} == {"x y.html": 1767225600.0}
        origin.bodies["b.xml"] = b"<urlset><url>"
        walk = Walk()
        assert set(await crawl({"sitemap": origin.url + "/sitemap.xml"}, tmp_path, walk)) == {"x y.html"}
        assert [(one.place, "no element found" in one.reason) for one in walk.unread] == [
            (origin.url + "/b.xml", True)
        ]


@pytest.mark.parametrize(
    ("path", "body", "what"),
    [
        ("sitemap.xml", '<!DOCTYPE x [<!ENTITY a "b">]><urlset><url><loc>&a;</loc></url></urlset>', "Entit"),
        ("sitemap.xml", "<urlset><url>", r"sitemap\.xml: no element found"),
        ("index.html", "<a href='http://[/x'>a</a>", "the link 'http://\\[/x'"),
    ],
)
async def test_a_page_that_cannot_be_read_fails_with_its_address(tmp_path, path, body, what):
    with running_origin() as origin:
        origin.content_type = "text/html"
        text = body.replace("{}", origin.url)
        origin.bodies[path] = text.encode()
        origin.bodies[""] = text.encode()
        source = "sitemap" if path.endswith("xml") else "http_index"
        place = origin.url + ("/sitemap.xml" if source == "sitemap" else "/")
        with pytest.raises(ManifestBroken, match=f"^http://127.0.0.1:[0-9]+/.*{what}"):
            await crawl({source: place}, tmp_path)
