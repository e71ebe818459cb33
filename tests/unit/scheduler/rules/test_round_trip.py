# ruff: noqa: E501 - a table reads best with one row a line
"""A GET returns what was PUT: section 9 of SEMANTICS.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.rules.cos import xml as cos_xml
from scheduler.rules.oss import xml as oss_xml
from scheduler.rules.problems import NotExpressible, ReadOptions
from scheduler.rules.xml_tree import normalise
from scheduler.rules.yaml import document
from support.rules.documents import cos, oss, parse, s3, yml

DATA = Path(__file__).parents[3] / "data" / "rules"
BUCKET_HOST = "examplebucket-1250000000.cos.ap-shanghai.myqcloud.com"


def test_the_sample_of_the_cos_page_is_returned_as_it_was_put() -> None:
    """W-seed: also with the origin's host equal to the request's Host, which is a warning."""
    text = (DATA / "cos_sample.xml").read_text(encoding="utf-8")
    ruleset, warnings = cos_xml.parse(text, ReadOptions(request_host=BUCKET_HOST))
    assert cos_xml.render(ruleset) == normalise(text)
    assert any("host of this request" in warning.message for warning in warnings)


def test_the_structure_of_the_cos_page_is_returned_as_it_was_put() -> None:
    """Every element of the page's structure, with values in place of the types."""
    text = (DATA / "cos_structure.xml").read_text(encoding="utf-8")
    ruleset, _ = cos_xml.parse(text)
    assert cos_xml.render(ruleset) == normalise(text)
    assert [len(group.standbys) for group in ruleset.rules[0].origin.hosts] == [2, 2]


def test_an_oss_document_with_every_known_element_is_returned_as_it_was_put() -> None:
    """F49 and F50 are kept although they have no effect."""
    text = (DATA / "oss_full.xml").read_text(encoding="utf-8")
    ruleset, _ = oss_xml.parse(text)
    assert oss_xml.render(ruleset) == normalise(text)


#: id, what was put, a part of what is got
KEPT = [
    ("empty-element", cos(condition="<Prefix/>"), "<OriginCondition><Prefix></Prefix></OriginCondition>"),
    ("boolean-lower", cos(parameter="<FollowRedirection>True</FollowRedirection>"), "<FollowRedirection>true</FollowRedirection>"),
    ("no-defaults", cos(condition=""), "<OriginType>Mirror</OriginType><OriginCondition></OriginCondition><OriginInfo>"),
    ("order", "<OriginConfiguration><OriginRule><OriginInfo><HostInfo><Weight>2</Weight><HostName>o.example</HostName></HostInfo></OriginInfo><OriginType>Mirror</OriginType><RulePriority>1</RulePriority></OriginRule></OriginConfiguration>", "<OriginRule><RulePriority>1</RulePriority><OriginType>Mirror</OriginType><OriginInfo><HostInfo><HostName>o.example</HostName><Weight>2</Weight>"),
    ("comment", cos(parameter="<!-- c --><Protocol>HTTP</Protocol>"), "<OriginParameter><Protocol>HTTP</Protocol></OriginParameter>"),
    ("xmlns", oss().replace("<WebsiteConfiguration>", '<WebsiteConfiguration xmlns="http://x">'), "<WebsiteConfiguration><RoutingRules>"),
    ("standby-gap", cos(hosts="<HostInfo><HostName>o.example</HostName><StandbyHostName_7>b.example</StandbyHostName_7></HostInfo>"), "<StandbyHostName_7>b.example</StandbyHostName_7>"),
    ("D16", cos(parameter="<HttpHeader><ForbidFollowHttpHeaders><Header><Key>A</Key></Header></ForbidFollowHttpHeaders></HttpHeader>"), "<ForbidFollowHeaders><Header><Key>A</Key></Header></ForbidFollowHeaders>"),
    ("F27-mask", oss("<MirrorAuth><AuthType>S3V4</AuthType><AccessKeyId>AK</AccessKeyId><AccessKeySecret>s</AccessKeySecret></MirrorAuth>"), "<AccessKeyId>AK</AccessKeyId><AccessKeySecret>***</AccessKeySecret>"),
    ("F36", cos(files="<PrefixDirective>true</PrefixDirective><Prefix>a/</Prefix>"), "<FileInfo><PrefixDirective>true</PrefixDirective><Prefix>a/</Prefix></FileInfo>"),
    ("F49", oss("<MirrorDstRegion>r</MirrorDstRegion>"), "<MirrorDstRegion>r</MirrorDstRegion>"),
    ("F50", oss(top="<ErrorDocument><Key>e.html</Key></ErrorDocument><IndexDocument><Suffix>i.html</Suffix></IndexDocument>"), "<IndexDocument><Suffix>i.html</Suffix></IndexDocument><ErrorDocument><Key>e.html</Key></ErrorDocument><RoutingRules>"),
    ("alicdn", oss("<HostName>o.example</HostName>", kind="AliCDN"), "<RedirectType>AliCDN</RedirectType>"),
    ("condition-always", oss("<HostName>o.example</HostName>", kind="External", condition=""), "<Condition><KeyPrefixEquals></KeyPrefixEquals><HttpErrorCodeReturnedEquals></HttpErrorCodeReturnedEquals></Condition>"),
    ("condition-of-a-mirror", oss(condition=""), "<Condition><KeyPrefixEquals></KeyPrefixEquals><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals></Condition>"),
    ("condition-empty", oss(condition="<KeyPrefixEquals>a</KeyPrefixEquals><HttpErrorCodeReturnedEquals></HttpErrorCodeReturnedEquals>"), "<Condition><KeyPrefixEquals>a</KeyPrefixEquals><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals></Condition>"),
    ("D16-both", cos(parameter="<HttpHeader><ForbidFollowHttpHeaders><Header><Key>A</Key></Header></ForbidFollowHttpHeaders><ForbidFollowHeaders><Header><Key>B</Key></Header></ForbidFollowHeaders></HttpHeader>"), "<ForbidFollowHeaders><Header><Key>A</Key></Header><Header><Key>B</Key></Header></ForbidFollowHeaders>"),
    ("D24", s3(), "<RoutingRule><Redirect><HostName>o.example</HostName></Redirect></RoutingRule>"),
    ("D24-condition", s3(condition="<KeyPrefixEquals>d/</KeyPrefixEquals>"), "<Condition><KeyPrefixEquals>d/</KeyPrefixEquals></Condition>"),
    ("index-only", "<WebsiteConfiguration><IndexDocument><Suffix>i</Suffix></IndexDocument></WebsiteConfiguration>", "<WebsiteConfiguration><IndexDocument><Suffix>i</Suffix></IndexDocument></WebsiteConfiguration>"),
    ("significant-space", cos(condition="<Prefix> a </Prefix>"), "<Prefix> a </Prefix>"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "part"), [k[1:] for k in KEPT], ids=[k[0] for k in KEPT])
