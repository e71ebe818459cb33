"""Rule documents through the vendors' own SDKs, over HTTP, into the real Valkey (SEMANTICS.md section 9)."""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from typing import TYPE_CHECKING

import alibabacloud_oss_v2 as oss_v2
import boto3
import botocore.exceptions
import oss2
import pytest
import requests
from botocore import UNSIGNED
from botocore.config import Config as BotoConfig
from oss2 import models as oss2_models
from qcloud_cos.cos_auth import CosS3Auth
from qcloud_cos.cos_exception import CosServiceError

from scheduler.config.settings import Settings
from scheduler.rules import xml_tree
from support.origin.wire_server import running_wire_server
from support.vendor_sdks import KEY_ID, SECRET, cos_client, oss2_bucket, oss_v2_client, s3_client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.origin.wire_server import WireServer

pytestmark = [
    pytest.mark.real,
    # oss2 signs version 4 with a call that Python 3.12 deprecates.
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning:oss2"),
]

COS_BUCKET = "examplebucket-1250000000"

#: The response sample of the COS page, as it is printed there.
COS_PAGE_SAMPLE = b"""<?xml version="1.0" encoding="UTF-8"?>
<OriginConfiguration>
    <OriginRule>
        <OriginType>Proxy</OriginType>
        <OriginCondition>
            <HTTPStatusCode>404</HTTPStatusCode>
            <Prefix></Prefix>
        </OriginCondition>
        <OriginParameter>
            <Protocol>FOLLOW</Protocol>
            <FollowQueryString>true</FollowQueryString>
            <HttpHeader>
                <FollowAllHeaders>true</FollowAllHeaders>
                <NewHttpHeaders>
                    <Header>
                        <Key>x-cos-ContentType</Key>
                        <Value>csv</Value>
                    </Header>
                </NewHttpHeaders>
                <FollowHttpHeaders>
                    <Header>
                        <Key>Content-Type</Key>
                    </Header>
                </FollowHttpHeaders>
            </HttpHeader>
            <FollowRedirection>true</FollowRedirection>
        </OriginParameter>
        <OriginInfo>
            <HostInfo>
                <HostName>examplebucket-1250000000.cos.ap-shanghai.myqcloud.com</HostName>
            </HostInfo>
        </OriginInfo>
    </OriginRule>
</OriginConfiguration>
"""

MIRROR = {
    "OriginRule": [
        {
            "RulePriority": "1",
            "OriginType": "Mirror",
            "OriginCondition": {"HTTPStatusCode": "404", "Prefix": "img/"},
            "OriginParameter": {"Protocol": "HTTPS", "FollowQueryString": "false"},
            "OriginInfo": {
                "HostInfo": [
                    {"HostName": "a.example.com", "Weight": "8", "StandbyHostName_1": "b.example.com"},
                    {"HostName": "c.example.com", "Weight": "2"},
                ]
            },
        }
    ]
}


def _settings(valkey_url: str, tmp_path, **sections) -> Settings:
    return Settings.model_validate(
        {
            "buckets": {
                COS_BUCKET: {},
                "site": {},
                "filed": {"rules": [{"prefix": "img/", "origins": ["https://a.example"]}]},
            },
            "broker": {"url": valkey_url, "namespace": f"t{uuid.uuid4().hex[:8]}"},
            "store": {
                "endpoint": "http://127.0.0.1:9",
                "access_key_id": "unused",
                "secret_access_key": "unused",
            },
            "data_dir": tmp_path,
            **sections,
        }
    )


@pytest.fixture(scope="module")
def server(valkey_url, tmp_path_factory) -> Iterator[WireServer]:
    """Keys are configured: every call must be signed."""
    keys = {"access_keys": [{"id": KEY_ID, "secret": SECRET}]}
    settings = _settings(valkey_url, tmp_path_factory.mktemp("signed"), gateway=keys)
    with running_wire_server(settings) as running:
        yield running


@pytest.fixture(scope="module")
def open_server(valkey_url, tmp_path_factory) -> Iterator[WireServer]:
    """The default configuration: no key, loopback."""
    with running_wire_server(_settings(valkey_url, tmp_path_factory.mktemp("open"))) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_rules(request):
    """Each test begins and ends without rules."""
    yield
    for name in ("server", "open_server"):
        if name in request.fixturenames:
            running = request.getfixturevalue(name)
            for bucket in (COS_BUCKET, "site"):
                cos_client(running.port).delete_bucket_origin(Bucket=bucket)


