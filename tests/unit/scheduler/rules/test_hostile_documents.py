# ruff: noqa: E501 - a table reads best with one row a line
"""Documents of a megabyte that are made to hurt: refused, soon, and the process goes on (L7, 1.1)."""

from __future__ import annotations

import time

import pytest

from scheduler.rules.problems import DocumentError, ReadOptions
from support.rules.documents import cos, cos_rule, parse

MEGABYTE = 1024 * 1024
#: Seconds of processor time: far above what is needed, far below what a gateway would notice as an attack.
SOON_S = 5.0


def _fill(head: str, unit: str, tail: str) -> str:
    return head + unit * ((MEGABYTE - len(head) - len(tail)) // len(unit)) + tail


_LOL = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
_HEADER = "<Header><Key>a</Key><Value>b</Value></Header>"

#: id, document, kind of a problem that must be among those told
ROWS: list[tuple[str, str, str]] = [
    ("xml-deep", "<a>" * (MEGABYTE // 3), "bad_xml"),
    ("xml-billion-laughs", f'<!DOCTYPE a [<!ENTITY a0 "lol">{_LOL}]><OriginConfiguration>&a9;</OriginConfiguration>', "bad_xml"),
    ("cos-empty-rules", _fill("<OriginConfiguration>", "<OriginRule/>", "</OriginConfiguration>"), "too_many"),
    ("cos-rules", _fill("<OriginConfiguration>", cos_rule(), "</OriginConfiguration>"), "too_many"),
    ("oss-empty-rules", _fill("<WebsiteConfiguration><RoutingRules>", "<RoutingRule/>", "</RoutingRules></WebsiteConfiguration>"), "too_many"),
    ("cos-unknown", _fill("<OriginConfiguration><OriginRule>", "<OriginTipe/>", "</OriginRule></OriginConfiguration>"), "unknown_element"),
    ("cos-headers", cos(parameter=f"<HttpHeader><NewHttpHeaders>{_HEADER * 5_000}</NewHttpHeaders></HttpHeader>"), "too_many"),
    ("cos-hosts", cos(hosts="<HostInfo><HostName>a.example</HostName></HostInfo>" * 5_000), "too_many"),
    ("yaml-deep-flow", "[" * 500_000, "bad_yaml"),
    ("yaml-deep-block", "- " * 500_000, "bad_yaml"),
    ("json-deep", '{"rules":' + "[" * 500_000 + "]" * 500_000 + "}", "bad_yaml"),
    ("json-deep-escaped", '{"rules":' + "[" * 900 + '"\\u0041"' + "]" * 900 + "}", "bad_value"),
    ("json-wide-escaped", '{"rules":["\\u0041"' + ",1" * 500_000 + "]}", "too_large"),
    ("json-rules", '{"rules":[' + '{"origins":["http://o.example"]},' * 30_000 + "{}]}", "too_large"),
    ("yaml-rules", "rules:\n" + "- origins: [http://o.example]\n" * 2_000, "too_many"),
    ("yaml-origins", f"rules: [{{origins: [{'http://o.example,' * 40_000}]}}]", "too_many"),
    ("yaml-unknown-keys", "rules:\n- origins: [http://o.example]\n" + "".join(f"  unknwn{n}: 1\n" for n in range(5_000)), "unknown_element"),
    ("yaml-endless-alias", "a: &a [*a]", "too_large"),
    ("yaml-sexagesimal", f"rules: [{{priority: {':'.join(['59'] * 300_000)}, origins: [http://o.example]}}]", "bad_value"),
    ("yaml-sexagesimal-short", f"rules: [{{priority: {':'.join(['59'] * 300)}, origins: [http://o.example]}}]", "bad_value"),
    ("yaml-large-seconds", f"rules: [{{origins: [http://o.example], answer: {{absent_ttl_s: {'9' * 900}}}}}]", "bad_value"),
    ("yaml-large-number", f"rules: [{{priority: {'9' * 100_000}, origins: [http://o.example]}}]", "bad_value"),
    ("yaml-key-that-is-a-list", "rules: [{? [a, b] : 1, origins: [http://o.example]}]", "unknown_element"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_hostile_document_is_refused_soon(text: str, kind: str) -> None:
    assert len(text) <= MEGABYTE
    started = time.process_time()
    with pytest.raises(DocumentError) as caught:
        parse(text, ReadOptions(bucket="b"))
    assert time.process_time() - started < SOON_S
    assert kind in {problem.kind.value for problem in caught.value.problems}
    assert len(str(caught.value)) < 20_000


def test_a_message_does_not_repeat_a_name_of_a_megabyte() -> None:
    name = "a" * 900_000
    with pytest.raises(DocumentError) as caught:
        parse(f"<OriginConfiguration><OriginRule><{name}/></OriginRule></OriginConfiguration>")
    assert len(str(caught.value)) < 2000
