# ruff: noqa: E501 - a table reads best with one row a line
"""Where the vendors disagree: the rows of SEMANTICS.md section 10 that concern rules and documents."""

from __future__ import annotations

from scheduler.rules.matching import RequestFacts, match, ordered
from scheduler.rules.model import HeaderTestKind, RuleType, SourceFormat
from scheduler.rules.oss import xml as oss_xml
from scheduler.rules.planning import plan
from scheduler.rules.problems import ReadOptions
from support.rules.documents import cos, cos_rule, one, oss, parse, s3, yml

HOST = "<HostName>o.example</HostName>"


def test_d1_the_tag_is_encoded_unless_the_rule_says_otherwise() -> None:
    """D1."""
    assert one(yml()).store.tag == one(oss()).store.tag == one(cos()).store.tag == "encoded"


def test_d2_cos_rules_go_by_rising_number_then_by_document() -> None:
    """D2."""
    text = f"<OriginConfiguration>{cos_rule()}{cos_rule(priority='2')}{cos_rule(priority='1')}</OriginConfiguration>"
    assert [rule.name for rule in ordered(parse(text)[0])] == ["rule-3", "rule-2", "rule-1"]


def test_d3_each_format_keeps_its_own_default_for_the_query() -> None:
    """D3."""
    assert [one(text).request.follow_query for text in (cos(), oss(), yml())] == [True, False, False]


def test_d4_no_header_is_passed_unless_listed() -> None:
    """D4."""
    for text in (cos(), oss(), yml()):
        ruleset, _ = parse(text)
        facts = RequestFacts(key="k", headers=(("Accept", "x"),))
        assert plan(ruleset.rules[0], ruleset, "b", facts)[0].headers == ()


def test_d8_transparent_is_none_all_or_a_list() -> None:
    """D7 and D8: the origin's status reaches the client only where asked for."""
    assert one(cos()).answer.transparent == "none"
    assert one(cos(parameter="<TransparentErrorCode>true</TransparentErrorCode>")).answer.transparent == "all"


def test_d9_a_redirect_code_with_mirror_is_ignored_where_configured() -> None:
    """D9: a warning instead of the refusal."""
    options = ReadOptions(redirect_code_with_mirror=True)
    texts = (
        cos(parameter="<HttpRedirectCode>301</HttpRedirectCode>"),
        oss("<HttpRedirectCode>301</HttpRedirectCode>"),
    )
    for text in texts:
        ruleset, warnings = parse(text, options)
        assert ruleset.rules[0].answer.redirect_code == 302
        assert any("ignored" in warning.message for warning in warnings)


def test_d10_a_proxy_miss_is_redirected_by_default() -> None:
    """D10."""
    assert one(cos(kind="Proxy")).answer.proxy_reply == "redirect"


def test_d12_set_headers_go_to_the_origin_and_return_headers_to_the_client() -> None:
    """D12."""
    rule = one(
        oss(
            "<MirrorHeaders><Set><Key>a</Key><Value>1</Value></Set></MirrorHeaders>"
            "<MirrorReturnHeaders><ReturnHeader><Key>b</Key><Value>2</Value></ReturnHeader></MirrorReturnHeaders>"
        )
    )
    assert [header.name for header in rule.request.new] == ["a"]
    assert [header.name for header in rule.answer.return_headers] == ["b"]


def test_d14_replacing_cutting_and_leaving_the_prefix() -> None:
    """D14; the refusal stands in test_refusals.py."""
    condition = "<KeyPrefixEquals>a/</KeyPrefixEquals>"
    new = "<ReplaceKeyPrefixWith>b/</ReplaceKeyPrefixWith>"
    replaced = one(oss(new, condition=condition)).path.replace_prefix
    cut = one(oss("<EnableReplacePrefix>true</EnableReplacePrefix>", condition=condition)).path.replace_prefix
    assert replaced is not None
    assert replaced.new == "b/"
    assert cut is not None
    assert cut.new == ""
    assert one(oss(condition=condition)).path.replace_prefix is None


