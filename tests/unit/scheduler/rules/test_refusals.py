# ruff: noqa: E501 - a table reads best with one row a line
"""Refusals and limits: SEMANTICS.md 1.1, the limits of 1.2, and section 8."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.rules.problems import DocumentError, Problem, ReadOptions
from support.rules.documents import HOST, cos, cos_rule, oss, oss_rule, parse, s3, yml


def problems(text: str, options: ReadOptions | None = None) -> tuple[Problem, ...]:
    with pytest.raises(DocumentError) as caught:
        parse(text, options)
    return caught.value.problems


def _list(tag: str, count: int) -> str:
    items = "".join(f"<Header><Key>A-{n}</Key></Header>" for n in range(count))
    return f"<HttpHeader><{tag}>{items}</{tag}></HttpHeader>"


def _new(name: str, value: str = "v") -> str:
    return f"<HttpHeader><NewHttpHeaders><Header><Key>{name}</Key><Value>{value}</Value></Header></NewHttpHeaders></HttpHeader>"


def _host(inner: str) -> str:
    return f"<HostInfo>{inner}</HostInfo>"


_PROVIDER = "<HostInfo><PrivateHost><Host>p.example</Host><CredentialProvider>{}</CredentialProvider></PrivateHost></HostInfo>"
_AUTH = "<MirrorAuth>{}</MirrorAuth>"
_EXTERNAL = {"kind": "External"}
_NEWS = [{"name": f"N{n}", "value": "v"} for n in range(11)]

#: id, document, kind, end of the path (empty: not looked at)
ROWS: list[tuple[str, str, str, str]] = [
    ("bad_xml-cut", "<OriginConfiguration><OriginRule>", "bad_xml", ""),
    ("bad_xml-root", "<OriginConfig></OriginConfig>", "bad_xml", "OriginConfig"),
    ("bad_xml-dtd", "<!DOCTYPE a><WebsiteConfiguration></WebsiteConfiguration>", "bad_xml", ""),
    ("bad_xml-entity", '<!DOCTYPE a [<!ENTITY x "y">]><WebsiteConfiguration>&x;</WebsiteConfiguration>', "bad_xml", ""),
    ("bad_xml-text", cos(extra="text"), "bad_xml", ""),
    ("bad_yaml", "rules: [", "bad_yaml", ""),
    ("unknown_element", cos(parameter="<Protokol>HTTP</Protokol>"), "unknown_element", "OriginParameter/Protokol"),
    ("unknown_element-oss", oss("<MirorURL>x</MirorURL>"), "unknown_element", "Redirect/MirorURL"),
    ("unknown_element-yaml", yml(whenn={}), "unknown_element", "rules[0].whenn"),
    ("missing_field-rules", "<OriginConfiguration></OriginConfiguration>", "missing_field", "OriginConfiguration"),
    ("missing_field-origin", cos(hosts=""), "missing_field", "OriginRule[1]/OriginInfo/HostInfo"),
    ("missing_field-website", "<WebsiteConfiguration></WebsiteConfiguration>", "missing_field", "WebsiteConfiguration"),
    ("missing_field-condition", "<WebsiteConfiguration><RoutingRules><RoutingRule><RuleNumber>1</RuleNumber><Redirect><RedirectType>Mirror</RedirectType><MirrorURL>http://o.example/</MirrorURL></Redirect></RoutingRule></RoutingRules></WebsiteConfiguration>", "missing_field", "RoutingRule[1]/Condition"),
    ("missing_field-url", oss(url=""), "missing_field", "Redirect/MirrorURL"),
    ("bad_value-bool", cos(parameter="<FollowRedirection>yes</FollowRedirection>"), "bad_value", "FollowRedirection"),
    ("bad_value-int", cos(priority="1.5"), "bad_value", "RulePriority"),
    ("conflict-twice-other-spelling", cos(parameter="<HttpHeader><ForbidFollowHttpHeaders></ForbidFollowHttpHeaders><ForbidFollowHeaders></ForbidFollowHeaders><ForbidFollowHeaders></ForbidFollowHeaders></HttpHeader>"), "conflict", "HttpHeader/ForbidFollowHeaders"),
    ("conflict-twice", cos(parameter="<Protocol>HTTP</Protocol><Protocol>HTTP</Protocol>"), "conflict", "OriginParameter/Protocol"),
    ("unsafe_origin-literal", cos(hosts=_host("<HostName>10.0.0.1</HostName>")), "unsafe_origin", "HostInfo[1]/HostName"),
    ("unsafe_origin-user", oss(url="http://u:p@o.example/"), "unsafe_origin", "Redirect/MirrorURL"),
    ("unsupported", oss(kind="Internal"), "unsupported", "RedirectType"),
    ("F1-name", yml(name="No_Good"), "bad_value", "name"),
    ("F1-unique", "rules: [{name: a, origins: [http://o.example]}, {name: a, prefix: x, origins: [http://o.example]}]", "bad_value", "rules[1].name"),
    ("F2-zero", cos(priority="0"), "bad_value", "RulePriority"),
    ("F2-large", cos(priority="2147483648"), "bad_value", "RulePriority"),
    ("F2-oss-absent", oss(number=""), "missing_field", "RoutingRule[1]/RuleNumber"),
    ("F3-other", cos(kind="mirror"), "bad_value", "OriginType"),
    ("F3-absent", "rules: [{origin: {hosts: [o.example]}}]", "missing_field", "rules[0].type"),
    ("F3-internal", oss(kind="Internal"), "unsupported", "Redirect/RedirectType"),
    ("F4-mirror", cos(condition="<HTTPStatusCode>500</HTTPStatusCode>"), "conflict", "HTTPStatusCode"),
    ("F4-redirect", cos(kind="Redirect", condition="<HTTPStatusCode>302</HTTPStatusCode>"), "bad_value", "HTTPStatusCode"),
    ("F4-mirror-any", yml(when={"status": "any"}), "conflict", "when.status"),
    ("F5", cos(condition=f"<Prefix>{'é' * 513}</Prefix>"), "bad_value", "OriginCondition/Prefix"),
    ("F6", cos(condition=f"<Suffix>{'a' * 1025}</Suffix>"), "bad_value", "OriginCondition/Suffix"),
    ("F7-two-tests", oss(condition="<IncludeHeader><Key>A</Key><Equals>1</Equals><EndsWith>1</EndsWith></IncludeHeader>"), "conflict", "IncludeHeader[1]"),
    ("F7-no-test", oss(condition="<IncludeHeader><Key>A</Key></IncludeHeader>"), "conflict", "IncludeHeader[1]"),
    ("F7-no-key", oss(condition="<IncludeHeader><Equals>1</Equals></IncludeHeader>"), "missing_field", "IncludeHeader[1]/Key"),
    ("F7-many", oss(condition="<IncludeHeader><Key>A</Key><Equals>1</Equals></IncludeHeader>" * 11), "too_many", ""),
    ("F8-many", yml(when={"hosts_allow": [f"h{n}.example" for n in range(101)]}), "too_many", "when.hosts_allow"),
    ("F8-port", yml(when={"hosts_deny": ["h.example:80"]}), "bad_value", "hosts_deny[0]"),
    ("F9", oss(extra=oss_rule(number="2").replace("</RoutingRule>", "<LuaConfig><Script>x.lua</Script></LuaConfig></RoutingRule>")), "unsupported", "LuaConfig/Script"),
    ("F10", cos(parameter="<Protocol>ftp</Protocol>"), "bad_value", "OriginParameter/Protocol"),
    ("F13-many-cos", cos(parameter=_list("FollowHttpHeaders", 51)), "too_many", "FollowHttpHeaders"),
    ("F13-many-oss", oss(f"<MirrorHeaders>{'<Pass>A</Pass>' * 11}</MirrorHeaders>"), "too_many", "MirrorHeaders"),
    ("F13-name", cos(parameter="<HttpHeader><FollowHttpHeaders><Header><Key>A B</Key></Header></FollowHttpHeaders></HttpHeader>"), "bad_value", "Header[1]"),
    ("F14-many", oss(f"<MirrorHeaders>{'<Remove>A</Remove>' * 11}</MirrorHeaders>"), "too_many", "MirrorHeaders"),
    ("F15-many", yml(request={"new": _NEWS}), "too_many", "request.new"),
    ("F15-long", cos(parameter=_new("A", "v" * 1025)), "bad_value", "Header[1]/Value"),
    ("F15-line", yml(request={"new": [{"name": "A", "value": "a\r\nb"}]}), "bad_value", "new[0].value"),
    ("F15-own", cos(parameter=_new("Range")), "conflict", "Header[1]/Key"),
    ("F20-slave", oss("<MirrorURLSlave>http://s.example/</MirrorURLSlave>"), "missing_field", "Redirect/MirrorURLProbe"),
    ("F20-scheme", oss("<MirrorURLProbe>ftp://o.example/</MirrorURLProbe>"), "bad_value", "MirrorURLProbe"),
    ("F21-many", cos(hosts=HOST * 11), "too_many", "OriginInfo"),
    ("F21-proxy", cos(kind="Proxy", hosts=HOST * 2), "conflict", "OriginInfo"),
    ("F21-scheme", cos(hosts=_host("<HostName>http://o.example</HostName>")), "bad_value", "HostName"),
    ("F21-path", cos(hosts=_host("<HostName>o.example/a</HostName>")), "bad_value", "HostName"),
    ("F21-user", cos(hosts=_host("<HostName>u@o.example</HostName>")), "bad_value", "HostName"),
    ("F21-empty", cos(hosts=_host("<HostName></HostName>")), "missing_field", "HostInfo[1]/HostName"),
    ("F21-number", cos(hosts=_host("<HostName>127.1</HostName>")), "bad_value", "HostName"),
    ("F22-zero", cos(hosts=_host("<HostName>o.example</HostName><Weight>0</Weight>")), "bad_value", "Weight"),
    ("F22-huge", cos(hosts=_host("<HostName>o.example</HostName><Weight>10001</Weight>")), "bad_value", "Weight"),
    ("F23-index", cos(hosts=_host("<HostName>o.example</HostName><StandbyHostName_11>b.example</StandbyHostName_11>")), "unknown_element", "StandbyHostName_11"),
    ("F23-many", yml(host={"host": "o.example", "standbys": [f"s{n}.example" for n in range(11)]}), "too_many", "standbys"),
    ("F24", cos(standby="<StatusCode>302</StatusCode>"), "bad_value", "StatusCode[1]"),
    ("F26-slash", oss(url="http://o.example/dir"), "bad_value", "MirrorURL"),
    ("F26-query", oss(url="http://o.example/dir/?a"), "bad_value", "MirrorURL"),
    ("F26-dots", oss(url="http://o.example/a/%2e%2e/"), "bad_value", "MirrorURL"),
    ("F27-role", cos(hosts=_PROVIDER.format("<Role>r</Role>")), "unsupported", "CredentialProvider/Role"),
    ("F27-type", oss(_AUTH.format("<AuthType>Role</AuthType>")), "unsupported", "MirrorAuth/AuthType"),
    ("F27-using-role", oss("<MirrorUsingRole>true</MirrorUsingRole>"), "unsupported", "MirrorUsingRole"),
    ("F27-mirror-role", oss("<MirrorRole>r</MirrorRole>"), "unsupported", "MirrorRole"),
    ("F28", oss("<MirrorAsyncStatus>199</MirrorAsyncStatus>"), "bad_value", "MirrorAsyncStatus"),
    ("F29-conflict", cos(files="<FixedFileConfiguration><FixedFilePath>x</FixedFilePath></FixedFileConfiguration><PrefixConfiguration><Prefix>a</Prefix></PrefixConfiguration>"), "conflict", "PrefixConfiguration/Prefix"),
    ("F29-long", yml(path={"fixed": "a" * 1025}), "bad_value", "path.fixed"),
    ("F30-both", cos(files="<PrefixConfiguration><Prefix>a</Prefix></PrefixConfiguration><Prefix>b</Prefix>"), "conflict", "Prefix"),
    ("F30-dots", yml(path={"add_prefix": "../"}), "bad_value", "path.add_prefix"),
    ("F31-with-key", oss("<ReplaceKeyWith>x</ReplaceKeyWith><ReplaceKeyPrefixWith>y</ReplaceKeyPrefixWith>"), "conflict", "ReplaceKeyPrefixWith"),
    ("F32-both", cos(files="<SuffixConfiguration><Suffix>a</Suffix></SuffixConfiguration><Suffix>b</Suffix>"), "conflict", "Suffix"),
    ("F33-from", cos(files="<SuffixConfiguration><ReplacedWithSuffix>b</ReplacedWithSuffix></SuffixConfiguration>"), "missing_field", "SuffixConfiguration/Suffix"),
    ("F34", oss("<ReplaceKeyWith>${bucket}/${key}</ReplaceKeyWith>"), "bad_value", "ReplaceKeyWith"),
    ("F37", oss("<TransparentMirrorResponseCodes>400;404</TransparentMirrorResponseCodes>"), "bad_value", "TransparentMirrorResponseCodes"),
    ("F37-range", yml(answer={"transparent": [302]}), "bad_value", "answer.transparent"),
    ("F38-other", cos(kind="Proxy", parameter="<HttpRedirectCode>308</HttpRedirectCode>"), "bad_value", "HttpRedirectCode"),
    ("F38-mirror", cos(parameter="<HttpRedirectCode>302</HttpRedirectCode>"), "conflict", "HttpRedirectCode"),
    ("F39", yml(answer={"proxy_reply": "retry"}), "conflict", "answer.proxy_reply"),
    ("F41-many", yml(answer={"return_headers": _NEWS}), "too_many", "return_headers"),
    ("F41-length", yml(answer={"return_headers": {"Content-Length": "1"}}), "bad_value", ""),
    ("F42", cos(kind="Proxy", parameter="<CopyOriginData>false</CopyOriginData>"), "conflict", "CopyOriginData"),
    ("F46-many", yml(store={"tags": {f"k{n}": "v" for n in range(11)}}), "too_many", "store.tags"),
    ("F46-value", yml(store={"tags": {"k": "<>"}}), "bad_value", ""),
    ("F48-image", oss("<MirrorAllowGetImageInfo>true</MirrorAllowGetImageInfo>"), "unsupported", "MirrorAllowGetImageInfo"),
    ("F48-video", oss("<MirrorAllowVideoSnapshot>true</MirrorAllowVideoSnapshot>"), "unsupported", "MirrorAllowVideoSnapshot"),
    ("F52-attempts", yml(origin={"max_attempts": 0}), "bad_value", "origin.max_attempts"),
    ("F52-timeout", yml(origin={"timeouts": {"idle": 0}}), "bad_value", "origin.timeouts.idle"),
    ("F53", yml(origin={"budget": {"concurrency": 0}}), "bad_value", "origin.budget.concurrency"),
    ("F53-unknown", yml(origin={"budget": {"concurency": 1}}), "unknown_element", "origin.budget.concurency"),
    ("F58", yml(store={"max_object_bytes": -1}), "bad_value", "store.max_object_bytes"),
    ("F60", yml(answer={"absent_ttl_s": -1}), "bad_value", "answer.absent_ttl_s"),
    ("L1", "<OriginConfiguration>" + cos_rule() * 101 + "</OriginConfiguration>", "too_many", "OriginConfiguration"),
    ("L2", cos(hosts=HOST * 11), "too_many", "OriginInfo"),
    ("L3", yml(host={"host": "o.example", "standbys": ["s.example"] * 11}), "too_many", "standbys"),
    ("L4", yml(request={"new": _NEWS}), "too_many", "request.new"),
    ("L5", yml(when={"headers": [{"name": "A", "equals": "b"}] * 11}), "too_many", "when.headers"),
    ("L6-name", cos(parameter=_new("a" * 1025)), "bad_value", "Key"),
    ("L6-value", cos(parameter=_new("a", "é" * 513)), "bad_value", "Value"),
    ("L7-xml", "<OriginConfiguration>" + " " * 1024 * 1024 + "</OriginConfiguration>", "too_large", ""),
    ("L7-yaml", "# " + "x" * 1024 * 1024, "too_large", ""),
    ("D9", oss("<HttpRedirectCode>302</HttpRedirectCode>"), "conflict", "HttpRedirectCode"),
    ("D14", oss("<EnableReplacePrefix>false</EnableReplacePrefix><ReplaceKeyPrefixWith>x</ReplaceKeyPrefixWith>"), "conflict", "ReplaceKeyPrefixWith"),
    ("D17", "<OriginConfiguration><OriginRule><OriginType>Mirror</OriginRule></OriginConfiguration>", "bad_xml", ""),
    ("D24-mixed", oss(extra="<RoutingRule><Condition></Condition><Redirect><HostName>o.example</HostName></Redirect></RoutingRule>"), "conflict", "RoutingRule[2]"),
    ("D24-code", s3("<HostName>o.example</HostName><HttpRedirectCode>309</HttpRedirectCode>"), "bad_value", "HttpRedirectCode"),
    ("D24-whole", "<WebsiteConfiguration><RedirectAllRequestsTo><HostName>o.example</HostName></RedirectAllRequestsTo></WebsiteConfiguration>", "unsupported", "RedirectAllRequestsTo"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "path"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_a_document_is_refused_with_kind_and_place(text: str, kind: str, path: str) -> None:
    found = problems(text)
    assert any(problem.kind.value == kind and problem.path.endswith(path) for problem in found), found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (cos(hosts=HOST * 11), "11 HostInfo; at most 10"),
        (cos(parameter=_list("FollowHttpHeaders", 51)), "51 Header; at most 50"),
        (cos(condition="<FilterHost>" + "<Domain>h.example</Domain>" * 101 + "</FilterHost>"), "101 Domain; no list has over 100"),
        (oss(f"<MirrorHeaders>{'<Pass>A</Pass>' * 11}</MirrorHeaders>"), "11 Pass; at most 10"),
        (oss(condition="<IncludeHeader><Key>A</Key><Equals>1</Equals></IncludeHeader>" * 11), "11 IncludeHeader; at most 10"),
        (cos(hosts=HOST * 2000), "2000 HostInfo; no list has over"),
    ],
)  # fmt: skip
def test_a_list_that_is_too_long_is_named(text: str, message: str) -> None:
    assert any(message in problem.message for problem in problems(text)), problems(text)


#: One mistake is one problem, at the path of what is wrong: id, document, kinds and ends of paths
EXACT: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("F3-internal-has-no-host", oss(kind="Internal", url=""), [("unsupported", "Redirect/RedirectType")]),
    ("F3-other-type", oss(kind="Bogus", url=""), [("bad_value", "Redirect/RedirectType")]),
    ("F3-other-type-yaml", yml(type="redirct", when={"status": "any"}), [("bad_value", "rules[0].type")]),
    ("F3-no-redirect", oss().partition("<Redirect>")[0] + "</RoutingRule></RoutingRules></WebsiteConfiguration>", [("missing_field", "RoutingRule[1]/Redirect")]),
    ("F3-no-type", oss(kind=""), [("missing_field", "Redirect/RedirectType")]),
    ("F15-no-key", cos(parameter="<HttpHeader><NewHttpHeaders><Header><Value>x</Value></Header></NewHttpHeaders></HttpHeader>"), [("missing_field", "NewHttpHeaders/Header[1]/Key")]),
    ("F15-no-name-yaml", yml(request={"new": [{"value": "x"}]}), [("missing_field", "rules[0].request.new[0].name")]),
    ("F21-no-origin", "<OriginConfiguration><OriginRule><OriginType>Mirror</OriginType></OriginRule></OriginConfiguration>", [("missing_field", "OriginRule[1]/OriginInfo")]),
    ("F21-no-hosts-yaml", "rules: [{type: mirror}]", [("missing_field", "rules[0].origin.hosts")]),
    ("F21-no-host-yaml", yml(host={"weight": 2}), [("missing_field", "rules[0].origin.hosts[0].host")]),
    ("F21-no-scheme", "rules: [{origins: [//o.example]}]", [("bad_value", "rules[0].origins[0]")]),
    ("F21-empty-origin", "rules: [{origins: ['']}]", [("bad_value", "rules[0].origins[0]")]),
    ("F22-second-rule", "<OriginConfiguration>" + cos_rule() + cos_rule(hosts=_host("<HostName>o.example</HostName><Weight>0</Weight>")) + "</OriginConfiguration>", [("bad_value", "OriginRule[2]/OriginInfo/HostInfo[1]/Weight")]),
    ("F27-unknown-key", oss(_AUTH.format("<AuthType>S3V4</AuthType><AccessKeyId>AK</AccessKeyId><AccessKeySecret>s</AccessKeySecret>")), [("bad_value", "MirrorAuth/AccessKeyId")]),
    ("F31-yaml-from", yml(path={"replace_prefix": {"to": "x"}}), [("missing_field", "rules[0].path.replace_prefix.from")]),
    ("F37-word", yml(answer={"transparent": "some"}), [("bad_value", "rules[0].answer.transparent")]),
    ("website-without-rules", "<WebsiteConfiguration><RoutingRules></RoutingRules></WebsiteConfiguration>", [("missing_field", "WebsiteConfiguration")]),
    ("yaml-empty", "", [("missing_field", "")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [e[1:] for e in EXACT], ids=[e[0] for e in EXACT])
def test_one_mistake_is_one_problem_at_its_own_path(text: str, expected: list[tuple[str, str]]) -> None:
    found = problems(text, ReadOptions(credentials={}))
    assert [problem.kind.value for problem in found] == [kind for kind, _ in expected]
    for problem, (_, path) in zip(found, expected, strict=True):
        assert problem.path.endswith(path), problem


def test_a_field_that_excludes_another_is_told_in_the_words_of_the_document() -> None:
    """F31: the author of an OSS document has never seen `path.fixed`."""
    text = oss("<ReplaceKeyWith>x</ReplaceKeyWith><ReplaceKeyPrefixWith>y</ReplaceKeyPrefixWith>")
    (problem,) = problems(text)
    assert problem.message.endswith("Redirect/ReplaceKeyWith")


CODES = [
    ("bad_xml", "<OriginConfiguration>", 400, "MalformedXML"),
    ("unknown_element", cos(parameter="<X></X>"), 400, "MalformedXML"),
    ("missing_field", cos(hosts=""), 400, "MalformedXML"),
    ("bad_value", cos(priority="0"), 400, "InvalidArgument"),
    ("too_many", cos(hosts=HOST * 11), 400, "InvalidArgument"),
    ("conflict", cos(kind="Proxy", hosts=HOST * 2), 400, "InvalidArgument"),
    ("unsafe_origin", cos(hosts=_host("<HostName>127.0.0.1</HostName>")), 400, "InvalidArgument"),
    ("unsupported", oss("<MirrorRole>r</MirrorRole>"), 501, "NotImplemented"),
    ("F3-internal", oss(kind="Internal", url=""), 501, "NotImplemented"),
    ("L7", "<OriginConfiguration>" + " " * 1024 * 1024, 400, "EntityTooLarge"),
]


@pytest.mark.parametrize(("text", "status", "code"), [c[1:] for c in CODES], ids=[c[0] for c in CODES])
def test_a_refusal_has_its_code_on_the_wire(text: str, status: int, code: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(text)
    assert (caught.value.http_status, caught.value.code) == (status, code)


def test_all_problems_come_at_once_with_lines_in_order() -> None:
    text = "<OriginConfiguration>\n<OriginRule>\n<OriginType>Nope</OriginType>\n<RulePriority>0</RulePriority>\n<OriginInfo>\n<HostInfo><HostName>a b</HostName>\n<Weight>0</Weight></HostInfo></OriginInfo></OriginRule></OriginConfiguration>"
    found = problems(text)
    assert [(problem.line, problem.path.rpartition("/")[2]) for problem in found] == [
        (3, "OriginType"),
        (4, "RulePriority"),
        (6, "HostName"),
        (7, "Weight"),
    ]


def test_at_most_twenty_problems_are_listed() -> None:
    text = "<OriginConfiguration>" + cos_rule(priority="0") * 30 + "</OriginConfiguration>"
    with pytest.raises(DocumentError) as caught:
        parse(text)
    assert len(caught.value.problems) == 20
    assert caught.value.more == 10
    assert str(caught.value).endswith("and 10 more")


def test_an_unknown_name_comes_with_the_nearest_known_one() -> None:
    (problem,) = problems(oss("<MirrorChekMd5>true</MirrorChekMd5>"))
    assert "did you mean MirrorCheckMd5?" in problem.message
    (problem,) = problems("rules:\n- prefx: a\n  origins: [http://o.example]\n")
    assert "did you mean 'prefix'?" in problem.message
    assert (problem.path, problem.line) == ("rules[0].prefx", 2)


def test_a_lenient_reading_only_warns_of_unknown_elements() -> None:
    _, warnings = parse(cos(parameter="<X></X>"), ReadOptions(strict=False))
    assert any("unknown element X" in warning.message for warning in warnings)


SAFE: list[tuple[str, str, dict[str, Any], bool]] = [
    ("api-loopback", "127.0.0.1", {}, False),
    ("file-loopback", "127.0.0.1:9000", {"owner": "file"}, True),
    ("file-private", "10.1.2.3", {"owner": "file"}, True),
    ("file-ula", "[fd12::1]", {"owner": "file"}, True),
    ("api-private-allowed", "10.1.2.3", {"allow_networks": ("10.0.0.0/8",)}, True),
    ("api-mapped", "[::ffff:10.0.0.1]", {}, False),
    ("api-nat64", "[64:ff9b::a00:1]", {}, False),
    ("file-link-local", "169.254.1.1", {"owner": "file"}, False),
    ("file-metadata", "169.254.169.254", {"owner": "file"}, False),
    ("file-metadata-alibaba", "100.100.100.200", {"owner": "file"}, False),
    ("metadata-allowed", "169.254.169.254", {"allow_networks": ("169.254.169.254/32",)}, True),
    ("file-multicast", "224.0.0.1", {"owner": "file"}, False),
    ("file-unspecified", "0.0.0.0", {"owner": "file"}, False),
    ("api-localhost", "localhost", {}, False),
    ("file-localhost", "localhost:9000", {"owner": "file"}, True),
    ("own-name", "CDN.example", {"public_hosts": ("cdn.example",), "owner": "file"}, False),
    ("public", "192.0.2.7", {}, True),
]


@pytest.mark.parametrize(
    ("host", "options", "taken"), [s[1:] for s in SAFE], ids=[f"B11-{s[0]}" for s in SAFE]
)
def test_a_literal_address_needs_to_be_allowed(host: str, options: dict[str, Any], taken: bool) -> None:
    text = yml(host=host)
    if taken:
        parse(text, ReadOptions(**options))
    else:
        assert [problem.kind.value for problem in problems(text, ReadOptions(**options))] == ["unsafe_origin"]


def test_an_unknown_credential_is_refused() -> None:
    """F27."""
    (problem,) = problems(
        yml(host={"host": "o.example", "credential": "nope"}), ReadOptions(credentials={"old": "AK"})
    )
    assert "not in origin.credentials (there: old)" in problem.message


def test_aliases_cannot_unfold_a_yaml_document_without_end() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    assert [problem.kind.value for problem in problems("\n".join(lines))] == ["too_large"]


def test_a_key_given_twice_in_yaml_is_a_conflict() -> None:
    (problem,) = problems("rules:\n- origins: [http://o.example]\n  prefix: a\n  prefix: b\n")
    assert (problem.kind.value, problem.line) == ("conflict", 4)
