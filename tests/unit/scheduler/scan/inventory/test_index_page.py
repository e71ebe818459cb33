"""Index pages and what is none; links as pages spell them."""

from __future__ import annotations

import pytest

from scheduler.scan.inventory.index_page import NoIndex, read_html, read_json
from scheduler.scan.inventory.locations import location, name_of

HERE = location("http://h.example/files/")
NGINX = """<html>
<head><title>Index of /files/</title></head>
<body>
<h1>Index of /files/</h1><hr><pre><a href="../">../</a>
{}</pre><hr></body>
</html>
"""
NGINX_ROW = '<a href="{}">{}</a>                              01-Feb-2026 03:04            7\n'
APACHE = """<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">
<html>
 <head>
  <title>Index of /files</title>
 </head>
 <body>
<h1>Index of /files</h1>
  <table>
   <tr><th valign="top"><img src="/icons/blank.gif" alt="[ICO]"></th><th><a href="?C=N;O=D">Name</a></th>
   <th><a href="?C=M;O=A">Last modified</a></th><th><a href="?C=S;O=A">Size</a></th></tr>
   <tr><th colspan="5"><hr></th></tr>
<tr><td valign="top"><img src="/icons/back.gif" alt="[PARENTDIR]"></td>
<td><a href="/">Parent Directory</a></td>
<td>&nbsp;</td><td align="right">  - </td><td>&nbsp;</td></tr>
{}   <tr><th colspan="5"><hr></th></tr>
</table>
<address>Apache/2.4.62 (Debian) Server at h.example Port 80</address>
</body></html>
"""
APACHE_ROW = (
    '<tr><td valign="top"><img src="/icons/text.gif" alt="[TXT]"></td><td><a href="{}">{}</a></td>'
    '<td align="right">2026-02-01 03:04  </td><td align="right">1.2K</td><td>&nbsp;</td></tr>\n'
)


def paths(text: str | bytes, charset: str | None = None) -> list[str | None]:
    """Decoded paths below the page, of what leads below it."""
    body = text.encode() if isinstance(text, str) else text
    below = [listed.target.below(HERE) for listed in read_html(HERE, body, charset)]
    return [name_of(path) for path in below if path is not None]


@pytest.mark.parametrize("page", [NGINX, APACHE])
def test_an_empty_listing_is_a_listing(page):
    assert paths(page.format("")) == []


def test_nginx_tells_bytes_and_apache_rounds_them():
    (entry,) = [
        one.entry for one in read_html(HERE, NGINX.format(NGINX_ROW.format("a", "a")).encode(), None)
    ][1:]
    assert (entry.size, entry.mtime) == (7, 1769915040.0)
    rounded = read_html(HERE, APACHE.format(APACHE_ROW.format("a", "a")).encode(), None)
    assert [one.entry.size for one in rounded] == [None, None]


@pytest.mark.parametrize(
    ("href", "text", "want"),
    [
        ("a%20b.txt", "a b.txt", "a b.txt"),
        ("a b.txt", "a b.txt", "a b.txt"),
        ("a:b.txt", "a:b.txt", "a:b.txt"),
        ("./a:b.txt", "a:b.txt", "a:b.txt"),
        ("mailto:x", "mailto:x", "mailto:x"),
        ("a#b.txt", "a#b.txt", "a#b.txt"),
        ("a%23b.txt", "a#b.txt", "a#b.txt"),
        ("a?b.txt", "a?b.txt", "a?b.txt"),
        ("a#b-and-a-long-name.txt", "a#b-and-a-lo..&gt;", "a#b-and-a-long-name.txt"),
        ("a//b.txt", "a//b.txt", "a//b.txt"),
        ("/files//b.txt", "/b.txt", "/b.txt"),
        ("x&copy=1.txt", "x&copy=1.txt", "x&copy=1.txt"),
        ("x&amp;copy=1.txt", "x&amp;copy=1.txt", "x&copy=1.txt"),
        ("x&copy;1.txt", "x&copy;1.txt", "x©1.txt"),
        ("%7Euser/", "~user/", "~user/"),
        ("é.txt", "é.txt", "é.txt"),
        ("http://h.example:80/files/sub/", "sub/", "sub/"),
        ("//H.example/%66iles/q", "q", "q"),
        ("d/../e.txt", "e.txt", "e.txt"),
    ],
)
@pytest.mark.parametrize("page", [(NGINX, NGINX_ROW), (APACHE, APACHE_ROW)])
def test_a_name_is_read_as_the_page_means_it(page, href, text, want):
    assert paths(page[0].format(page[1].format(href, text))) == [want]


