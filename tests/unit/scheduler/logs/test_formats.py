"""Every format: what its lines say, also the odd ones; and that parsing undoes writing."""

# ruff: noqa: E501 -- tables of real lines read best unbroken

from __future__ import annotations

import string
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.logs.formats import apache, nginx
from scheduler.logs.formats.catalog import FORMATS, format_by_name
from scheduler.logs.formats.detect import detect
from scheduler.logs.formats.prefilter import candidates
from scheduler.logs.formats.record import parse
from scheduler.logs.formats.values import parse_time
from scheduler.logs.syslog import strip_header
from scheduler.misses.event import MissEvent
from scheduler.misses.refusals import Deletion, Refused
from support.logs.filters import filter_of
from support.logs.lines import WRITERS, Wanted, nginx_escape, target_of
from workers.errors import ConfigError

#: SEMANTICS.md 3.5 and what only logs have.
ODD_KEYS = {
    "U22": "a b.txt", "U23": "a+b.txt", "U25": "a/b//c.txt", "U26": "100%.txt", "U27": "a%20b.txt",
    "U28": "中.txt", "U29": "e\u0301.txt", "U30": "q?1#2.txt", "U31": "a=b&c,(d)@e:f!.txt", "U32": "a//b.txt",
    "U35": "photos/", "U36": ".well-known/~x", "quote": 'a"b.txt', "backslash": "a\\b.txt", "dash": "-",
    "status_in_name": "x 404 y.txt", "brackets": "a[1]{2}|3.txt", "hash_hex": "a#22b.txt", "emoji": "🎉.png",
}  # fmt: skip


def format_of(name):
    fields = {"target": "where.uri"} if name == "json" else None
    return format_by_name(name, fields=fields)


def event_of(name: str, line: bytes, **options):
    record = parse(format_of(name), strip_header(line))
    assert record is not None, line
    options.setdefault("bucket", "site")
    return filter_of(**options).judge(record)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("what", ODD_KEYS)
def test_an_odd_name_is_the_key_that_was_asked_for(name, what):
    key = ODD_KEYS[what]
    event = event_of(name, WRITERS[name](Wanted(key=key, target=target_of(key))))
    assert isinstance(event, MissEvent)
    assert event.key == key


@pytest.mark.parametrize("name", WRITERS)
def test_a_line_says_when_which_status_and_which_bucket(name):
    wanted = Wanted(key="d/x.jpg", target=b"/d/x.jpg?v=1&w=%20")
    record = parse(format_of(name), strip_header(WRITERS[name](wanted)))
    assert record.status == 404
    assert int(record.at) == wanted.at
    assert record.method == "GET"
    if name != "cos":
        assert record.query == "v=1&w=%20"
    assert record.bucket == ("site" if name in {"s3", "oss", "cos", "gcs", "rgw"} else "")


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"cos"}))
@given(
    key=st.text(
        st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60
    ).filter(lambda key: key.strip("/")),
    query=st.text(string.ascii_letters + "=&%20+", max_size=20),
    at=st.integers(1_000_000_000, 1_900_000_000),
)
def test_parsing_undoes_writing(name, key, query, at):
    query = query.strip("-")
    wanted = Wanted(key=key, target=target_of(key, query), at=at)
    event = event_of(name, WRITERS[name](wanted))
    assert (event.bucket, event.key, event.query, int(event.at)) == ("site", key.lstrip("/"), query, at)


@given(raw=st.binary(min_size=1, max_size=80).filter(lambda raw: not set(raw) & set(b" \r\n?\t")))
def test_raw_bytes_in_a_request_line_come_out_of_nginx_and_apache_as_they_were(raw):
    for name in ("nginx", "apache"):
        record = parse(format_of(name), WRITERS[name](Wanted(target=b"/" + raw)))
        assert record.path == b"/" + raw


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"json"}))
def test_the_format_is_told_from_its_first_lines(name):
    lines = b"".join(
        WRITERS[name](Wanted(key=f"p/{n}", target=f"/p/{n}".encode(), status=200 if n % 3 else 404)) + b"\n"
        for n in range(30)
    )
    found = detect(lines)
    assert found is not None
    assert found.format.name == {"apache": "nginx"}.get(name, name)  # the same shape but for escapes