def test_d15_head_is_off() -> None:
    """D15."""
    assert not one(oss()).answer.allow_head


def test_d16_both_names_of_forbidden_headers_are_read() -> None:
    """D16."""
    for name in ("ForbidFollowHeaders", "ForbidFollowHttpHeaders"):
        text = cos(parameter=f"<HttpHeader><{name}><Header><Key>A</Key></Header></{name}></HttpHeader>")
        assert one(text).request.forbid == ("A",)


def test_d17_standbys_and_file_info_are_optional() -> None:
    """D17."""
    rule = one(cos())
    assert rule.origin.hosts[0].standbys == ()
    assert not rule.path.rewrites


def test_d18_more_rules_than_the_vendor_takes_are_a_warning() -> None:
    """D18, L1."""
    extra = "".join(
        f"<RoutingRule><RuleNumber>{n}</RuleNumber><Condition><KeyPrefixEquals>p{n}</KeyPrefixEquals></Condition>"
        f"<Redirect><RedirectType>External</RedirectType>{HOST}</Redirect></RoutingRule>"
        for n in range(2, 22)
    )
    _, warnings = parse(oss(extra=extra))
    assert {"21 rules; OSS takes 5", "21 rules; OSS takes 20"} <= {warning.message for warning in warnings}


def test_d21_any_legal_header_name_is_literal() -> None:
    """D21, H8."""
    header = "<Header><Key>{}</Key><Value>v</Value></Header>"
    names = ["Content-Type", "x-cos-ContentType", "X_Odd.Name"]
    inner = "".join(header.format(name) for name in names)
    rule = one(cos(parameter=f"<HttpHeader><NewHttpHeaders>{inner}</NewHttpHeaders></HttpHeader>"))
    assert [found.name for found in rule.request.new] == names


def test_d22_a_proxy_may_answer_301() -> None:
    """D22."""
    rule = one(cos(kind="Proxy", parameter="<HttpRedirectCode>301</HttpRedirectCode>"))
    assert rule.answer.redirect_code == 301


def test_d23_the_digest_is_checked_whether_or_not_redirects_are_followed() -> None:
    """D23."""
    text = oss("<MirrorFollowRedirect>false</MirrorFollowRedirect><MirrorCheckMd5>true</MirrorCheckMd5>")
    assert one(text).store.check_md5 == "stream"


def test_d24_a_document_without_numbers_and_types_is_the_dialect_of_s3() -> None:
    """D24."""
    text = s3("<HostName>o.example</HostName><HttpRedirectCode>308</HttpRedirectCode>")
    ruleset, _ = oss_xml.parse(text)
    (rule,) = ruleset.rules
    assert ruleset.source is SourceFormat.S3
    assert (rule.type, rule.answer.redirect_code, rule.when.status) == (RuleType.REDIRECT, 308, ("any",))
    assert one(s3()).answer.redirect_code == 301
    assert match(ruleset, RequestFacts(key="k", status=None)) == rule


def test_a_header_test_knows_its_three_kinds() -> None:
    """F7."""
    tags = {
        "Equals": HeaderTestKind.EQUALS,
        "StartsWith": HeaderTestKind.STARTS_WITH,
        "EndsWith": HeaderTestKind.ENDS_WITH,
    }
    for tag, kind in tags.items():
        text = oss(condition=f"<IncludeHeader><Key>a</Key><{tag}>v</{tag}></IncludeHeader>")
        assert one(text).when.headers[0].kind is kind
    values = {kind: [test for test in ("v", "vx", "xv") if _holds(kind, test)] for kind in HeaderTestKind}
    assert list(values.values()) == [["v"], ["v", "vx"], ["v", "xv"]]


def _holds(kind: HeaderTestKind, value: str) -> bool:
    from scheduler.rules.model import HeaderTest

    return HeaderTest(name="a", kind=kind, value="v").holds(value)
