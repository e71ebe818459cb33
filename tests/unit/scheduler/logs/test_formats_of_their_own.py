"""What is one format's own: columns, operations, a line of the vendor, what others put around it."""

# ruff: noqa: E501 -- tables of real lines read best unbroken

from __future__ import annotations

import orjson
import pytest

from scheduler.logs.formats import cloudfront, gcs
from scheduler.logs.formats.catalog import FORMATS, format_by_name
from scheduler.logs.formats.detect import detect
from scheduler.logs.formats.prefilter import candidates
from scheduler.logs.formats.record import parse
from scheduler.logs.syslog import strip_header
from scheduler.misses.refusals import Ignored, Refused
from support.logs.filters import filter_of
from support.logs.lines import WRITERS, Wanted


def format_of(name):
    fields = {"target": "where.uri"} if name == "json" else None
    return format_by_name(name, fields=fields)


def event_of(name: str, line: bytes, **options):
    record = parse(format_of(name), strip_header(line))
    assert record is not None, line
    options.setdefault("bucket", "site")
    return filter_of(**options).judge(record)


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