def test_apache_is_told_from_nginx_by_its_escapes():
    assert detect(WRITERS["apache"](Wanted(agent='a "q"')) + b"\n").format.name == "apache"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\n\n",
        b"hello world\nthis is no log\n",
        bytes(range(256)) * 20,
        b"\x00" * 100 + b"\n",
        b"{}\n" * 5,
    ],
)
def test_rubbish_has_no_format(head):
    assert detect(head) is None


@pytest.mark.parametrize("name", FORMATS)
@given(line=st.binary(max_size=300))
def test_rubbish_is_no_record_and_no_exception(name, line):
    line = line.replace(b"\n", b"")
    FORMATS[name].is_comment(line)
    parse(FORMATS[name], line)


@pytest.mark.parametrize("name", WRITERS)
@given(cut=st.integers(0, 400), flip=st.binary(min_size=1, max_size=3))
def test_a_damaged_line_is_no_exception(name, cut, flip):
    line = WRITERS[name](Wanted(key="d/x", target=b"/d/x"))
    parse(format_of(name), line[:cut])
    parse(format_of(name), (line[:cut] + flip + line[cut:]).replace(b"\n", b""))


@pytest.mark.parametrize("name", WRITERS)
def test_the_needle_is_in_every_line_of_its_status_and_in_few_others(name):
    """The prefilter must never hide a miss."""
    lines = [
        WRITERS[name](Wanted(key=f"k{n}", target=f"/k{n}".encode(), status=status))
        for n, status in enumerate([200, 404, 304, 403, 404, 500])
    ]
    chunk = b"\n".join(lines) + b"\n"
    one = list(candidates(chunk, format_of(name).needle((404,))))
    two = list(candidates(chunk, format_of(name).needle((403, 404))))
    assert [lines[1], lines[4]] == one
    assert [lines[1], lines[3], lines[4]] == two


MAIN = """log_format  main  '$remote_addr - $remote_user [$time_local] "$request" '
                  '$status $body_bytes_sent "$http_referer" '
                  '"$http_user_agent" "$http_x_forwarded_for"';"""


@pytest.mark.parametrize(
    ("template", "line", "key"),
    [
        (MAIN, b'1.2.3.4 - al bert [21/Nov/2026:03:56:35 +0000] "GET /a%20b HTTP/2.0" 404 1 "-" "x" "1.1.1.1, 2.2.2.2"', "a b"),
        ("$host $request_uri $status $upstream_response_time $msec", b"h.example /x%2520 404 0.001, 0.002 1795233395.123", "x%20"),
        ("$status|$uri|$args", b"404|/a b|-", "a b"),
        ("log_format j escape=json '{\"p\":\"$request_uri\",\"s\":$status}';", b'{"p":"/q\\"1","s":404}', 'q"1'),
        ("escape=none $status $request_uri", b"404 /x\\y", "x\\y"),
        ("'$status' ' $request'", b"404 GET /z HTTP/1.0", "z"),
        ("$host$uri$is_args$args $status", b"h.example/a%20- 404", "a%20"),
        ("$host$uri$is_args$args $status", b"h.example/a%20?b=c 404", "a%20"),
        ("${scheme}://$host$request_uri $status", b"https://h.example/deep/x 404", "deep/x"),
    ],
)  # fmt: skip
def test_any_nginx_log_format_is_read_as_pasted(template, line, key):
    record = parse(nginx.from_log_format(template), line)
    assert filter_of(bucket="site").judge(record).key == key


def test_an_nginx_variable_that_is_decoded_is_not_decoded_again():
    line_format = nginx.from_log_format('$status "$uri"')
    record = parse(line_format, b'404 "' + nginx_escape("/100%25 中".encode()) + b'"')
    assert filter_of(bucket="site").judge(record).key == "100%25 中"


@pytest.mark.parametrize(
    ("template", "line", "key"),
    [
        (r'LogFormat "%v:%p %h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\"" vhost_combined',
         b'h.example:80 1.2.3.4 - - [21/Nov/2026:03:56:35 +0000] "GET /a\\"b HTTP/1.1" 404 1 "-" "a \\"q\\""', 'a"b'),
        ("%m %U%q %>s %D", b"GET /a b%20c?x=1 404 99", "a b%20c"),
        ("%m %U%q %>s %D", b"GET /a b%20c 404 99", "a b%20c"),
        ('%m "%U" "%q" %>s %{%s}t', b'GET "/a b%20c" "?x=1" 404 1795233395', "a b%20c"),
        ('%a %{ms}T %400,404{X-Y}i [%{%d/%b/%Y:%T %z}t] "%r" %s', b'::1 3 y z [21/Nov/2026:03:56:35 +0000] "GET /k HTTP/1.1" 404', "k"),
    ],
)  # fmt: skip
def test_any_apache_log_format_is_read_as_pasted(template, line, key):
    record = parse(apache.from_log_format(template), line)
    assert filter_of(bucket="site").judge(record).key == key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$remote_addr $request", "no status"),
        ("$status $remote_addr", "no request path"),
        ("%h %r", "no status"),
        ("ngnix", "did you mean 'nginx'"),
        ("log_format x 'nothing';", "unknown log format"),
    ],
)
def test_a_format_that_cannot_find_misses_is_refused_with_its_reason(text, message):
    with pytest.raises(ConfigError, match=message):
        format_by_name(text)


