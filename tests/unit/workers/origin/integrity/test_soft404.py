"""Recognising error pages that say 200 (F59, G5)."""

import asyncio

import pytest

from workers.origin.integrity.soft404 import (
    Learner,
    extension,
    fingerprint,
    html_where_no_html_belongs,
    is_html,
    look_alike,
    prefix_of,
    random_name,
)

PAGE = b"<!doctype html><html><head><title>Not here</title></head><body>No %s on this site. %s</body></html>"


def seen(body, *, name="x", kind="text/html", status=200, landed=""):
    return fingerprint(
        status=status, content_type=kind, body=body, name=name, length=len(body), landed=landed
    )


def test_a_page_that_names_the_asked_path_is_recognised():
    learned = seen(PAGE % (b"img/abcdef.jpg", b""), name="img/abcdef.jpg")
    assert look_alike(learned, seen(PAGE % (b"img/cat.jpg", b""), name="img/cat.jpg"))


def test_a_page_with_a_changing_part_is_recognised_by_its_title():
    learned = seen(PAGE % (b"abcdef", b"request 12345"), name="abcdef")
    assert look_alike(learned, seen(PAGE % (b"cat", b"request 99"), name="cat"))


def test_another_page_with_another_title_is_not_refused():
    learned = seen(PAGE % (b"abcdef", b""), name="abcdef")
    assert (
        look_alike(learned, seen(b"<html><title>Cats</title><body>all about cats</body>", name="cat")) is None
    )


def test_bytes_that_are_no_page_are_compared_whole():
    learned = seen(b"default", kind="image/png", name="a")
    assert look_alike(learned, seen(b"default", kind="image/png", name="b"))
    assert look_alike(learned, seen(b"another", kind="image/png", name="b")) is None


def test_a_redirect_to_the_same_error_page_is_recognised():
    learned = seen(b"one", landed="http://o/404.html", kind="text/plain")
    assert look_alike(learned, seen(b"two", landed="http://o/404.html", kind="text/plain"))
    assert look_alike(learned, seen(b"two", kind="text/plain")) is None


@pytest.mark.parametrize(
    ("path", "kind", "body", "refused"),
    [
        ("a.jpg", "text/html; charset=utf-8", b"x", True),
        ("a.JPG", "image/jpeg", b"  <!DOCTYPE html><html>", True),
        ("a.zip", "application/octet-stream", b"\xef\xbb\xbf<html>", True),
        ("v.mp4", "video/mp4", b"<!-- cached --><html lang=en>", True),
        ("a.jpg", "image/jpeg", b"\xff\xd8\xff<html>", False),
        ("a.html", "text/html", b"<html>", False),
        ("a", "text/html", b"<html>", False),
        ("a.svg", "image/svg+xml", b"<svg>", False),
    ],
)
def test_html_is_refused_under_image_video_and_archive_names(path, kind, body, refused):
    """F59."""
    assert bool(html_where_no_html_belongs(path, kind, body)) is refused


def test_prefix_extension_and_random_names():
    assert prefix_of("a/b/c/d.jpg") == "a/b/"
    assert prefix_of("d.jpg") == ""
    assert extension("a/b.TAR.GZ") == "gz"
    assert extension("a/.hidden") == ""
    name = random_name("a/b/c/d.jpg")
    assert name.startswith("a/b/")
    assert name.endswith(".jpg")
    assert name != random_name("a/b/c/d.jpg")
    assert is_html("application/xhtml+xml", b"")


class Site:
    def __init__(self, page):
        self.asked = []
        self.page = page

    async def __call__(self, name):
        self.asked.append(name)
        await asyncio.sleep(0)
        return self.page(name)


async def test_a_prefix_is_learned_once_by_two_random_keys_even_when_many_ask():
    learner = Learner(lambda: 0.0)
    site = Site(lambda name: seen(PAGE % (name.encode(), b""), name=name))
    found = await asyncio.gather(*(learner.page("o", f"a/b/{n}.jpg", site) for n in range(20)))
    assert len(site.asked) == 2
    assert all(found)
    await learner.page("o", "a/c/1.jpg", site)
    assert len(site.asked) == 4


async def test_an_honest_404_is_remembered_and_expires():
    now = [0.0]
    learner = Learner(lambda: now[0])
    site = Site(lambda _: None)
    for _ in range(3):
        assert await learner.page("o", "a/1.jpg", site) is None
    assert len(site.asked) == 1
    now[0] = 4000.0
    await learner.page("o", "a/1.jpg", site)
    assert len(site.asked) == 2


async def test_a_failed_question_teaches_nothing_and_is_asked_again():
    learner = Learner(lambda: 0.0)
    answers = iter([OSError("no"), None])

    async def ask(_):
        answer = next(answers)
        if answer is not None:
            raise answer
        return answer

    with pytest.raises(OSError, match="no"):
        await learner.page("o", "a/1.jpg", ask)
    assert await learner.page("o", "a/1.jpg", ask) is None


async def test_random_keys_that_differ_from_each_other_give_nothing_to_recognise():
    learner = Learner(lambda: 0.0)
    site = Site(lambda name: seen(name.encode() * 50, kind="text/plain", name="zzzz"))
    assert await learner.page("o", "a/1.txt", site) is None
