"""Every format: what its lines say, also the odd ones; and that parsing undoes writing."""

# ruff: noqa: E501 -- tables of real lines read best unbroken

from __future__ import annotations

import string
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.logs.formats import apache, cloudfront, gcs, nginx
from scheduler.logs.formats.catalog import FORMATS, format_by_name
from scheduler.logs.formats.detect import detect
from scheduler.logs.formats.prefilter import candidates
from scheduler.logs.formats.record import parse
from scheduler.logs.formats.values import parse_time
from scheduler.logs.syslog import strip_header
from scheduler.misses.event import MissEvent
from scheduler.misses.refusals import Deletion, Ignored, Refused
from support.log_filters import filter_of
from support.log_lines import WRITERS, Wanted, nginx_escape, target_of
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


def test_cloudfront_columns_come_from_its_header():
    head = b"#Version: 1.0\n#Fields: sc-status cs-uri-stem x-host-header date time\n404\t/a%2520b\th\t2026-11-21\t03:56:35\n"
    found = detect(head)
    record = parse(found.format, head.splitlines()[2])
    assert (record.path, record.host, record.at) == (b"/a%20b", "h", 1795233395.0)
    assert cloudfront.from_head(b"no header\n") is None


def test_gcs_header_is_no_record():
    head = b'"time_micros","c_ip"\n'
    assert gcs.USAGE.is_comment(head.strip())


@pytest.mark.parametrize(
    ("uri", "host", "key"),
    [
        ("/site/a%20b", "storage.googleapis.com", "a b"),
        ("/a%20b?alt=media", "site.storage.googleapis.com", "a b"),
        ("/storage/v1/b/site/o/d%2Fa%20b?alt=media", "www.googleapis.com", "d/a b"),
        ("/download/storage/v1/b/site/o/d%2Fx?alt=media", "storage.googleapis.com", "d/x"),
        ("/img.png", "cdn.example.com", "img.png"),
    ],
)
def test_gcs_uris_of_every_api_name_the_same_key(uri, host, key):
    values = [
        "1",
        "ip",
        "1",
        "",
        "GET",
        uri,
        "404",
        "0",
        "0",
        "1",
        host,
        "",
        "",
        "id",
        "op",
        "site",
        "literal",
    ]
    line = ",".join(f'"{value}"' for value in values).encode()
    assert event_of("gcs", line).key == key


@pytest.mark.parametrize(
    ("host", "uri", "field", "key"),
    [
        ("site.s3.amazonaws.com", "/site/x", "site/x", "site/x"),
        ("s3.amazonaws.com", "/site/x", "x", "x"),
        ("-", "/site/site/x", "site/x", "site/x"),
        ("-", "/x%2520y", "x%2520y", "x%20y"),
        ("cdn.example.com", "/x", "x", "x"),
    ],
)
def test_an_s3_line_says_path_style_or_virtual_host(host, uri, field, key):
    line = (
        f'o site [21/Nov/2026:03:56:35 +0000] 1.2.3.4 - ID REST.GET.OBJECT {field} "GET {uri} HTTP/1.1" 404 '
        f'NoSuchKey 1 - 1 - "-" "ua" - hid SigV4 cipher AuthHeader {host} TLSv1.2'
    ).encode()
    assert event_of("s3", line).key == key


@pytest.mark.parametrize("name", ["nginx", "s3", "oss", "cos", "gcs", "caddy", "haproxy"])
def test_a_delete_is_a_tombstone_and_its_needle_is_there(name):
    """S15."""
    line = WRITERS[name](Wanted(key="a b", target=b"/a%20b", method="DELETE", status=204))
    assert format_of(name).delete_needle in line
    gone = event_of(name, line)
    assert isinstance(gone, Deletion)
    assert gone.key == "a b"


def test_a_batch_delete_of_s3_is_a_tombstone():
    """S15."""
    line = (
        b"o site [21/Nov/2026:03:56:35 +0000] 1.2.3.4 - ID BATCH.DELETE.OBJECT d/a%2520b "
        b"- 204 - - - - - - - - hid SigV4 c AuthHeader s3.amazonaws.com TLSv1.2"
    )
    assert event_of("s3", line).key == "d/a b"