def test_a_field_map_with_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="unknown field 'statsu'"):
        format_by_name("json", fields={"statsu": "x"})
    with pytest.raises(ConfigError, match="takes no field map"):
        format_by_name("nginx", fields={"status": "x"})


def test_a_template_with_many_loose_fields_takes_no_time_for_a_hostile_line():
    line_format = nginx.from_log_format("$http_a $http_b $http_c $http_d $http_e $status $request_uri")
    hostile = b" ".join([b"a"] * 10_000)
    began = datetime.now(UTC)
    assert parse(line_format, hostile) is None
    assert (datetime.now(UTC) - began).total_seconds() < 5


@pytest.mark.parametrize("name", ["nginx", "s3", "oss", "cos", "gcs", "caddy", "haproxy"])
def test_a_delete_is_a_tombstone_and_its_needle_is_there(name):
    """S15."""
    line = WRITERS[name](Wanted(key="a b", target=b"/a%20b", method="DELETE", status=204))
    assert format_of(name).delete_needle in line
    gone = event_of(name, line)
    assert isinstance(gone, Deletion)
    assert gone.key == "a b"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("21/Nov/2026:03:56:35 +0000", 1795233395.0),
        ("21/Nov/2026:05:56:35 +0200", 1795233395.0),
        ("2026-11-21T03:56:35Z", 1795233395.0),
        ("2026-11-21T03:56:35.619379416Z", 1795233395.619379),
        ("1795233395.5", 1795233395.5),
        ("1795233395500", 1795233395.5),
        ("1795233395500000", 1795233395.5),
        ("yesterday", 0.0),
        ("", 0.0),
        ("99/Foo/2026:03:56:35 +0000", 0.0),
    ],
)
def test_times_of_every_shape_are_unix_seconds(text, seconds):
    assert parse_time(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "header",
    [
        b"<190>Nov 21 03:56:35 host nginx: ", b"<134>Nov  1 03:56:35 haproxy[10528]: ",
        b"<190>1 2026-11-21T03:56:35.1Z host nginx 12 - - ", b"Nov 21 03:56:35 host haproxy[1]: ",
        b"2026-11-21T03:56:35.1+00:00 host nginx: ", b"<190>",
    ],
)  # fmt: skip
def test_a_syslog_header_is_looked_through(header):
    line = WRITERS["nginx"](Wanted())
    assert strip_header(header + line) == line
    assert strip_header(line) == line


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (b"/", "empty_key"), (b"//", "empty_key"), (b"/%ff", "not_utf8"), (b"/a%00b", "control_character"),
        (b"/a%0Ab", "control_character"), (b"/" + b"%E4%B8%AD" * 342, "key_too_long"),
        (b"/" + b"k" * 1025, "key_too_long"), (b"/a%7F", "control_character"),
    ],
)  # fmt: skip
def test_what_is_no_key_is_refused_with_its_reason(path, reason):
    refused = event_of("nginx", WRITERS["nginx"](Wanted(target=path)))
    assert isinstance(refused, Refused)
    assert refused.reason == reason


@pytest.mark.parametrize("path", [b"/" + b"k" * 1024, b"/" + b"%E4%B8%AD" * 341])
def test_the_longest_key_is_taken(path):
    """L8."""
    assert isinstance(event_of("nginx", WRITERS["nginx"](Wanted(target=path))), MissEvent)


def test_a_name_that_the_logger_had_to_replace_is_refused_and_never_guessed():
    line = WRITERS["caddy"](Wanted(target="/a\ufffd".encode()))
    assert event_of("caddy", line) == Refused(reason="not_utf8", detail="b'/a\\xff' is not UTF-8")