# ------------------------------------------------------------ qcloud_cos


def test_cos_sdk_puts_reads_and_deletes_rules_w1_w2_w3_w14(server):
    client = cos_client(server.port)
    with pytest.raises(CosServiceError) as absent:
        client.get_bucket_origin(Bucket=COS_BUCKET)
    assert absent.value.get_status_code() == 404
    assert absent.value.get_error_code() == "OriginConfigurationNotFoundError"
    assert absent.value.get_request_id()
    assert absent.value.get_resource_location() == f"/{COS_BUCKET}"

    client.put_bucket_origin(Bucket=COS_BUCKET, OriginConfiguration=MIRROR)
    assert client.get_bucket_origin(Bucket=COS_BUCKET) == {
        "OriginRule": [MIRROR["OriginRule"][0]],
    }
    method, path, query, headers = server.requests[-2]
    assert (method, path, query) == ("PUT", b"/", b"origin=")
    assert headers["host"] == f"{COS_BUCKET}.cos.local.myqcloud.com"
    assert "content-md5" in headers

    client.delete_bucket_origin(Bucket=COS_BUCKET)
    client.delete_bucket_origin(Bucket=COS_BUCKET)  # W3: also when there was none
    with pytest.raises(CosServiceError):
        client.get_bucket_origin(Bucket=COS_BUCKET)


def test_cos_sdk_reads_back_what_it_wrote_and_writing_it_again_is_no_new_version_w2(server):
    """A read-change-write client loses nothing."""
    client = cos_client(server.port)
    client.put_bucket_origin(Bucket=COS_BUCKET, OriginConfiguration=MIRROR)
    read = client.get_bucket_origin(Bucket=COS_BUCKET)
    client.put_bucket_origin(Bucket=COS_BUCKET, OriginConfiguration=read)
    assert client.get_bucket_origin(Bucket=COS_BUCKET) == read


def test_w_seed_the_sample_of_the_cos_page_comes_back_equal_with_the_default_configuration(open_server):
    """Its origin equals the request's Host: a warning, no refusal."""
    client = cos_client(open_server.port)
    headers = {"Host": f"{COS_BUCKET}.cos.ap-shanghai.myqcloud.com"}
    auth = CosS3Auth(client._conf, params={"origin": ""})
    put = requests.put(
        f"{open_server.endpoint}/?origin", data=COS_PAGE_SAMPLE, headers=headers, auth=auth, timeout=10
    )
    assert (put.status_code, put.content) == (200, b"")
    assert "FollowQueryString" in put.headers["x-ferryman-warning"]
    got = requests.get(f"{open_server.endpoint}/?origin", headers=headers, auth=auth, timeout=10)
    assert got.status_code == 200
    assert got.headers["content-type"] == "application/xml"
    assert got.text == xml_tree.normalise(COS_PAGE_SAMPLE)
    assert client.get_bucket_origin(Bucket=COS_BUCKET)["OriginRule"][0]["OriginType"] == "Proxy"


def test_cos_sdk_is_told_what_is_wrong_with_its_document_1_1(server):
    document = {
        "OriginRule": [{"OriginType": "Mirror", "OriginInfo": {"HostInfo": {"HostNam": "a.example"}}}]
    }
    with pytest.raises(CosServiceError) as refused:
        cos_client(server.port).put_bucket_origin(Bucket=COS_BUCKET, OriginConfiguration=document)
    assert (refused.value.get_status_code(), refused.value.get_error_code()) == (400, "MalformedXML")
    message = refused.value.get_error_msg()
    assert "line 2: OriginRule[1]/OriginInfo/HostInfo[1]/HostNam: " in message
    assert "did you mean HostName?" in message
    assert "HostName is needed" in message  # all problems at once


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"SecretKey": "wrong"}, "SignatureDoesNotMatch"),
        ({"SecretId": "AKIDUNKNOWN"}, "InvalidAccessKeyId"),
        ({"Anonymous": True, "SecretId": None, "SecretKey": None}, "AccessDenied"),
    ],
)
def test_cos_sdk_with_wrong_keys_is_refused_w13(server, options, code):
    from qcloud_cos import CosConfig, CosS3Client

    known = {"SecretId": KEY_ID, "SecretKey": SECRET}
    config = CosConfig(Region="local", Scheme="http", IP="127.0.0.1", Port=server.port, **(known | options))
    with pytest.raises(CosServiceError) as refused:
        CosS3Client(config, retry=0).put_bucket_origin(Bucket=COS_BUCKET, OriginConfiguration=MIRROR)
    assert (refused.value.get_status_code(), refused.value.get_error_code()) == (403, code)


