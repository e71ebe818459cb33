"""What leaves a process in its log, and what must not."""

from __future__ import annotations

import errno
import io
import json
import logging
import os

import pytest
import structlog

from workers.telemetry import log


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Logging of the test run is as before afterwards."""
    monkeypatch.setattr(log, "_chosen", {})
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(form: log.Format = "json", level: str = "info"):
    """A stream that is logged to, and its lines as records."""
    stream = io.StringIO()
    log.configure(form=form, level=level, stream=stream)
    return stream, lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_full_disk_or_a_reader_that_is_gone_fails_nobody_who_logs():
    """Else `except RedisError: log.warning(...)` raises what it was to survive."""

    class Full(io.StringIO):
        full = True

        def write(self, text):
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(text)

    stream = Full()
    log.configure(form="json", stream=stream)
    structlog.get_logger().warning("redis_away")
    logging.getLogger("of.a.library").warning("gone")
    stream.full = False
    structlog.get_logger().info("better")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["better"]
    stream.close()
    structlog.get_logger().info("closed")


def test_a_stream_that_is_no_terminal_gets_one_json_object_a_line():
    _, records = lines("auto")
    structlog.get_logger().info("object_stored", key="a/b", size=3)
    assert records()[0]["event"] == "object_stored"
    assert records()[0]["size"] == 3
    assert records()[0]["level"] == "info"


def test_a_person_gets_a_console_line():
    stream, _ = lines("console")
    structlog.get_logger().info("object_stored", key="a/b")
    assert "object_stored" in stream.getvalue()
    assert "key=a/b" in stream.getvalue()


def test_loggers_of_libraries_come_the_same_way():
    _, records = lines()
    logging.getLogger("dramatiq.MainProcess").warning("a worker %s", "ended")
    assert records()[0]["event"] == "a worker ended"
    assert records()[0]["logger"] == "dramatiq.MainProcess"


@pytest.mark.parametrize(
    "name", ["uvicorn.access", "uvicorn.error", "aiohttp.access", "botocore.auth", "httpx", "dramatiq.worker"]
)
def test_chatty_loggers_are_silent_at_info(name):
    _, records = lines()
    logging.getLogger(name).info("GET /secret?token=1")
    assert records() == []


def test_bound_context_is_on_every_line_and_ends_with_its_block():
    _, records = lines()
    with structlog.contextvars.bound_contextvars(request_id="r1", job_id="j1"):
        structlog.get_logger().info("one")
        logging.getLogger("dramatiq").warning("two")
    structlog.get_logger().info("three")
    assert [(record.get("request_id"), record.get("job_id")) for record in records()] == [
        ("r1", "j1"),
        ("r1", "j1"),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("secret_access_key", "hunter2"),
        ("admin_token", "hunter2"),
        ("Authorization", "Bearer hunter2"),
        ("cookie", "a=hunter2"),
        ("x_amz_signature", "hunter2"),
        ("url", "https://o.example/a?X-Amz-Signature=hunter2"),
        ("line", '10.0.0.1 "GET /a/b?sig=hunter2 HTTP/1.1" 404'),
        ("target", "/a?sig=hunter2"),
        ("problems", {"redis": "refused: rediss://:hunter2@h:1/0", "token": "hunter2"}),
        ("urls", ["https://o.example/a?sig=hunter2", ("/b?sig=hunter2",)]),
        ("url", "https://user:hunter2@o.example/a"),
        ("url", "redis://:hunter2@127.0.0.1:6379/0"),
        ("error", ValueError("cannot reach https://o.example/a?sig=hunter2 today")),
        ("body", b"GET https://o.example/?t=hunter2"),
    ],
)
def test_no_secret_and_no_query_leaves_the_process(field, value):
    stream, _ = lines()
    structlog.get_logger().warning("something", **{field: value})
    logging.getLogger("x").warning("%s", value if field in {"url", "error", "body"} else "nothing")
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 2


def test_a_name_that_was_harmless_once_hides_what_is_secret_in_its_value_the_next_time():
    stream, records = lines()
    for where in (
        "plain",
        "https://o.example/a?sig=hunter2",
        b"/a?sig=hunter2",
        ["https://o.example/a?sig=hunter2"],
    ):
        structlog.get_logger().info("something", where=where, api_key="hunter2")
    assert "hunter2" not in stream.getvalue()
    assert [record["api_key"] for record in records()] == ["***"] * 4


@pytest.mark.parametrize("key", ["img/a?b.png", "what?", "a b/c", "//x"])
def test_a_key_is_logged_as_it_is(key):
    _, records = lines()
    structlog.get_logger().info("pull_done", key=key)
    assert records()[0]["key"] == key


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_local_variables_and_no_query(form):
    stream, _ = lines(form)
    password = "hunter2"
    try:
        raise ValueError('"GET /b?sig=hunter3" https://o.example/a?sig=hunter3' + password[:0])
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("x").exception("failed as well")
    assert "ValueError" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
    assert "hunter3" not in stream.getvalue()


def test_a_level_holds_for_both_ways_of_logging():
    _, records = lines(level="error")
    structlog.get_logger().warning("quiet")
    logging.getLogger("x").warning("quiet")
    structlog.get_logger().error("loud")
    assert [record["event"] for record in records()] == ["loud"]


def test_children_are_told_how_to_log(monkeypatch):
    lines("json", "warning")
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    log.configure_from_env(log.environment())
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_a_terminal_gets_nothing_to_obey_from_a_key_or_a_message():
    stream = io.StringIO()
    stream.isatty = lambda: True
    log.configure(form="console", stream=stream)
    evil = "a\x1b[2Jb\x07\u202egpj\x9b31m\r"
    structlog.get_logger().warning("told", key=evil)
    shown = stream.getvalue()
    assert "a\\x1b[2Jb\\x07\\u202egpj\\x9b31m\\r" in shown
    assert not set(evil) & {"\x1b", "\x07", "\u202e", "\x9b", "\r"} & set(shown.replace("\x1b[", ""))
    assert log.printable("tab\tand\nline, \u4e2d, e\u0301") == "tab\tand\nline, \u4e2d, e\u0301"


def test_json_holds_nothing_that_a_terminal_would_obey_and_means_the_same():
    stream = io.StringIO()
    log.configure(form="json", stream=stream)
    evil = "a\x1b[2Jb\x7f\x85\u202egpj\x9b31m\u2066\r\n\t, \u4e2d"
    structlog.get_logger().warning("told", key=evil)
    line = stream.getvalue().removesuffix("\n")
    assert json.loads(line)["key"] == evil
    assert {char for char in evil if char in line} == set("a[2Jbgpj31m, \u4e2d")
    assert log.one_line(evil) == "a\\x1b[2Jb\\x7f\\x85\\u202egpj\\x9b31m\\u2066\\r\\n\\t, \u4e2d"
