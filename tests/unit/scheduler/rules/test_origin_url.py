# ruff: noqa: E501 - a table reads best with one row a line
"""The worked examples of SEMANTICS.md 3.5, from the document to the URL and the stored key."""

from __future__ import annotations

import pytest

from scheduler.rules.matching import RequestFacts, match
from scheduler.rules.planning import client_path, location, origin_url, plan
from support.rules.documents import cos, one, oss, parse, yml
from workers.store.metadata import tag_value

HTTP = {"request": {"protocol": "http"}}
QUERY = {"request": {"protocol": "http", "follow_query": True}}
_PREFIX = "<PrefixConfiguration><Prefix>old/</Prefix></PrefixConfiguration>"
_SUFFIX = "<SuffixConfiguration><Suffix>.bak</Suffix></SuffixConfiguration>"


def _cond(prefix: str) -> str:
    return (
        f"<KeyPrefixEquals>{prefix}</KeyPrefixEquals>"
        "<HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals>"
    )


def _cos(files: str) -> str:
    return cos(parameter="<Protocol>HTTP</Protocol><FollowQueryString>false</FollowQueryString>", files=files)


_PLAIN = yml(**HTTP)
_QUERY = yml(**QUERY)

#: id, document, client scheme, request path, origin URL, stored key
EXAMPLES = [
    ("U1", oss(url="http://www.example-domain.com/"), "http", "/image/example_object.jpg",
     "http://www.example-domain.com/image/example_object.jpg", "image/example_object.jpg"),
    ("U2", oss(url="http://www.example-domain.com/dir1/"), "http", "/image/example_object.jpg",
     "http://www.example-domain.com/dir1/image/example_object.jpg", "image/example_object.jpg"),
    ("U3", yml(request={"protocol": "https"}), "http", "/a.txt", "https://o.example/a.txt", "a.txt"),
    ("U4", yml(host="o.example:8080", **HTTP), "https", "/a.txt", "http://o.example:8080/a.txt", "a.txt"),
    ("U5", yml(host="o.example:443"), "https", "/a.txt", "https://o.example/a.txt", "a.txt"),
    ("U6", yml(host="192.0.2.7"), "http", "/a.txt", "http://192.0.2.7/a.txt", "a.txt"),
    ("U7", yml(host="[2001:db8::7]:81", **HTTP), "http", "/a.txt", "http://[2001:db8::7]:81/a.txt", "a.txt"),
    ("U8", _cos(_PREFIX), "http", "/a.txt", "http://o.example/old/a.txt", "a.txt"),
    ("U9", _cos(_SUFFIX), "http", "/a.txt", "http://o.example/a.txt.bak", "a.txt"),
    ("U10", _cos(_PREFIX + _SUFFIX), "http", "/d/a.txt", "http://o.example/old/d/a.txt.bak", "d/a.txt"),
    ("U11", _cos("<PrefixConfiguration><Prefix>img/</Prefix><ReplacedWithPrefix>pic/</ReplacedWithPrefix>"
                 "</PrefixConfiguration>"), "http", "/img/1.png", "http://o.example/pic/1.png", "img/1.png"),
    ("U12", _cos("<SuffixConfiguration><Suffix>.jpeg</Suffix><ReplacedWithSuffix>.jpg</ReplacedWithSuffix>"
                 "</SuffixConfiguration>"), "http", "/img/1.jpeg", "http://o.example/img/1.jpg", "img/1.jpeg"),
    ("U13", _cos("<FixedFileConfiguration><FixedFilePath>/err/none.png</FixedFilePath></FixedFileConfiguration>"),
     "http", "/img/1.png", "http://o.example/err/none.png", "img/1.png"),
    ("U14", oss("<EnableReplacePrefix>true</EnableReplacePrefix><ReplaceKeyPrefixWith>def/</ReplaceKeyPrefixWith>",
                condition=_cond("abc/")), "http", "/abc/test.txt", "http://o.example/def/test.txt", "abc/test.txt"),
    ("U15", oss("<EnableReplacePrefix>true</EnableReplacePrefix>", condition=_cond("abc/")),
     "http", "/abc/test.txt", "http://o.example/test.txt", "abc/test.txt"),
    ("U16", oss("<ReplaceKeyPrefixWith>def/</ReplaceKeyPrefixWith>"), "http", "/test.txt",
     "http://o.example/def/test.txt", "test.txt"),
    ("U17", oss("<HostName>example.com</HostName><ReplaceKeyWith>prefix/${key}.suffix</ReplaceKeyWith>",
                kind="External"), "http", "/test", "http://example.com/prefix/test.suffix", "test"),
    ("U18", _QUERY, "http", "/a.txt?a=b&c=d", "http://o.example/a.txt?a=b&c=d", "a.txt"),
    ("U19", _PLAIN, "http", "/a.txt?a=b&c=d", "http://o.example/a.txt", "a.txt"),
    ("U20", _QUERY, "http", "/a.txt?v=1&X-Amz-Signature=s&q-sign-time=9", "http://o.example/a.txt?v=1", "a.txt"),
    ("U21", _QUERY, "http", "/a.txt?x=%2f+%20", "http://o.example/a.txt?x=%2f+%20", "a.txt"),
    ("U22", _PLAIN, "http", "/a%20b.txt", "http://o.example/a%20b.txt", "a b.txt"),
    ("U23", _PLAIN, "http", "/a+b.txt", "http://o.example/a%2Bb.txt", "a+b.txt"),
    ("U24", _PLAIN, "http", "/a%2Bb.txt", "http://o.example/a%2Bb.txt", "a+b.txt"),
    ("U25", _PLAIN, "http", "/a%2Fb%2f%2Fc.txt", "http://o.example/a/b//c.txt", "a/b//c.txt"),
    ("U26", _PLAIN, "http", "/100%25.txt", "http://o.example/100%25.txt", "100%.txt"),
    ("U27", _PLAIN, "http", "/a%2520b.txt", "http://o.example/a%2520b.txt", "a%20b.txt"),
    ("U28", _PLAIN, "http", "/%E4%B8%AD.txt", "http://o.example/%E4%B8%AD.txt", "中.txt"),
    ("U29", _PLAIN, "http", "/e%CC%81.txt", "http://o.example/e%CC%81.txt", "e\u0301.txt"),
    ("U30", _PLAIN, "http", "/q%3F1%232.txt", "http://o.example/q%3F1%232.txt", "q?1#2.txt"),
    ("U31", _PLAIN, "http", "/a=b&c,(d)@e:f!.txt", "http://o.example/a%3Db%26c%2C%28d%29%40e%3Af%21.txt",
     "a=b&c,(d)@e:f!.txt"),
    ("U32", _PLAIN, "http", "/a//b.txt", "http://o.example/a//b.txt", "a//b.txt"),
    ("U33", _PLAIN, "http", "///a/b.txt", "http://o.example/a/b.txt", "a/b.txt"),
    ("U34", oss("<MirrorPassOriginalSlashes>true</MirrorPassOriginalSlashes>"
                "<ReplaceKeyPrefixWith>destfolder/</ReplaceKeyPrefixWith>", condition=_cond("examplefolder/")),
     "http", "///examplefolder/x", "http://o.example///destfolder/x", "examplefolder/x"),
    ("U35", _PLAIN, "http", "/photos/", "http://o.example/photos/", "photos/"),
    ("U36", _PLAIN, "http", "/.well-known/~x", "http://o.example/.well-known/~x", ".well-known/~x"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "scheme", "path", "url", "key"), [e[1:] for e in EXAMPLES], ids=[e[0] for e in EXAMPLES]
)
def test_the_origin_is_asked_for_exactly_this_url(
    text: str, scheme: str, path: str, url: str, key: str
) -> None:
    ruleset, _ = parse(text)
    raw, _, query = path.partition("?")
    named = client_path(raw.encode())
    facts = RequestFacts(key=named.key, leading_slashes=named.leading_slashes, scheme=scheme, query=query)
    rule = match(ruleset, facts)
    assert rule is not None

    fetch, item = plan(rule, ruleset, "bucket", facts)

    origin = fetch.groups[0].primary
    assert origin_url(origin, item) == url
    assert item.key == key
    assert location(fetch, item) == url


@pytest.mark.parametrize(
    ("url", "tag"),
    [
        (
            "http://www.example-domain.com/dir1/image/example_object.jpg",
            "MIRROR http%3a%2f%2fwww.example-domain.com%2fdir1%2fimage%2fexample_object.jpg",
        ),
        ("http://o.example/a%20b.txt", "MIRROR http%3a%2f%2fo.example%2fa%2520b.txt"),
    ],
    ids=["S7-U2", "S7-U22"],
)
def test_the_tag_of_an_example_is_the_documented_one(url: str, tag: str) -> None:
    assert tag_value(url, "encoded") == tag


def test_events_without_a_scheme_use_the_fallback_of_the_rule() -> None:
    """F55 and section 3.4."""
    text = yml(request={"follow_fallback": "https"})
    ruleset, _ = parse(text)
    facts = RequestFacts(key="a", scheme=None)
    fetch, item = plan(one(text), ruleset, "b", facts, kind="scan")
    assert origin_url(fetch.groups[0].primary, item) == "https://o.example/a"
