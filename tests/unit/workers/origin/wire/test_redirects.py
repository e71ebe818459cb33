"""Where redirects lead (F16 to F18, L11, H10), byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import RedirectRefused
from workers.origin.wire.redirects import follow, headers_elsewhere, keeps_identity, split_url
from workers.plan import RedirectPolicy

BASE = "http://o.example/a/b/c.txt?x=1"
PLAIN = RedirectPolicy()


@pytest.mark.parametrize(
    ("what", "location", "expected"),
    [
        ("absolute", "http://p.example/x", "http://p.example/x"),
        ("other scheme", "https://o.example/x", "https://o.example/x"),
        ("authority is lower-cased", "http://P.Example:80/X", "http://p.example/X"),
        ("port kept", "http://p.example:8080/x", "http://p.example:8080/x"),
        ("no path", "http://p.example", "http://p.example/"),
        ("query without path", "http://p.example?q=1", "http://p.example/?q=1"),
        ("network path", "//p.example/x", "http://p.example/x"),
        ("absolute path", "/x//y", "http://o.example/x//y"),
        ("dots of an absolute path are the server's business", "/x/../y", "http://o.example/x/../y"),
        ("relative", "d.txt", "http://o.example/a/b/d.txt"),
        ("relative with dots", "../d/./e.txt?z", "http://o.example/a/d/e.txt?z"),
        ("above the root", "../../../../d", "http://o.example/d"),
        ("trailing dots", "..", "http://o.example/a/"),
        ("query only", "?y=2", "http://o.example/a/b/c.txt?y=2"),
        ("fragment is cut", "/x#part", "http://o.example/x"),
        ("colon in a query is no scheme", "d?u=http://z/", "http://o.example/a/b/d?u=http://z/"),
        (
            "escapes stay (P11)",
            "/a%2Bb%2fc%7Ed+e?s=%2b%2F+%7e",
            "http://o.example/a%2Bb%2fc%7Ed+e?s=%2b%2F+%7e",
        ),
        ("empty segments of the base stay", "e", "http://o.example/a/b/e"),
        ("raw blank", "/a b", "http://o.example/a%20b"),
        ("raw UTF-8", "/é", "http://o.example/%C3%A9"),
        ("raw Latin-1 byte", "/\udce9", "http://o.example/%E9"),
        ("IPv6", "http://[2001:DB8::1]:81/x", "http://[2001:db8::1]:81/x"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else None,
)
def test_a_location_is_resolved_without_touching_its_bytes(what, location, expected):
    assert follow(BASE, location, PLAIN, [BASE]) == expected


@pytest.mark.parametrize(
    ("what", "location"),
    [
        ("missing", None),
        ("empty", ""),
        ("other scheme", "ftp://o.example/x"),
        ("script", "javascript:alert(1)"),
        ("user info", "http://user:secret@p.example/"),
        ("no host", "http:///x"),
        ("bad port", "http://p.example:99999/"),
        ("header splitting", "/x\r\nSet-Cookie: a=b"),
        ("backslash host", "http://p.example\\@evil/"),
    ],
)
def test_an_unusable_location_is_refused(what, location):
    with pytest.raises(RedirectRefused):
        follow(BASE, location, PLAIN, [BASE])


def test_a_downgrade_is_refused_unless_the_rule_allows_it():
    """F56."""
    with pytest.raises(RedirectRefused, match="https"):
        follow("https://o.example/a", "http://o.example/a", PLAIN, [])
    allowed = RedirectPolicy(allow_downgrade=True)
    assert follow("https://o.example/a", "http://o.example/a", allowed, []) == "http://o.example/a"


def test_a_loop_and_the_eleventh_hop_are_refused():
    """A7, L11."""
    with pytest.raises(RedirectRefused, match="loop"):
        follow(BASE, "/y", PLAIN, [BASE, "http://o.example/y"])
    visited = [f"http://o.example/{n}" for n in range(10)]
    assert follow(visited[-1], "/10", PLAIN, visited).endswith("/10")
    visited.append("http://o.example/10")
    with pytest.raises(RedirectRefused, match="10"):
        follow(visited[-1], "/11", PLAIN, visited)


def test_decoding_the_location_is_done_once_and_only_when_asked():
    """F18."""
    policy = RedirectPolicy(decode_location=True)
    assert follow(BASE, "/a%2Bb%2fc%7Ed%2520?q=%2b", policy, []) == "http://o.example/a%2Bb/c~d%2520?q=%2b"


@given(
    st.text(
        alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), min_size=1
    )
)
def test_any_printable_path_goes_through_unchanged(rest):
    """P11."""
    location = "/p/" + rest
    assert follow("http://o.example/", location, PLAIN, []) == "http://o.example" + location


def test_what_goes_to_another_host_does_not_tell_who_asks():
    """H10, P12."""
    passed = (("Cookie", "a"), ("Accept-Language", "en"), ("X-Token", "t"), ("User-Agent", "u"))
    new = (("X-Key", "k"), ("Host", "h"), ("Authorization", "s"))
    assert headers_elsewhere(passed, new, resend=False) == (
        (("Accept-Language", "en"), ("User-Agent", "u")),
        (),
    )
    assert headers_elsewhere(passed, new, resend=True) == (passed, (("X-Key", "k"),))


@pytest.mark.parametrize(
    ("first", "here", "kept"),
    [
        ("http://o.example/a", "http://o.example/b", True),
        ("http://o.example/a", "https://o.example/b", True),
        ("https://o.example/a", "http://o.example/b", False),
        ("http://o.example/a", "http://o.example:8080/b", False),
        ("http://o.example/a", "http://p.example/b", False),
    ],
)
def test_credentials_stay_with_host_port_and_safety(first, here, kept):
    assert keeps_identity(first, here) is kept


@pytest.mark.parametrize("location", [None, "ftp://o.example/x?sig=SECRET", "http://o.example/y?sig=SECRET"])
def test_no_signature_stands_in_a_message(location):
    """A query is never logged or listed."""
    current = "https://o.example/x?sig=SECRET"
    with pytest.raises(RedirectRefused) as caught:
        follow(current, location, PLAIN, [current])
    assert "SECRET" not in str(caught.value)


def test_a_url_is_split_without_change():
    target = split_url("http://O.example:80//a//b?c?d#e")
    assert (target.scheme, target.authority, target.path) == ("http", "o.example", "//a//b?c?d")
    assert target.url == "http://o.example//a//b?c?d"
