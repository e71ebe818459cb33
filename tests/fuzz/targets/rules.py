"""Rule documents of every form. What is taken can be written again, and means the same."""

# ruff: noqa: E501 -- inputs and words of a format read best unbroken

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from fuzz.target import Target
from scheduler.rules.cos import xml as cos_xml
from scheduler.rules.formats import Form, read_any, write_as
from scheduler.rules.oss import xml as oss_xml
from scheduler.rules.problems import DocumentError, NotExpressible, ReadOptions
from scheduler.rules.xml_tree import BadXml, normalise
from scheduler.rules.yaml import document
from support.rules.documents import cos, oss, s3, yml

_DATA = Path(__file__).parents[2] / "data" / "rules"
_OPTIONS = ReadOptions(bucket="site", public_hosts=("cdn.example",))


def _read(data: bytes, *, form: Form) -> None:
    text = data.decode("utf-8", "replace")
    for ruleset, _ in read_any(text, _OPTIONS).values():
        for target in Form:
            try:
                written = write_as(ruleset, target)
            except NotExpressible:
                assert target is not form
                continue
            if target is Form.YAML or target is form:
                again, _ = next(iter(read_any(written, replace(_OPTIONS, bucket=ruleset.bucket)).values()))
                assert replace(again, source=ruleset.source) == ruleset, (ruleset, written)


def _api(data: bytes) -> None:
    """As the vendors' APIs are sent it: bytes of any kind."""
    normalise(data)
    for codec in (cos_xml, oss_xml):
        try:
            codec.parse(data.decode("utf-8", "replace"), _OPTIONS)
        except DocumentError as error:
            assert len(str(error)) < 50_000  # noqa: PT017 - a refusal is all right, a long one is not


def _yaml(data: bytes) -> None:
    document.parse_buckets(data, _OPTIONS)


_XML = (
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    b"&b;",
    b"&#0;",
    b"<![CDATA[",
    b"]]>",
    b"<!--",
    b"-->",
    b"<?x ?>",
    b"xmlns='a'",
)
_COS = (
    cos().encode(), cos(files="<PrefixConfiguration><Prefix>a/</Prefix></PrefixConfiguration>", kind="Redirect").encode(),
    (_DATA / "cos_sample.xml").read_bytes(), (_DATA / "cos_structure.xml").read_bytes(),
)  # fmt: skip
_OSS = (oss().encode(), oss(kind="External").encode(), s3().encode(), (_DATA / "oss_full.xml").read_bytes())
_YAML = (
    yml().encode(), b"rules:\n- prefix: img/\n  origins: [https://o.example/a, 'http://b.example:81']\n",
    b'{"rules": [{"origins": ["http://o.example"], "prefix": "a"}]}',
    b"buckets:\n  site:\n    rules:\n    - type: redirect\n      when: {prefix: a, status: [404]}\n      origin: {hosts: [o.example]}\n",
    b"rules:\n- origins: [http://o.example]\n  answer: {absent_ttl_s: 5}\n  store: {tags: {a: b}}\n  request: {query: true}\n",
)  # fmt: skip
_ELEMENTS = tuple(
    f"<{name}>{value}</{name}>".encode()
    for name, value in (
        ("OriginType", "Proxy"), ("HTTPStatusCode", "404"), ("Prefix", "a"), ("HostName", "o.example"), ("Weight", "3"),
        ("FollowQueryString", "true"), ("RedirectCode", "302"), ("Protocol", "FOLLOW"), ("MirrorURL", "http://a.b/"),
        ("MirrorPassQueryString", "true"), ("KeyPrefixEquals", "a"), ("HttpRedirectCode", "301"), ("RuleNumber", "2"),
        ("ReplaceKeyPrefixWith", "a${key}"), ("Key", "a"), ("Value", "b"), ("EnableReplacePrefix", "true"),
    )
)  # fmt: skip
_WORDS = (
    b"- ", b"&a ", b"*a", b"<<: ", b"!!python/object:os.system ", b"!!binary ", b"!!set ", b"!!timestamp ", b"? ", b"|\n", b">\n",
    b"---\n", b"...\n", b"%YAML 9.9\n", b"rules: ", b"origins: ", b"origin: ", b"when: ", b"1:59:59", b"0o7", b".inf", b"~",
    b"2026-11-21", b"hosts: ", b"weight: ", b"prefix: ", b"http://[::1]/", b"http://a.example:99999/", b"write_back: async",
)  # fmt: skip

TARGETS = (
    Target(
        name="rules-cos", read=partial(_read, form=Form.COS), seeds=_COS, words=(*_XML, *_ELEMENTS), refuses=(DocumentError,)
    ),
    Target(
        name="rules-oss", read=partial(_read, form=Form.OSS), seeds=_OSS, words=(*_XML, *_ELEMENTS), refuses=(DocumentError,)
    ),
    Target(
        name="rules-yaml", read=partial(_read, form=Form.YAML), seeds=_YAML, words=_WORDS, refuses=(DocumentError,), max_bytes=1024
    ),
    Target(name="rules-yaml-bytes", read=_yaml, seeds=_YAML, words=_WORDS, refuses=(DocumentError,), max_bytes=1024),
    Target(
        name="rules-api", read=_api, seeds=(*_COS, *_OSS), words=(*_XML, *_ELEMENTS), refuses=(BadXml,)
    ),
)  # fmt: skip
