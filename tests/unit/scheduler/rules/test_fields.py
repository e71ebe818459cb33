# ruff: noqa: E501 - a table reads best with one row a line
"""Every field of SEMANTICS.md 1.2: what each format's element means, and each format's default."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.rules.model import (
    Header,
    HeaderTest,
    HeaderTestKind,
    HostGroup,
    OriginHost,
    Replacement,
    RuleType,
)
from scheduler.rules.problems import ReadOptions
from support.rules.documents import HOST, cos, field, one, oss, parse, yml
from workers.plan import Timeouts
from workers.settings import BudgetSettings


def _host(name: str, **fields: Any) -> OriginHost:
    return OriginHost(host=name, **fields)


def _headers(tag: str, *names: str) -> str:
    items = "".join(f"<Header><Key>{name}</Key></Header>" for name in names)
    return f"<HttpHeader><{tag}>{items}</{tag}></HttpHeader>"


def _redirect(inner: str, **more: str) -> str:
    return oss(f"<HostName>o.example</HostName>{inner}", kind="External", **more)


_DOMAINS = "<{0}><DomainList><Domain>A.example</Domain><Domain>b.example</Domain></DomainList></{0}>"
_PRIVATE = (
    "<HostInfo><PrivateHost><Host>p.example</Host><CredentialProvider><SecretId>AK1</SecretId>"
    "<SecretKey>s3cret</SecretKey></CredentialProvider></PrivateHost></HostInfo>"
)
_AUTH = "<MirrorAuth><AuthType>S3V4</AuthType><AccessKeyId>AK1</AccessKeyId><AccessKeySecret>s3cret</AccessKeySecret></MirrorAuth>"
_ALTERNATES = (
    "<MirrorMultiAlternates>"
    "<MirrorMultiAlternate><MirrorMultiAlternateNumber>2</MirrorMultiAlternateNumber><MirrorMultiAlternateURL>http://c.example/</MirrorMultiAlternateURL></MirrorMultiAlternate>"
    "<MirrorMultiAlternate><MirrorMultiAlternateNumber>1</MirrorMultiAlternateNumber><MirrorMultiAlternateURL>https://b.example/x/</MirrorMultiAlternateURL></MirrorMultiAlternate>"
    "</MirrorMultiAlternates>"
)
_TEST = "<IncludeHeader><Key>X-A</Key><{0}>v</{0}></IncludeHeader>"
_CONDITION = (
    "<KeyPrefixEquals>p</KeyPrefixEquals><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals>"
)

#: id, document, canonical field, value
ROWS: list[tuple[str, str, str, Any]] = [
    ("F1-default", yml(), "name", "rule-1"),
    ("F1-yaml", yml(name="images"), "name", "images"),
    ("F2-cos", cos(priority=" 7 "), "priority", 7),
    ("F2-cos-default", cos(), "priority", None),
    ("F2-oss", oss(number="3"), "priority", 3),
    ("F2-yaml-default", yml(), "priority", None),
    ("F3-cos-mirror", cos(kind="Mirror"), "type", RuleType.MIRROR),
    ("F3-cos-proxy", cos(kind="Proxy"), "type", RuleType.PROXY),
    ("F3-cos-redirect", cos(kind="Redirect"), "type", RuleType.REDIRECT),
    ("F3-oss-mirror", oss(), "type", RuleType.MIRROR),
    ("F3-oss-external", _redirect(""), "type", RuleType.REDIRECT),
    ("F3-oss-alicdn", oss("<HostName>o.example</HostName>", kind="AliCDN"), "type", RuleType.REDIRECT),
    ("F4-cos", cos(kind="Redirect", condition="<HTTPStatusCode>503</HTTPStatusCode>"), "when.status", (503,)),
    ("F4-cos-default", cos(condition=""), "when.status", (404,)),
    ("F4-oss", _redirect("", condition="<HttpErrorCodeReturnedEquals>500</HttpErrorCodeReturnedEquals>"), "when.status", (500,)),
    ("F4-oss-redirect-any", _redirect("", condition=""), "when.status", ("any",)),
    ("F4-oss-mirror-default", oss(condition=""), "when.status", (404,)),
    ("F4-yaml", yml(type="redirect", when={"status": [404, "5xx", "any"]}), "when.status", (404, "5xx", "any")),
    ("F4-yaml-twice", yml(when={"status": [404, 404]}), "when.status", (404,)),
    ("F5-cos", cos(condition="<Prefix>img/</Prefix>"), "when.prefix", "img/"),
    ("F5-oss", oss(condition="<KeyPrefixEquals> a </KeyPrefixEquals>"), "when.prefix", " a "),
    ("F6-cos", cos(condition="<Suffix>.png</Suffix>"), "when.suffix", ".png"),
    ("F6-oss", oss(condition="<KeySuffixEquals>.png</KeySuffixEquals>"), "when.suffix", ".png"),
    ("F7-oss", oss(condition=_TEST.format("StartsWith")), "when.headers", (HeaderTest(name="X-A", kind=HeaderTestKind.STARTS_WITH, value="v"),)),
    ("F7-yaml-key", yml(when={"headers": [{"key": "X-A", "ends_with": "v"}]}), "when.headers", (HeaderTest(name="X-A", kind=HeaderTestKind.ENDS_WITH, value="v"),)),
    ("F15-yaml-key", yml(request={"new": [{"key": "A", "value": "b"}]}), "request.new", (Header(name="A", value="b"),)),
    ("F7-yaml", yml(when={"headers": [{"name": "X-A", "ends_with": "v"}]}), "when.headers", (HeaderTest(name="X-A", kind=HeaderTestKind.ENDS_WITH, value="v"),)),
    ("F8-cos-allow", cos(condition=_DOMAINS.format("FilterHost")), "when.hosts_allow", ("a.example", "b.example")),
    ("F8-cos-deny-flat", cos(condition="<ForbidHost><Domain>c.example</Domain></ForbidHost>"), "when.hosts_deny", ("c.example",)),
    ("F10-cos", cos(parameter="<Protocol>https</Protocol>"), "request.protocol", "https"),
    ("F10-yaml-any-case", yml(request={"protocol": "HTTPS"}), "request.protocol", "https"),
    ("F10-cos-default", cos(), "request.protocol", "follow"),
    ("F10-oss-mirror", oss(url="https://o.example/"), "request.protocol", "https"),
    ("F10-oss-redirect", _redirect("<Protocol>HTTPS</Protocol>"), "request.protocol", "https"),
    ("F10-oss-redirect-default", _redirect(""), "request.protocol", "follow"),
    ("F11-cos-default", cos(), "request.follow_query", True),
    ("F11-cos", cos(parameter="<FollowQueryString>False</FollowQueryString>"), "request.follow_query", False),
    ("F11-oss-default", oss(), "request.follow_query", False),
    ("F11-oss", oss("<PassQueryString>True</PassQueryString>"), "request.follow_query", True),
    ("F11-oss-mirror-wins", oss("<PassQueryString>true</PassQueryString><MirrorPassQueryString>false</MirrorPassQueryString>"), "request.follow_query", False),
    ("F11-yaml-default", yml(), "request.follow_query", False),
    ("F12-cos", cos(parameter="<HttpHeader><FollowAllHeaders>true</FollowAllHeaders></HttpHeader>"), "request.pass_all", True),
    ("F12-oss", oss("<MirrorHeaders><PassAll>true</PassAll></MirrorHeaders>"), "request.pass_all", True),
    ("F13-cos", cos(parameter=_headers("FollowHttpHeaders", "A", "B")), "request.pass_", ("A", "B")),
    ("F13-oss", oss("<MirrorHeaders><Pass>A</Pass><Pass>B</Pass></MirrorHeaders>"), "request.pass_", ("A", "B")),
    ("F14-cos", cos(parameter=_headers("ForbidFollowHeaders", "A")), "request.forbid", ("A",)),
    ("F14-cos-sdk", cos(parameter=_headers("ForbidFollowHttpHeaders", "A")), "request.forbid", ("A",)),
    ("F14-cos-both", cos(parameter="<HttpHeader><ForbidFollowHttpHeaders><Header><Key>A</Key></Header></ForbidFollowHttpHeaders><ForbidFollowHeaders><Header><Key>B</Key></Header></ForbidFollowHeaders></HttpHeader>"), "request.forbid", ("A", "B")),
    ("F14-oss", oss("<MirrorHeaders><Remove>A</Remove></MirrorHeaders>"), "request.forbid", ("A",)),
    ("F15-cos", cos(parameter="<HttpHeader><NewHttpHeaders><Header><Key>A</Key><Value>b</Value></Header></NewHttpHeaders></HttpHeader>"), "request.new", (Header(name="A", value="b"),)),
    ("F15-oss", oss("<MirrorHeaders><Set><Key>A</Key><Value>b</Value></Set></MirrorHeaders>"), "request.new", (Header(name="A", value="b"),)),
    ("F15-yaml-empty-value", yml(request={"new": [{"name": "A", "value": ""}]}), "request.new", (Header(name="A", value=""),)),
    ("F15-yaml-mapping", yml(request={"new": {"A": "b"}}), "request.new", (Header(name="A", value="b"),)),
    ("F16-cos-default", cos(), "request.follow_redirects", True),
    ("F16-cos", cos(parameter="<FollowRedirection>false</FollowRedirection>"), "request.follow_redirects", False),
    ("F16-oss", oss("<MirrorFollowRedirect>false</MirrorFollowRedirect>"), "request.follow_redirects", False),
    ("F17", cos(parameter="<FollowRedirectionConfiguration><FollowOriginHeaders>true</FollowOriginHeaders></FollowRedirectionConfiguration>"), "request.redirect_headers", True),
    ("F18", cos(parameter="<FollowRedirectionConfiguration><FollowUrlAutoDecode>true</FollowUrlAutoDecode></FollowRedirectionConfiguration>"), "request.redirect_decode", True),
    ("F19-default", oss(), "request.sni", True),
    ("F19", oss("<MirrorSNI>false</MirrorSNI>"), "request.sni", False),
    ("F20", oss("<MirrorURLProbe>http://o.example/alive</MirrorURLProbe>"), "request.probe_url", "http://o.example/alive"),
    ("F21-case-idna", yml(host="BÜcher.Example"), "origin.hosts[0].primary.host", "xn--bcher-kva.example"),
    ("F21-default-port", yml(host="o.example:443", request={"protocol": "https"}), "origin.hosts[0].primary.host", "o.example"),
    ("F21-port-of-follow", yml(host="o.example:443"), "origin.hosts[0].primary.host", "o.example:443"),
    ("F21-oss-redirect", _redirect(""), "origin.hosts[0].primary.host", "o.example"),
    ("F21-cos-two", cos(hosts=HOST + HOST.replace("o.", "p.")), "origin.hosts", (HostGroup(primary=_host("o.example")), HostGroup(primary=_host("p.example")))),
    ("F22-cos", cos(hosts="<HostInfo><HostName>o.example</HostName><Weight>4</Weight></HostInfo>"), "origin.hosts[0].weight", 4),
    ("F22-default", cos(), "origin.hosts[0].weight", 1),
    ("F22-yaml", yml(host={"host": "o.example", "weight": 8}), "origin.hosts[0].weight", 8),
    ("F23-cos-order", cos(hosts="<HostInfo><HostName>o.example</HostName><StandbyHostName_10>j.example</StandbyHostName_10><StandbyHostName_2>b.example</StandbyHostName_2></HostInfo>"), "origin.hosts[0].standbys", (_host("b.example"), _host("j.example"))),
    ("F23-oss-slave", oss("<MirrorURLSlave>http://s.example/</MirrorURLSlave><MirrorURLProbe>http://o.example/p</MirrorURLProbe>"), "origin.hosts[0].standbys", (_host("s.example"),)),
    ("F23-oss-alternates", oss(_ALTERNATES), "origin.hosts[0].standbys", (_host("b.example", base_path="/x/", scheme="https"), _host("c.example"))),
    ("F24", cos(standby="<StatusCode>404</StatusCode><StatusCode>403</StatusCode>"), "origin.switch_codes", (404, 403)),
    ("F25", oss("<MirrorSwitchAllErrors>true</MirrorSwitchAllErrors>"), "origin.switch_all", True),
    ("F26-oss", oss(url="http://o.example/d%20e/"), "origin.hosts[0].primary.base_path", "/d%20e/"),
    ("F26-yaml", yml(host={"host": "o.example", "base_path": "/d/"}), "origin.hosts[0].primary.base_path", "/d/"),
    ("F27-cos", cos(hosts=_PRIVATE), "origin.hosts[0].primary.credential", "AK1"),
    ("F27-oss", oss(_AUTH), "origin.hosts[0].primary.credential", "AK1"),
    ("F27-yaml", yml(host={"host": "o.example", "credential": "old"}), "origin.hosts[0].primary.credential", "old"),
    ("F28", oss("<MirrorAsyncStatus>303</MirrorAsyncStatus>"), "origin.async_status", 303),
    ("F29-cos", cos(files="<FixedFileConfiguration><FixedFilePath>/x y</FixedFilePath></FixedFileConfiguration>"), "path.fixed", "/x y"),
    ("F29-oss", oss("<ReplaceKeyWith>x</ReplaceKeyWith>"), "path.fixed", "x"),
    ("F30-cos", cos(files="<PrefixConfiguration><Prefix>a/</Prefix></PrefixConfiguration>"), "path.add_prefix", "a/"),
    ("F30-cos-legacy", cos(files="<PrefixDirective>true</PrefixDirective><Prefix>a/</Prefix>"), "path.add_prefix", "a/"),
    ("F31-cos", cos(files="<PrefixConfiguration><Prefix>a/</Prefix><ReplacedWithPrefix>b/</ReplacedWithPrefix></PrefixConfiguration>"), "path.replace_prefix", Replacement(old="a/", new="b/")),
    ("F31-oss", oss("<ReplaceKeyPrefixWith>b/</ReplaceKeyPrefixWith>", condition=_CONDITION), "path.replace_prefix", Replacement(old="p", new="b/")),
    ("F31-oss-cut", oss("<EnableReplacePrefix>true</EnableReplacePrefix>", condition=_CONDITION), "path.replace_prefix", Replacement(old="p", new="")),
    ("F31-oss-none", oss("<EnableReplacePrefix>false</EnableReplacePrefix>", condition=_CONDITION), "path.replace_prefix", None),
    ("F32-cos", cos(files="<SuffixConfiguration><Suffix>.b</Suffix></SuffixConfiguration>"), "path.add_suffix", ".b"),
    ("F32-cos-legacy", cos(files="<Suffix>.b</Suffix>"), "path.add_suffix", ".b"),
    ("F33", cos(files="<SuffixConfiguration><Suffix>.a</Suffix><ReplacedWithSuffix>.b</ReplacedWithSuffix></SuffixConfiguration>"), "path.replace_suffix", Replacement(old=".a", new=".b")),
    ("F34", oss("<ReplaceKeyWith>a/${key}</ReplaceKeyWith>"), "path.template", "a/${key}"),
    ("F35", oss("<MirrorPassOriginalSlashes>true</MirrorPassOriginalSlashes>"), "path.pass_original_slashes", True),
    ("F36", cos(files="<PrefixDirective>false</PrefixDirective><Prefix>a/</Prefix>"), "path.add_prefix", ""),
    ("F37-cos", cos(parameter="<TransparentErrorCode>true</TransparentErrorCode>"), "answer.transparent", "all"),
    ("F37-oss", oss("<TransparentMirrorResponseCodes>400,404</TransparentMirrorResponseCodes>"), "answer.transparent", (400, 404)),
    ("F37-yaml", yml(answer={"transparent": [410]}), "answer.transparent", (410,)),
    ("F38-cos", cos(kind="Proxy", parameter="<HttpRedirectCode>307</HttpRedirectCode>"), "answer.redirect_code", 307),
    ("F38-default", cos(kind="Proxy"), "answer.redirect_code", 302),
    ("F39", yml(type="proxy", answer={"proxy_reply": "retry"}), "answer.proxy_reply", "retry"),
    ("F40", oss("<MirrorAllowHeadObject>true</MirrorAllowHeadObject>"), "answer.allow_head", True),
    ("F41", oss("<MirrorReturnHeaders><ReturnHeader><Key>A</Key><Value>b</Value></ReturnHeader></MirrorReturnHeaders>"), "answer.return_headers", (Header(name="A", value="b"),)),
    ("F42-cos", cos(parameter="<CopyOriginData>false</CopyOriginData>"), "store.save", False),
    ("F42-oss", oss("<MirrorProxyPass>true</MirrorProxyPass>"), "store.save", False),
    ("F43-oss", oss("<MirrorCheckMd5>True</MirrorCheckMd5>"), "store.check_md5", "stream"),
    ("F43-yaml", yml(store={"check_md5": "spool"}), "store.check_md5", "spool"),
    ("F43-yaml-off", "rules: [{type: mirror, origin: {hosts: [o.example]}, store: {check_md5: false, tag: off, soft_404: off}}]", "store.check_md5", "off"),
    ("F44-cos-default", cos(), "store.user_meta", True),
    ("F44-oss-default", oss(), "store.user_meta", False),
    ("F44-oss", oss("<MirrorSaveOssMeta>true</MirrorSaveOssMeta>"), "store.user_meta", True),
    ("F44-yaml-default", yml(), "store.user_meta", True),
    ("F45", oss("<MirrorUserLastModified>true</MirrorUserLastModified>"), "store.last_modified", True),
    ("F45-cos-default", cos(), "store.last_modified", False),
    ("F45-oss-default", oss(), "store.last_modified", False),
    ("F45-yaml-default", yml(), "store.last_modified", True),
    ("F45-short-default", "rules: [{origins: [http://o.example]}]", "store.last_modified", True),
    ("F45-yaml-off", yml(store={"last_modified": False}), "store.last_modified", False),
    ("F61-default", yml(), "store.private", False),
    ("F61", yml(store={"private": True}), "store.private", True),
    ("F62-cos-default", cos(), "store.etag", "store"),
    ("F62-oss-default", oss(), "store.etag", "store"),
    ("F62-yaml-default", yml(), "store.etag", "origin"),
    ("F62", yml(store={"etag": "store"}), "store.etag", "store"),
    ("F46-oss", oss("<MirrorTaggings><Taggings><Key>k</Key><Value>v</Value></Taggings></MirrorTaggings>"), "store.tags", (("k", "v"),)),
    ("F46-yaml", yml(store={"tags": {"k": "v"}}), "store.tags", (("k", "v"),)),
    ("F47", yml(store={"tag": "plain"}), "store.tag", "plain"),
    ("F47-default", yml(), "store.tag", "encoded"),
    ("F47-bare-off", "rules: [{type: mirror, origin: {hosts: [o.example]}, store: {tag: off}}]", "store.tag", "off"),
    ("F51", yml(origin={"across_groups": True}), "origin.across_groups", True),
    ("F52-attempts", yml(origin={"max_attempts": 2}), "origin.max_attempts", 2),
    ("F52-default", yml(), "origin.max_attempts", 4),
    ("F52-timeouts", yml(origin={"timeouts": {"connect": 1, "first_byte": 2.5, "idle": 3, "total": 9}}), "origin.timeouts", Timeouts(connect_s=1, first_byte_s=2.5, idle_s=3, total_s=9)),
    ("F53", yml(origin={"budget": {"concurrency": 3, "requests_per_s": 5}}), "origin.budget", BudgetSettings(concurrency=3, requests_per_s=5)),
    ("F54", yml(origin={"trust_etag_md5": True}), "origin.trust_etag_md5", True),
    ("F55", yml(request={"follow_fallback": "https"}), "request.follow_fallback", "https"),
    ("F56", yml(request={"allow_downgrade": True}), "request.allow_downgrade", True),
    ("F57", yml(store={"accept_close_delimited": True}), "store.accept_close_delimited", True),
    ("F58", yml(store={"max_object_bytes": 10}), "store.max_object_bytes", 10),
    ("F59", yml(store={"soft_404": "learn"}), "store.soft_404", "learn"),
    ("F60", yml(answer={"absent_ttl_s": 60}), "answer.absent_ttl_s", 60.0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "value"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_an_element_means_its_field(text: str, path: str, value: Any) -> None:
    assert field(one(text), path) == value


#: id, document, a part of the warning, path of the element
WARNED = [
    ("F19", oss("<MirrorSNI>false</MirrorSNI>"), "host name in TLS", "Redirect/MirrorSNI"),
    ("F22", cos(hosts="<HostInfo><HostName>o.example</HostName><Weight>101</Weight></HostInfo>"), "1 to 100", "HostInfo[1]/Weight"),
    ("F24", cos(standby="<StatusCode>502</StatusCode>"), "5xx always switches", "HTTPStandbyCode/StatusCode[1]"),
    ("F36", cos(files="<PrefixDirective>false</PrefixDirective><Prefix>a/</Prefix>"), "ignored", "FileInfo/PrefixDirective"),
    ("F49", oss("<MirrorTunnelId>t</MirrorTunnelId>"), "ignored", "Redirect/MirrorTunnelId"),
    ("F50", oss(top="<IndexDocument><Suffix>i.html</Suffix></IndexDocument>"), "ignored", "IndexDocument"),
    ("H4", cos(parameter=_headers("FollowHttpHeaders", "Authorization")), "never reaches", "FollowHttpHeaders/Header[1]"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "path"), [r[1:] for r in WARNED], ids=[r[0] for r in WARNED])
def test_a_doubtful_element_is_taken_with_a_warning(text: str, message: str, path: str) -> None:
    _, warnings = parse(text)
    assert any(message in warning.message and warning.path.endswith(path) for warning in warnings), warnings


def test_a_credential_is_found_by_its_key_id_and_the_secret_is_not_kept() -> None:
    """F27: the configuration's credential is used, whatever the document carries."""
    options = ReadOptions(credentials={"old": "AK1"})
    for text in (cos(hosts=_PRIVATE), oss(_AUTH)):
        ruleset, warnings = parse(text, options)
        assert ruleset.rules[0].origin.hosts[0].primary.credential == "old"
        assert "s3cret" not in repr(ruleset.rules[0].written)
        assert any("not kept" in warning.message for warning in warnings)