@pytest.mark.parametrize(
    "href", ["?C=N;O=D", "a.txt?C=N", "#top", "mailto:me@h.example", "javascript:void(0)"]
)
def test_what_is_no_file_is_no_entry(href):
    assert paths(NGINX.format(f'<a href="{href}">see</a>')) == []


def test_the_base_of_a_page_is_where_its_links_begin():
    page = NGINX.replace("<head>", '<head><base href="/files/deep/">').format(NGINX_ROW.format("a", "a"))
    assert paths(page) == ["deep/a"]


def test_a_page_is_read_in_the_charset_that_it_names():
    head = '<head><meta charset="gbk">'
    page = NGINX.replace("<head>", head).format(NGINX_ROW.format("中.txt", "中.txt")).encode("gbk")
    assert paths(page) == ["中.txt"]
    older = page.replace(b'charset="gbk"', b'http-equiv="Content-Type" content="text/html; charset=gbk"')
    assert paths(older) == ["中.txt"]
    # The header of the answer has the last word, as in browsers; then the name is what its bytes are.
    assert paths(page, "utf-8") == [None]
    with pytest.raises(NoIndex, match="charset 'gbkk' is not known"):
        paths(page.replace(b"gbk", b"gbkk"))


def test_names_that_are_not_utf8_stay_apart():
    page = NGINX.format(NGINX_ROW.format("X%FF", "X") + NGINX_ROW.format("X%FE", "X"))
    targets = {one.target.below(HERE) for one in read_html(HERE, page.encode(), None)} - {None}
    assert targets == {"X%FF", "X%FE"}
    assert [name_of(target) for target in targets] == [None, None]


SITE = """<!DOCTYPE html><html><head><title>{title}</title><link rel="stylesheet" href="/style.css"></head>
<body><nav><a href="/">Home</a> <a href="/about">About us</a></nav>
<a href="report.pdf">report.pdf</a> {more}</body></html>"""


@pytest.mark.parametrize(
    ("page", "what"),
    [
        ("", "an empty page"),
        ("<html><body><h1>It works!</h1></body></html>", "a page titled 'It works!'"),
        (SITE.format(title="Our documents", more=""), "a page titled 'Our documents'"),
        (SITE.format(title="Index of articles", more=""), "a page titled 'Index of articles'"),
        (SITE.format(title="Docs", more='<a href="..">Up</a>'), "a page titled 'Docs'"),
        ("<a href='one.html'>The first</a><a href='two.html'>The second</a>", "another page"),
        (
            "<title>Index of /</title><form method=post><input name=u><input type=PASSWORD></form>",
            "a page titled 'Index of /' that asks for a password",
        ),
        (
            "<title>404 Not Found</title><a href='https://nginx.org/'>nginx</a>",
            "a page titled '404 Not Found'",
        ),
    ],
)
def test_a_page_that_is_no_listing_is_refused_by_name(page, what):
    with pytest.raises(NoIndex, match=what):
        read_html(HERE, page.encode(), None)


@pytest.mark.parametrize(
    "page",
    [
        "<title>Directory listing for /files/</title><ul><li><a href='a'>a</a></ul>",
        "<title>h - /files/</title><A HREF='/'>[To Parent Directory]</A> <A HREF='/files/a'>a</A></pre>",
        "<title>our own</title><h1>Welcome</h1><a href='/'>Parent Directory</a> <a href='a'>A file</a>",
        "<ul><li><a href='a'>a</a><li><a href='/files/'>files</a></ul><a href='https://caddy.example'>Caddy</a>",
        "<title>Directory: /files/</title><a href='a'>a&nbsp;</a>",
    ],
)
def test_listings_of_other_servers_are_listings(page):
    assert paths(page) == ["a"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"error": "no"}', b"[1]", b'[{"id": 1}]', b"null", b'"x"'])
def test_json_that_is_no_listing_is_refused(body):
    with pytest.raises(NoIndex, match="no index page"):
        read_json(HERE, body)


@pytest.mark.parametrize(
    ("size", "read"), [("0", 0), ("12", 12), ("-1", None), ("true", None), ("1.5", None), ('"1"', None)]
)
def test_a_size_of_json_that_is_no_number_of_bytes_says_nothing(size, read):
    (one,) = read_json(HERE, f'[{{"name": "a", "type": "file", "size": {size}}}]'.encode())
    assert (one.entry.size, type(one.entry.size)) == (read, type(read))