def test_cos_sdk_sees_an_unknown_bucket_w7_and_a_bucket_of_the_file_w9(server):
    client = cos_client(server.port)
    with pytest.raises(CosServiceError) as unknown:
        client.get_bucket_origin(Bucket="nobody-1250000000")
    assert (unknown.value.get_status_code(), unknown.value.get_error_code()) == (404, "NoSuchBucket")
    for call in (
        lambda: client.put_bucket_origin(Bucket="filed", OriginConfiguration=MIRROR),
        lambda: client.delete_bucket_origin(Bucket="filed"),
    ):
        with pytest.raises(CosServiceError) as owned:
            call()
        assert (owned.value.get_status_code(), owned.value.get_error_code()) == (409, "InvalidBucketState")
    rules = client.get_bucket_origin(Bucket="filed")["OriginRule"]
    assert rules[0]["OriginInfo"]["HostInfo"]["HostName"] == "a.example"


# ------------------------------------------------------------ alibabacloud_oss_v2


def _mirror_website() -> oss_v2.WebsiteConfiguration:
    return oss_v2.WebsiteConfiguration(
        routing_rules=oss_v2.RoutingRules(
            routing_rules=[
                oss_v2.RoutingRule(
                    rule_number=1,
                    condition=oss_v2.RoutingRuleCondition(
                        key_prefix_equals="img/", http_error_code_returned_equals=404
                    ),
                    redirect=oss_v2.RoutingRuleRedirect(
                        redirect_type="Mirror",
                        mirror_url="https://origin.example.com/dir/",
                        mirror_follow_redirect=True,
                        mirror_headers=oss_v2.models.MirrorHeaders(
                            pass_all=False,
                            passs=["accept-language"],
                            removes=["x-debug"],
                            sets=[
                                oss_v2.models.bucket_website.MirrorHeadersSet(key="x-by", value="ferryman")
                            ],
                        ),
                    ),
                )
            ]
        )
    )


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_oss_v2_sdk_puts_reads_and_deletes_rules_w4_w5_w6_w16(server, version):
    client = oss_v2_client(server.port, signature_version=version)
    with pytest.raises(oss_v2.exceptions.OperationError) as absent:
        client.get_bucket_website(oss_v2.GetBucketWebsiteRequest(bucket="site"))
    told = absent.value.unwrap()
    assert (told.status_code, told.code) == (404, "NoSuchWebsiteConfiguration")
    assert told.request_id

    put = client.put_bucket_website(
        oss_v2.PutBucketWebsiteRequest(bucket="site", website_configuration=_mirror_website())
    )
    assert put.status_code == 200
    method, path, query, headers = server.requests[-1]
    assert (method, path, query) == ("PUT", b"/site/", b"website=")
    assert "content-md5" in headers
    got = client.get_bucket_website(oss_v2.GetBucketWebsiteRequest(bucket="site"))
    (rule,) = got.website_configuration.routing_rules.routing_rules
    assert rule.rule_number == 1
    assert rule.condition.key_prefix_equals == "img/"
    assert rule.condition.http_error_code_returned_equals == 404
    assert rule.redirect.redirect_type == "Mirror"
    assert rule.redirect.mirror_url == "https://origin.example.com/dir/"
    assert rule.redirect.mirror_follow_redirect is True
    headers = rule.redirect.mirror_headers
    assert (headers.pass_all, headers.passs, headers.removes) == (False, ["accept-language"], ["x-debug"])
    assert [(found.key, found.value) for found in headers.sets] == [("x-by", "ferryman")]
    assert got.website_configuration.index_document is None
    for _ in range(2):
        gone = client.delete_bucket_website(oss_v2.DeleteBucketWebsiteRequest(bucket="site"))
        assert gone.status_code == 204


def test_oss_v2_sdk_with_a_wrong_secret_is_refused_w13(server):
    client = oss_v2_client(server.port, secret="wrong")
    with pytest.raises(oss_v2.exceptions.OperationError) as refused:
        client.get_bucket_website(oss_v2.GetBucketWebsiteRequest(bucket="site"))
    told = refused.value.unwrap()
    assert (told.status_code, told.code) == (403, "SignatureDoesNotMatch")


# ------------------------------------------------------------ oss2