def test_a_get_shows_what_was_written_in_the_one_spelling(text: str, part: str) -> None:
    ruleset, _ = parse(text)
    codec = cos_xml if "<OriginConfiguration>" in text else oss_xml
    got = codec.render(ruleset)
    assert got.startswith('<?xml version="1.0" encoding="UTF-8"?><')
    assert part in got
    assert codec.render(parse(got)[0]) == got


def test_indented_xml_reads_the_same() -> None:
    ruleset, _ = oss_xml.parse((DATA / "oss_full.xml").read_text(encoding="utf-8"))
    assert oss_xml.parse(oss_xml.render(ruleset, indent=2))[0].rules == ruleset.rules


def test_a_rule_that_was_changed_is_written_anew() -> None:
    ruleset, _ = cos_xml.parse(cos(priority="1"))
    changed = replace(ruleset, rules=(replace(ruleset.rules[0], priority=9),))
    text = cos_xml.render(changed)
    assert "<RulePriority>9</RulePriority>" in text
    assert cos_xml.parse(text)[0].rules[0].priority == 9


#: id, document, target, fields that are named
LOST = [
    ("W12-proxy", cos(kind="Proxy"), "oss", ["rule-1: type"]),
    ("W12-follow", cos(), "oss", ["rule-1: request.protocol"]),
    ("W12-many-hosts", cos(parameter="<Protocol>HTTP</Protocol>", hosts="<HostInfo><HostName>a.example</HostName></HostInfo><HostInfo><HostName>b.example</HostName></HostInfo>"), "oss", ["rule-1: origin.hosts"]),
    ("W12-oss-meta", oss("<MirrorAllowHeadObject>true</MirrorAllowHeadObject>"), "cos", ["rule-1: answer.allow_head", "rule-1: store.user_meta"]),
    ("W12-website", oss("<MirrorSaveOssMeta>true</MirrorSaveOssMeta>", top="<IndexDocument><Suffix>i</Suffix></IndexDocument>"), "cos", ["IndexDocument"]),
    ("F51-cos", yml(origin={"across_groups": True}), "cos", ["rule-1: origin.across_groups"]),
    ("F52-cos", yml(origin={"max_attempts": 2, "timeouts": {"idle": 1}}), "cos", ["rule-1: origin.max_attempts", "rule-1: origin.timeouts"]),
    ("F53-cos", yml(origin={"budget": {"concurrency": 1}}), "cos", ["rule-1: origin.budget"]),
    ("F54-F57-cos", yml(origin={"trust_etag_md5": True}, store={"accept_close_delimited": True}), "cos", ["rule-1: origin.trust_etag_md5", "rule-1: store.accept_close_delimited"]),
    ("F63-cos", yml(origin={"hosts": [{"host": "o.example", "credential": "c"}], "write_back": "async"}), "cos", ["rule-1: origin.write_back"]),
    ("F55-F56-cos", yml(request={"follow_fallback": "https", "allow_downgrade": True}), "cos", ["rule-1: request.allow_downgrade", "rule-1: request.follow_fallback"]),
    ("F58-F59-F60-oss", yml(request={"protocol": "http"}, store={"max_object_bytes": 1, "soft_404": "learn"}, answer={"absent_ttl_s": 1}), "oss", ["rule-1: answer.absent_ttl_s", "rule-1: store.max_object_bytes", "rule-1: store.soft_404"]),
    ("F45-cos", yml(store={"etag": "store"}), "cos", ["rule-1: store.last_modified"]),
    ("F61-cos", yml(store={"private": True}), "cos", ["rule-1: store.private"]),
    ("F61-oss", yml(request={"protocol": "http"}, store={"private": True}), "oss", ["rule-1: store.private"]),
    ("F62-cos", yml(store={"last_modified": False}), "cos", ["rule-1: store.etag"]),
    ("F39-F47-cos", yml(type="proxy", answer={"proxy_reply": "retry"}, store={"tag": "plain"}), "cos", ["rule-1: answer.proxy_reply", "rule-1: store.tag"]),
    ("F29-empty-cos", yml(path={"fixed": ""}), "cos", ["rule-1: path.fixed"]),
    ("F29-empty-oss", yml(request={"protocol": "http"}, path={"fixed": ""}), "oss", ["rule-1: path.fixed"]),
    ("D24-yaml", s3("<HostName>o.example</HostName><HttpRedirectCode>308</HttpRedirectCode>"), "yaml", ["rule-1: answer.redirect_code"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "target", "fields"), [row[1:] for row in LOST], ids=[row[0] for row in LOST]
)
def test_what_a_format_cannot_say_is_named_and_never_dropped(
    text: str, target: str, fields: list[str]
) -> None:
    """W12: never a partial answer; `lossy` is for people who have read the list."""
    ruleset, _ = parse(text)
    codec = {"cos": cos_xml, "oss": oss_xml, "yaml": document}[target]
    with pytest.raises(NotExpressible) as caught:
        codec.render(ruleset)
    assert sorted(caught.value.fields) == sorted(fields)
    assert codec.losses(ruleset) == list(caught.value.fields)
    assert codec.render(ruleset, lossy=True)


TRANSLATED = [
    ("F45-F62-yaml-that-says-nothing-to-cos", yml(), "cos", "<OriginRule>"),
    ("F45-F62-yaml-that-says-nothing-to-oss", yml(request={"protocol": "http"}), "oss", "<MirrorUserLastModified>true</MirrorUserLastModified>"),
    ("oss-path-to-cos", oss("<MirrorSaveOssMeta>true</MirrorSaveOssMeta>", url="http://o.example/d%20e/"), "cos", "<PrefixConfiguration><Prefix>d e/</Prefix></PrefixConfiguration>"),
    ("oss-path-and-prefix-to-cos", oss("<MirrorSaveOssMeta>true</MirrorSaveOssMeta><ReplaceKeyPrefixWith>b/</ReplaceKeyPrefixWith>", url="http://o.example/d/", condition="<KeyPrefixEquals>a/</KeyPrefixEquals>"), "cos", "<Prefix>a/</Prefix><ReplacedWithPrefix>d/b/</ReplacedWithPrefix>"),
    ("oss-template-to-cos", oss("<MirrorSaveOssMeta>true</MirrorSaveOssMeta><ReplaceKeyWith>a/${key}.b</ReplaceKeyWith>", url="http://o.example/d/"), "cos", "<PrefixConfiguration><Prefix>d/a/</Prefix></PrefixConfiguration><SuffixConfiguration><Suffix>.b</Suffix></SuffixConfiguration>"),
    ("yaml-constant-template-to-cos", yml(path={"template": "/e.png"}), "cos", "<FixedFilePath>/e.png</FixedFilePath>"),
    ("cos-prefix-to-oss", cos(parameter="<Protocol>HTTP</Protocol>", files="<PrefixConfiguration><Prefix>a/</Prefix></PrefixConfiguration><SuffixConfiguration><Suffix>.b</Suffix></SuffixConfiguration>"), "oss", "<ReplaceKeyWith>a/${key}.b</ReplaceKeyWith>"),
    ("priorities-are-numbered", cos(parameter="<Protocol>HTTP</Protocol>", extra=""), "oss", "<RuleNumber>1</RuleNumber>"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "target", "part"), [row[1:] for row in TRANSLATED], ids=[row[0] for row in TRANSLATED]
)
def test_a_set_of_the_other_format_is_translated_when_it_can_be_said(
    text: str, target: str, part: str
) -> None:
    """W12."""
    ruleset, _ = parse(text)
    assert part in {"cos": cos_xml, "oss": oss_xml}[target].render(ruleset)