def test_the_short_form_reads_urls() -> None:
    """The form of config.yaml: protocol from the scheme, base path from the path."""
    rule = one(
        "rules: [{prefix: img/, origins: [{url: 'https://old.example.com/d/', weight: 3}, 'http://b.example'], standbys: [s.example]}]"
    )
    assert rule.type is RuleType.MIRROR
    assert rule.when.prefix == "img/"
    assert rule.request.protocol == "https"
    assert rule.origin.hosts == (
        HostGroup(
            primary=_host("old.example.com", base_path="/d/"), weight=3, standbys=(_host("s.example"),)
        ),
        HostGroup(primary=_host("b.example", scheme="http"), standbys=(_host("s.example"),)),
    )


def test_the_sample_of_section_1_is_taken() -> None:
    text = """
buckets:
  examplebucket-1250000000:
    rules:
      - name: images
        priority: 10
        type: mirror
        when:    { status: [404], prefix: "img/", suffix: "", headers: [], hosts_allow: [], hosts_deny: [] }
        request: { protocol: follow, follow_query: false, pass_all: false, pass: [], forbid: [], new: [] }
        path:    { add_prefix: "", add_suffix: "" }
        origin:
          hosts: [ { host: a.example, weight: 8, standbys: [b.example] }, { host: c.example, weight: 2 } ]
          switch_codes: [403]
        answer:  { transparent: none, redirect_code: 302, allow_head: false }
        store:   { save: true, check_md5: false, tag: encoded }
"""
    rule = one(text)
    assert (rule.name, rule.priority, rule.origin.switch_codes) == ("images", 10, (403,))
    assert [group.weight for group in rule.origin.hosts] == [8, 2]