def _oss2_website() -> oss2_models.BucketWebsite:
    redirect = oss2_models.Redirect(
        redirect_type=oss2_models.REDIRECT_TYPE_MIRROR,
        mirror_url="http://origin.example.com/",
        pass_query_string=True,
        mirror_follow_redirect=True,
        mirror_headers=oss2_models.RedirectMirrorHeaders(
            pass_all=False,
            pass_list=["accept-language"],
            remove_list=["x-debug"],
            set_list=[oss2_models.MirrorHeadersSet("x-by", "ferryman")],
        ),
    )
    condition = oss2_models.Condition(key_prefix_equals="img/", http_err_code_return_equals=404)
    rule = oss2_models.RoutingRule(rule_num=1, condition=condition, redirect=redirect)
    return oss2_models.BucketWebsite("index.html", "error.html", [rule])


@pytest.mark.parametrize("v4", [False, True], ids=["v1", "v4"])
def test_oss2_sdk_puts_reads_and_deletes_rules_w4_w5_w6_w17(server, v4):
    """It writes `True` and cannot read it back: booleans come in lower case."""
    bucket = oss2_bucket(server.port, "site", v4=v4)
    with pytest.raises(oss2.exceptions.NoSuchWebsite):
        bucket.get_bucket_website()
    assert bucket.put_bucket_website(_oss2_website()).status == 200
    got = bucket.get_bucket_website()
    assert (got.index_file, got.error_file) == ("index.html", "error.html")
    (rule,) = got.rules
    assert (rule.rule_num, rule.condition.key_prefix_equals) == (1, "img/")
    redirect = rule.redirect
    assert (redirect.mirror_url, redirect.pass_query_string) == ("http://origin.example.com/", True)
    assert redirect.mirror_headers.pass_list == ["accept-language"]
    assert redirect.mirror_headers.remove_list == ["x-debug"]
    assert [(s.key, s.value) for s in redirect.mirror_headers.set_list] == [("x-by", "ferryman")]
    assert bucket.delete_bucket_website().status == 204
    assert bucket.delete_bucket_website().status == 204


def test_oss2_sdk_reads_a_mirror_that_another_client_wrote_without_a_status_w17(server):
    """It fails on an absent status and on an empty one: 404 is written, which is what a mirror means."""
    redirect = oss_v2.RoutingRuleRedirect(redirect_type="Mirror", mirror_url="http://origin.example.com/")
    rule = oss_v2.RoutingRule(
        rule_number=1, condition=oss_v2.RoutingRuleCondition(key_prefix_equals="a/"), redirect=redirect
    )
    website = oss_v2.WebsiteConfiguration(routing_rules=oss_v2.RoutingRules(routing_rules=[rule]))
    oss_v2_client(server.port).put_bucket_website(
        oss_v2.PutBucketWebsiteRequest(bucket="site", website_configuration=website)
    )
    (got,) = oss2_bucket(server.port, "site").get_bucket_website().rules
    assert (got.condition.key_prefix_equals, got.condition.http_err_code_return_equals) == ("a/", 404)


def test_oss2_sdk_is_told_about_an_unsafe_origin_b11(server):
    website = _oss2_website()
    website.rules[0].redirect.mirror_url = "http://169.254.169.254/latest/"
    with pytest.raises(oss2.exceptions.ServerError) as refused:
        oss2_bucket(server.port, "site").put_bucket_website(website)
    assert (refused.value.status, refused.value.code) == (400, "InvalidArgument")
    assert "169.254.169.254" in refused.value.message


# ------------------------------------------------------------ boto3


S3_RULES = {
    "IndexDocument": {"Suffix": "index.html"},
    "RoutingRules": [
        {
            "Condition": {"KeyPrefixEquals": "old/", "HttpErrorCodeReturnedEquals": "404"},
            "Redirect": {
                "HostName": "origin.example.com",
                "HttpRedirectCode": "302",
                "Protocol": "https",
                "ReplaceKeyPrefixWith": "new/",
            },
        }
    ],
}


@pytest.mark.parametrize("version", [None, "s3"], ids=["v4", "v2"])
def test_boto3_puts_reads_and_deletes_redirect_rules_d24(server, version):
    client = s3_client(server.port, signature_version=version)
    with pytest.raises(botocore.exceptions.ClientError) as absent:
        client.get_bucket_website(Bucket="site")
    assert absent.value.response["Error"]["Code"] == "NoSuchWebsiteConfiguration"
    client.put_bucket_website(Bucket="site", WebsiteConfiguration=S3_RULES)
    assert server.requests[-1][1:3] == (b"/site", b"website")  # W11: without `=`
    got = client.get_bucket_website(Bucket="site")
    assert {name: got[name] for name in S3_RULES} == S3_RULES
    client.delete_bucket_website(Bucket="site")