@pytest.mark.parametrize(
    "operation", ["REST.GET.ACL", "REST.GET.BUCKET", "REST.PUT.OBJECT", "REST.DELETE.UPLOAD"]
)
def test_an_s3_operation_on_something_else_is_no_miss(operation):
    line = WRITERS["s3"](Wanted()).replace(b"REST.GET.OBJECT", operation.encode())
    assert isinstance(event_of("s3", line), Ignored)


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


@pytest.mark.parametrize(
    ("before", "after"), [(b"[", b","), (b"", b","), (b",", b""), (b"", b"]"), (b"[", b"]")]
)
def test_a_record_of_rgws_socket_is_read_whatever_the_array_puts_around_it(before, after):
    """Seen with Ceph 16.2: `[{...},` and then `{...},`, without an end."""
    line = before + WRITERS["rgw"](Wanted(key="a b.txt", target=b"/a%20b.txt")) + after
    event = event_of("rgw", line)
    assert (event.bucket, event.key) == ("site", "a b.txt")
    assert detect(line + b"\n").format.name == "rgw"


def test_what_is_left_of_rgws_array_is_no_record():
    assert FORMATS["rgw"].is_comment(b"[")
    assert FORMATS["rgw"].is_comment(b"]\r")


# As the vendors' own documentation shows them.
ALB_LINE = (
    b"http 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 192.168.131.39:2817 10.0.0.1:80 "
    b'0.000 0.001 0.000 404 404 34 366 "GET http://www.example.com:80/img/a%20b.png?x=1 HTTP/1.1" "curl/7.46.0" '
    b"- - arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067 "
    b'"Root=1-58337262-36d228ad5d99923122bbe354" "-" "-" 0 2018-07-02T22:22:48.364000Z "forward" "-" "-" '
    b'"10.0.0.1:80" "404" "-" "-"'
)
ALIBABA_LINE = (
    b'[9/Jun/2015:01:58:09 +0800] 10.10.10.10 - 1542 "-" "GET http://www.aliyun.com/index.html" 404 191 2830 '
    b'MISS "Mozilla/5.0 (compatible; AhrefsBot/5.0; +http://example.com/robot/)" "text/html"'
)
TENCENT_LINE = (
    b"20210913163000 10.10.10.10 www.test.com /path/1.jpg 514 1050 1 404 NULL 12 "
    b'"Mozilla/5.0" "(null)" GET HTTP/1.1 hit 52130'
)
REAL_LINES = [
    ("alb", ALB_LINE, ("www.example.com", "img/a b.png", 1530570180)),
    ("alibaba-cdn", ALIBABA_LINE, ("www.aliyun.com", "index.html", 1433786289)),
    ("tencent-cdn", TENCENT_LINE, ("www.test.com", "path/1.jpg", 1631521800)),
]


@pytest.mark.parametrize(("name", "line", "said"), REAL_LINES, ids=[name for name, *_ in REAL_LINES])
def test_a_line_of_the_vendors_documentation_is_read_and_recognised(name, line, said):
    assert detect(line + b"\n").format.name == name
    record = parse(FORMATS[name], line)
    assert (record.host, int(record.at)) == (said[0], said[2])
    assert event_of(name, line).key == said[1]


def test_a_request_that_an_alb_could_not_read_is_no_miss():
    line = ALB_LINE.replace(b"GET http://www.example.com:80/img/a%20b.png?x=1 HTTP/1.1", b"- http://x:80- -")
    assert parse(FORMATS["alb"], line) is None


def test_a_quote_in_a_referer_or_agent_hides_no_line_of_the_cdns():
    odd = ALIBABA_LINE.replace(b'1542 "-"', rb'1542 "http://x/?q=\"a\""')
    assert parse(FORMATS["alibaba-cdn"], odd).path == b"/index.html"
    odd = TENCENT_LINE.replace(b'"Mozilla/5.0"', rb'"a \"quoted\" agent"')
    assert parse(FORMATS["tencent-cdn"], odd).path == b"/path/1.jpg"
    assert parse(FORMATS["tencent-cdn"], TENCENT_LINE).referer == ""


IIS_HEAD = (
    b"#Software: Microsoft Internet Information Services 10.0\r\n#Version: 1.0\r\n#Date: 2023-05-05 12:00:00\r\n"
    b"#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) cs(Referer) "
    b"sc-status sc-substatus sc-win32-status time-taken\r\n"
)


