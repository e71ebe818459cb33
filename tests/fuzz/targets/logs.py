"""Lines of access logs, in every format: a line that is none of it is None, never an exception."""

# ruff: noqa: E501, ISC004 -- inputs and words of a format read best unbroken

from __future__ import annotations

from dataclasses import replace

from fuzz.target import Target
from scheduler.logs.filters import MissFilter
from scheduler.logs.formats.catalog import FORMATS, format_by_name
from scheduler.logs.formats.detect import detect
from scheduler.logs.formats.envelope import EnvelopeFormat
from scheduler.logs.formats.prefilter import candidates
from scheduler.logs.formats.record import LineFormat, parse
from scheduler.logs.place import Place
from scheduler.logs.syslog import strip_header
from scheduler.misses.event import MissEvent
from scheduler.misses.refusals import Deletion
from support.logs.lines import WRITERS, Wanted
from workers.errors import ConfigError

_FILTER = MissFilter(
    methods=frozenset({"GET", "HEAD"}),
    bots=False,
    place=Place(hosts={"img.example": "site", "*.b.example": "other"}, path_style=frozenset({"site"})),
)
_ONE_BUCKET = replace(_FILTER, place=Place(bucket="site", strip_prefix=b"/a"))
_LINES = tuple(
    writer(event)
    for writer in WRITERS.values()
    for event in (
        Wanted(target=b"/site/a%20b?c=d"),
        Wanted(
            key='x"\\y',
            target=b'/site/x"\\y',
            method="DELETE",
            status=204,
            agent="a\tb",
            referer="http://r.example/",
        ),
    )
)
_HEADS = (
    b"#Version: 1.0\n#Fields: date time cs-method cs-uri-stem sc-status\n2026-11-21 03:56:35 GET /a 404\n",
    b"#Software: Microsoft Internet Information Services\n#Fields: date time cs-method cs-uri-stem cs-uri-query sc-status\n"
    b"2026-11-21 03:56:35 GET /a - 404\n",
    b'"time_micros","c_ip","cs_method","cs_uri","sc_status","cs_bucket","cs_object"\n"1","1.2.3.4","GET","/b/o","404","b","o"\n',
)
_WORDS = (
    b'"GET /', b' HTTP/1.1" 404 ', b" 404 ", b"[21/Nov/2026:03:56:35 +0000]", b"\\x22", b"\\", b'\\"', b"#22", b'"-" 400', b"http://a/",
    b'{"status":404,', b'"message":"', b"<190>Nov 21 03:56:35 h t[1]: ", b"<14>1 - - - - - ", b'[a="\\"]', b"#Fields: ", b"\t-\t",
    b"2026-11-21T03:56:35Z", b"0000-00-00", b"99:99:99", b"/Feb/", b"Mon", b'"-"', b"%%", b"404", b'"http_status":"404"',
)  # fmt: skip


def _taken(line_format: LineFormat, line: bytes) -> None:
    record = parse(line_format, line)
    line_format.is_comment(line)
    if record is None:
        return
    for judge in (_FILTER.judge, _ONE_BUCKET.judge):
        told = judge(record)
        if isinstance(told, MissEvent | Deletion):
            # What goes into the queue and the ledger is text that JSON and Redis can hold.
            told.key.encode()
            told.bucket.encode()
            assert told.at == told.at
            assert "\0" not in told.key
        if isinstance(told, MissEvent):
            for text in (told.id, told.query, told.referer, told.user_agent, told.host):
                text.encode()


def _any_format(data: bytes) -> None:
    line = strip_header(data.partition(b"\n")[0])
    for line_format in FORMATS.values():
        _taken(line_format, line)
        _taken(EnvelopeFormat(line_format), line)


def _detected(data: bytes) -> None:
    found = detect(data)
    if found is None:
        return
    for line in data.split(b"\n"):
        _taken(found.format, strip_header(line))
    list(candidates(data + b"\n", found.format.needle((403, 404))))


def _template(data: bytes) -> None:
    template, _, line = data.decode("utf-8", "replace").partition("\x1f")
    found = format_by_name(template)
    if found is not None:
        _taken(found, line.encode())


def _field_map(data: bytes) -> None:
    names, _, line = data.partition(b"\x1f")
    pairs = (part.partition("=") for part in names.decode("utf-8", "replace").split(","))
    found = format_by_name("json", fields={name: value for name, _, value in pairs})
    assert found is not None
    _taken(found, line)


_COMBINED = WRITERS["nginx"](Wanted(target=b"/site/a"))
TARGETS = (
    Target(name="log-lines", read=_any_format, seeds=_LINES, words=_WORDS, max_bytes=2048),
    Target(
        name="log-files",
        read=_detected,
        seeds=(*_HEADS, *(line + b"\n" + line + b"\n" for line in _LINES)),
        words=_WORDS,
        max_bytes=2048,
    ),
    Target(
        name="log-templates",
        read=_template,
        seeds=(
            b'$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent\x1f' + _COMBINED,
            b'log_format x escape=json \'{"uri":"$uri","status":$status,"method":"$request_method"}\';\x1f{"uri":"/a","status":404}',
            b'%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"\x1f' + _COMBINED,
            b'LogFormat "%v %h %t %m %U%q %s" vhost\x1fa 1 [21/Nov/2026:03:56:35 +0000] GET /a?b 404',
        ),
        words=(b"$request", b"$status", b"$uri", b"$args", b'"$request" $status ', b"%r", b"%>s", b"%{a}i", b"$$", b"%%", b"${status}"),
        refuses=(ConfigError,),
        max_bytes=1024,
    ),
    Target(
        name="log-field-maps",
        read=_field_map,
        seeds=(b'path=url,status=code,method=verb,time=at\x1f{"url":"/a","code":404,"verb":"GET","at":1795233395}',),
        words=(b"path=", b"status=", b"bucket=", b"key=", b"a.b.c", b"host=", b"time="),
        refuses=(ConfigError,),
        max_bytes=1024,
    ),
)  # fmt: skip