def test_boto3_without_a_signature_is_refused_w13(server):
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        config=BotoConfig(signature_version=UNSIGNED, s3={"addressing_style": "path"}),
    )
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        client.get_bucket_website(Bucket="site")
    assert refused.value.response["Error"]["Code"] == "AccessDenied"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_what_is_no_rule_api_is_405_w8_and_for_s3_clients_the_stores_business(server):
    with pytest.raises(oss2.exceptions.ServerError) as no_api:
        oss2_bucket(server.port, "site").get_bucket_acl()
    assert (no_api.value.status, no_api.value.code) == (405, "MethodNotAllowed")
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        s3_client(server.port).get_bucket_acl(Bucket="site")
    assert refused.value.response["Error"]["Code"] == "AccessDenied"
    assert "'manage'" in refused.value.response["Error"]["Message"]


# ------------------------------------------------------------ across the formats


def test_a_set_of_one_format_is_read_in_the_other_or_refused_by_field_w12(server):
    cos = cos_client(server.port)
    oss = oss2_bucket(server.port, "site")
    simple = {
        "OriginRule": [{"OriginType": "Mirror", "OriginInfo": {"HostInfo": {"HostName": "a.example.com"}}}]
    }
    cos.put_bucket_origin(Bucket="site", OriginConfiguration=simple | {})
    with pytest.raises(oss2.exceptions.ServerError) as follows:
        oss.get_bucket_website()  # FOLLOW has no OSS form
    assert (follows.value.status, follows.value.code) == (409, "RuleNotExpressible")
    assert "request.protocol" in follows.value.message
    simple["OriginRule"][0]["OriginParameter"] = {"Protocol": "HTTPS", "FollowQueryString": "false"}
    simple["OriginRule"][0]["RulePriority"] = "1"
    cos.put_bucket_origin(Bucket="site", OriginConfiguration=simple)
    assert oss.get_bucket_website().rules[0].redirect.mirror_url == "https://a.example.com/"


def test_content_md5_is_checked_for_every_method_w10(open_server):
    url = f"{open_server.endpoint}/site?origin"
    empty = base64.b64encode(hashlib.md5(b"").digest()).decode()
    other = base64.b64encode(hashlib.md5(b"x").digest()).decode()
    for method in ("GET", "PUT", "DELETE"):
        wrong = requests.request(method, url, headers={"Content-MD5": other}, timeout=10)
        assert (wrong.status_code, _code(wrong)) == (400, "BadDigest")
        bad = requests.request(method, url, headers={"Content-MD5": "bm90IGl0"}, timeout=10)
        assert (bad.status_code, _code(bad)) == (400, "InvalidDigest")
    assert requests.delete(url, headers={"Content-MD5": empty}, timeout=10).status_code == 204


def test_a_document_beyond_one_mebibyte_is_refused_l7(open_server):
    url = f"{open_server.endpoint}/site?origin"
    body = b"<OriginConfiguration>" + b" " * 1024 * 1024 + b"</OriginConfiguration>"
    for data in (body, iter([body[:1000], body[1000:]])):
        answer = requests.put(url, data=data, timeout=30)
        assert (answer.status_code, _code(answer)) == (400, "EntityTooLarge")


@pytest.mark.parametrize("path", ["/site?origin", "/site/key"], ids=["L7", "read-only"])
def test_a_client_that_still_sends_gets_its_answer_and_no_reset(open_server, path):
    """A reset from a body that was left unread would overtake the answer, most of the time."""
    body = b" " * (6 * 1024 * 1024)
    for _ in range(8):
        answer = requests.put(f"{open_server.endpoint}{path}", data=body, timeout=30)
        assert answer.status_code in {400, 405}
        assert answer.headers["connection"] == "close"


def test_without_keys_nothing_comes_through_a_proxy_or_a_browser_w13(open_server):
    url = f"{open_server.endpoint}/site?origin"
    assert requests.get(url, timeout=10).status_code == 404
    for header in ("X-Forwarded-For", "Forwarded", "Via", "Origin", "X-Real-IP"):
        answer = requests.get(url, headers={header: "x"}, timeout=10)
        assert (answer.status_code, _code(answer)) == (403, "AccessDenied"), header


def _code(answer: requests.Response) -> str:
    found = re.search(r"<Code>(\w+)</Code>", answer.text)
    return found[1] if found else ""
