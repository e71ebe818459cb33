"""What others got wrong (FIELD.md, part b), through a running gateway."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

pytestmark = pytest.mark.real


async def test_p14_a_key_with_leading_slashes_is_a_hit_the_second_time(chaos, mirror, start):
    """P14, U33: what is looked up is what was stored."""
    chaos.put("/a/b.txt", b"once")
    front = await start(mirror())
    first = await front.get("///a/b.txt")
    await front.until_stored("a/b.txt")
    second = await front.get("///a/b.txt")
    assert (first.body, second.body) == (b"once", b"once")
    assert chaos.count("/a/b.txt") == 1


@pytest.mark.parametrize(
    "spellings",
    [
        ("/e%CC%81.txt", "/%C3%A9.txt"),
        ("/a%20b", "/a%2Bb", "/a%2520b", "/a%252Bb"),
    ],
    ids=["P17 U28 U29", "P16 U22 U24 U27"],
)
async def test_p17_p16_keys_that_look_alike_are_objects_of_their_own(chaos, mirror, start, spellings):
    for number, spelling in enumerate(spellings):
        chaos.put(unquote(spelling), b"body %d" % number)
    front = await start(mirror())
    for _ in range(2):
        for number, spelling in enumerate(spellings):
            assert (await front.get(spelling)).body == b"body %d" % number, spelling
        await front.idle()
    assert [chaos.count(unquote(spelling)) for spelling in spellings] == [1] * len(spellings)


async def test_h1_h6_an_origin_sees_four_headers_and_nothing_of_the_client(chaos, mirror, start):
    """H1, H6, D4, P10."""
    chaos.put("/k", b"x")
    front = await start(mirror())
    await front.get("/k", {"Accept": "text/html", "Accept-Encoding": "gzip", "Cookie": "a=b", "X-Own": "1"})
    (asked,) = chaos.asked("/k")
    assert asked.header("host") == chaos.host
    assert asked.header("accept-encoding") == "identity"
    assert asked.header("user-agent").startswith("ferryman/")
    for name in ("accept", "cookie", "x-own"):
        assert asked.header(name) is None