def iis_line(stem: bytes, query: bytes = b"-") -> bytes:
    return (
        b"2023-05-05 12:00:01 10.0.0.1 GET "
        + stem
        + b" "
        + query
        + b" 443 - 203.0.113.9 Mozilla/5.0+(Windows) - 404 0 2 15"
    )


def test_the_columns_of_iis_come_from_its_header():
    line = iis_line("/img/ü.png".encode(), b"v=1")
    found = detect(IIS_HEAD + line + b"\r\n")
    assert found.format.name == "iis"
    record = parse(found.format, line + b"\r")
    assert (record.status, record.method, record.query, record.at) == (404, "GET", "v=1", 1683288001.0)
    assert filter_of(bucket="site").judge(record).key == "img/ü.png"
    assert found.format.is_comment(b"#Date: 2023-05-05 13:00:00\r")
    fewer = b"#Fields: time cs-method cs-uri-stem sc-status s-port cs-host\n12:00:01 GET /a.txt 404 80 www.example\n"
    record = parse(detect(fewer).format, fewer.splitlines()[1])
    assert (record.path, record.host) == (b"/a.txt", "www.example")


@pytest.mark.parametrize("stem", [b"/a+b.txt", b"/100%.txt", b"/a%20b.txt"])
def test_a_name_that_iis_no_longer_tells_exactly_is_refused_and_never_guessed(stem):
    taken = event_of("iis", iis_line(stem))
    assert isinstance(taken, Refused)
    assert taken.reason == "not_utf8"


@pytest.mark.parametrize("field", ["log", "message", "MESSAGE"])
@pytest.mark.parametrize("name", ["nginx", "apache-common", "cloudfront", "haproxy", "elb"])
def test_a_line_inside_a_json_line_is_read_as_the_line_itself(field, name):
    line = WRITERS[name](Wanted(key='d/a"b c.txt', target=b"/d/a%22b%20c.txt"))
    packed = orjson.dumps({field: line.decode() + "\n", "stream": "stdout", "time": "2026-11-21T03:56:35Z"})
    started = orjson.dumps({field: "ready to serve\n", "stream": "stderr"})
    found = detect(packed + b"\n" + packed + b"\n" + started + b"\n")
    assert found is not None
    assert found.format.name == name
    assert filter_of(bucket="site").judge(parse(found.format, packed)).key == 'd/a"b c.txt'
    needle = found.format.needle((404,))
    assert list(candidates(packed + b"\n", needle)) == [packed]
    assert parse(found.format, started) is None


@pytest.mark.parametrize(
    "document",
    [
        {"http": {"request": {"method": "GET"}, "response": {"status_code": 404}}, "url": {"original": "/d/a%20b"}},
        {"attributes": {"http.request.method": "GET", "http.response.status_code": 404, "url.path": "/d/a%20b"}},
        {"method": "GET", "request": "/d/a%20b", "status": "404", "query": "?x=1"},
        {"requestmethod": "GET", "request": "https://h/d/a%20b", "status": 404, "host": "h"},
        {"domain": "h", "method": "GET", "uri": "/d/a%20b", "http_code": "404", "uri_param": "-"},
        {"category": "ApplicationGatewayAccessLog", "properties": {"httpMethod": "GET", "requestUri": "/d/a%20b",
         "requestQuery": "x=1", "httpStatus": 404, "host": "h"}},
        {"reqPath": "d/a%20b", "reqMethod": "GET", "statusCode": "404", "reqHost": "h", "UA": "Mozilla%2F5.0"},
        {"ClientRequestPath": "/d/a%20b", "ClientRequestMethod": "GET", "EdgeResponseStatus": 404},
    ],
    ids=["ecs", "otel", "apache-in-json", "keycdn", "huawei-lts", "azure-gateway", "akamai-bare", "cloudflare-path"],
)  # fmt: skip
def test_names_that_other_programs_give_their_fields_are_known(document):
    line = orjson.dumps(document)
    record = parse(detect(line + b"\n").format, line)
    assert (record.method, record.status, record.path) == (
        "GET",
        404,
        document.get("reqPath", "/d/a%20b").encode(),
    )
