"""Every row of the rule APIs' table, without a network (SEMANTICS.md W1 to W13)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from email.utils import formatdate
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import fakeredis
import pytest
from pydantic import ValidationError

from scheduler.config.settings import Settings
from scheduler.front.http.bucket_address import BucketLookup
from scheduler.front.rules_api.call import WireRequest, is_wire_request, keyring_of, read_body
from scheduler.front.rules_api.vendor_xml import warning_headers, wire_api
from scheduler.rules.in_force.repository import RulesRepository
from scheduler.rules.problems import Problem, ProblemKind

COS = (
    b"<OriginConfiguration><OriginRule><OriginType>Mirror</OriginType>"
    b"<OriginInfo><HostInfo><HostName>a.example.com</HostName></HostInfo></OriginInfo>"
    b"</OriginRule></OriginConfiguration>"
)
OSS = (
    b"<WebsiteConfiguration><RoutingRules><RoutingRule><RuleNumber>1</RuleNumber>"
    b"<Condition><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals></Condition>"
    b"<Redirect><RedirectType>Mirror</RedirectType><MirrorURL>http://a.example.com/</MirrorURL></Redirect>"
    b"</RoutingRule></RoutingRules></WebsiteConfiguration>"
)
BUCKETS = {"site": {}, "filed": {"rules": [{"prefix": "img/", "origins": ["https://a.example"]}]}}


class Api:
    """The API over a fake Redis."""

    def __init__(self, **sections) -> None:
        self.server = fakeredis.FakeServer()
        redis = fakeredis.FakeAsyncRedis(server=self.server, decode_responses=True)
        self.services = SimpleNamespace(
            settings=Settings.model_validate({"buckets": BUCKETS} | sections), rules=RulesRepository(redis)
        )

    async def call(
        self,
        method: str,
        query: str = "origin",
        body: bytes | None = b"",
        *,
        bucket: str = "site",
        host: str = "127.0.0.1",
        peer: str = "127.0.0.1",
        listener: str = "127.0.0.1",
        **headers: str,
    ):
        address = BucketLookup().find(host, f"/{bucket}".encode())
        return await wire_api(
            WireRequest(
                id="ABC123",
                method=method,
                address=address,
                raw_path=f"/{bucket}".encode(),
                query=query.encode(),
                headers=tuple((name.replace("_", "-"), value) for name, value in headers.items()),
                host=host,
                peer=peer,
                listener=listener,
                body=body,
            ),
            self.services,
        )


@pytest.fixture
def api() -> Api:
    return Api()


def code_of(response) -> str:
    return ET.fromstring(response.body).findtext("Code") or ""


def headers_of(response) -> dict[bytes, bytes]:
    return dict(response.headers)


@pytest.mark.parametrize(("query", "body"), [("origin", COS), ("website", OSS)], ids=["W1", "W4"])
async def test_put_answers_200_and_empty_and_replaces_the_whole_set_w1_w4(api, query, body):
    first = await api.call("PUT", query, body)
    assert (first.status, first.body, headers_of(first)[b"content-length"]) == (200, b"", b"0")
    other = body.replace(b"a.example.com", b"b.example.com")
    await api.call("PUT", query, other)
    got = await api.call("GET", query)
    assert b"b.example.com" in got.body
    assert b"a.example.com" not in got.body


@pytest.mark.parametrize(
    ("query", "body", "root"),
    [("origin", COS, "OriginConfiguration"), ("website", OSS, "WebsiteConfiguration")],
    ids=["W2", "W5"],
)
async def test_get_answers_200_with_the_document_w2_w5(api, query, body, root):
    await api.call("PUT", query, body)
    got = await api.call("GET", query)
    assert got.status == 200
    assert headers_of(got)[b"content-type"] == b"application/xml"
    assert headers_of(got)[b"content-length"] == str(len(got.body)).encode()
    assert ET.fromstring(got.body).tag == root
    assert b"xmlns" not in got.body


@pytest.mark.parametrize(
    ("query", "code"),
    [("origin", "OriginConfigurationNotFoundError"), ("website", "NoSuchWebsiteConfiguration")],
    ids=["W2", "W5"],
)
async def test_get_without_rules_is_404_by_name_w2_w5(api, query, code):
    got = await api.call("GET", query)
    assert (got.status, code_of(got)) == (404, code)


@pytest.mark.parametrize(
    ("query", "body", "code"),
    [
        ("origin", COS, "OriginConfigurationNotFoundError"),
        ("website", OSS, "NoSuchWebsiteConfiguration"),
    ],
    ids=["W2", "W5"],
)
async def test_get_after_the_gate_retired_the_last_rule_is_404_too_w2_w5(api, query, body, code):
    await api.call("PUT", query, body)
    await api.services.rules.replace("site", (), owner="api", who="gate", how="finalize")
    got = await api.call("GET", query)
    assert (got.status, code_of(got)) == (404, code)


@pytest.mark.parametrize(("query", "body"), [("origin", COS), ("website", OSS)], ids=["W3", "W6"])
async def test_delete_answers_204_also_when_there_was_none_w3_w6(api, query, body):
    await api.call("PUT", query, body)
    for _ in range(2):
        gone = await api.call("DELETE", query)
        assert (gone.status, gone.body) == (204, b"")
        assert b"content-length" not in headers_of(gone)
    assert (await api.call("GET", query)).status == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_an_unknown_bucket_is_404_w7(api, method):
    answer = await api.call(method, bucket="nobody", body=COS)
    assert (answer.status, code_of(answer)) == (404, "NoSuchBucket")


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("POST", "origin"),
        ("POST", "delete"),
        ("GET", "acl"),
        ("PUT", "cors"),
        ("GET", "resourceGroup"),
        ("GET", "intelligenttiering="),
        ("PUT", "x%ff"),
        ("PUT", ""),
        ("HEAD", "origin"),
        ("GET", "origin&website"),
        ("OPTIONS", "origin"),
    ],
)
async def test_anything_else_is_405_w8(api, method, query):
    answer = await api.call(method, query)
    assert answer.status == 405
    assert headers_of(answer)[b"allow"] == b"GET, PUT, DELETE"
    assert answer.body == b"" if method == "HEAD" else code_of(answer) == "MethodNotAllowed"


@pytest.mark.parametrize("query", ["origin", "website"])
async def test_a_bucket_of_the_file_can_be_read_and_not_changed_w9(query):
    from scheduler.rules.in_force.apply import apply_file_rules

    api = Api()
    await apply_file_rules(api.services.rules, api.services.settings)
    for method in ("PUT", "DELETE"):
        answer = await api.call(method, query, OSS if query == "website" else COS, bucket="filed")
        assert (answer.status, code_of(answer)) == (409, "InvalidBucketState")
    got = await api.call("GET", "origin", bucket="filed")
    assert got.status == 200
    assert b"a.example" in got.body


async def test_a_bucket_of_the_file_is_refused_even_before_its_rules_reached_redis_w9(api):
    assert (await api.call("PUT", body=COS, bucket="filed")).status == 409


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body).digest()).decode()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("md5", "code"),
    [
        (_md5(b"other"), "BadDigest"),
        ("", "InvalidDigest"),
        ("not base64!", "InvalidDigest"),
        ("AAAA", "InvalidDigest"),
        ("d41d8cd98f00b204e9800998ecf8427e", "InvalidDigest"),
    ],
)
async def test_a_wrong_content_md5_is_refused_w10(api, method, md5, code):
    body = COS if method == "PUT" else b""
    answer = await api.call(method, body=body, content_md5=md5)
    assert (answer.status, code_of(answer)) == (400, code)


async def test_a_right_content_md5_is_accepted_and_none_too_w10(api):
    assert (await api.call("PUT", body=COS, content_md5=_md5(COS))).status == 200
    assert (await api.call("PUT", body=COS)).status == 200
    assert (await api.call("GET", content_md5=_md5(b""))).status == 200
    assert (await api.call("DELETE", content_md5=_md5(b""))).status == 204


@pytest.mark.parametrize("query", ["origin", "origin=", "x=1&origin", "%6frigin="])
async def test_the_sub_resource_is_read_with_and_without_an_equals_sign_w11(api, query):
    assert code_of(await api.call("GET", query)) == "OriginConfigurationNotFoundError"


async def test_a_set_that_the_other_format_cannot_say_is_409_with_its_fields_w12(api):
    await api.call("PUT", "origin", COS)  # FOLLOW
    answer = await api.call("GET", "website")
    assert (answer.status, code_of(answer)) == (409, "RuleNotExpressible")
    assert "request.protocol" in answer.body.decode()
    assert b"RoutingRule" not in answer.body  # never a partial answer


async def test_a_set_that_the_other_format_can_say_is_translated_w12(api):
    kept = OSS.replace(b"</MirrorURL>", b"</MirrorURL><MirrorSaveOssMeta>true</MirrorSaveOssMeta>")
    await api.call("PUT", "website", kept)
    got = await api.call("GET", "origin")
    assert (got.status, ET.fromstring(got.body).findtext(".//HostName")) == (200, "a.example.com")


@pytest.mark.parametrize(
    ("grant", "status"),
    [
        ({}, 404),
        ({"may": ["read", "manage"]}, 404),
        ({"may": ["read", "write"]}, 403),
        ({"may": ["manage"], "buckets": ["other"]}, 403),
    ],
)
async def test_a_key_that_says_what_it_may_needs_manage_for_rule_documents(grant, status):
    api = Api(gateway={"access_keys": [{"id": "k", "secret": "s", **grant}]})
    date = formatdate(usegmt=True)
    text = f"GET\n\n\n{date}\n/site/?website"
    signature = base64.b64encode(hmac.digest(b"s", text.encode(), "sha1")).decode()
    headers = {"authorization": f"AWS k:{signature}", "date": date}
    answer = await api.call("GET", "website", **headers)
    code = "AccessDenied" if status == 403 else "NoSuchWebsiteConfiguration"
    assert (answer.status, code_of(answer)) == (status, code)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "AccessDenied"),
        ({"authorization": "Bearer wrong"}, "AccessDenied"),
        ({"authorization": "OSS nobody:x", "date": "Sat, 21 Nov 2026 04:00:00 GMT"}, "InvalidAccessKeyId"),
    ],
)
async def test_with_keys_every_call_is_authenticated_before_anything_is_told_w13(headers, code):
    api = Api(gateway={"access_keys": [{"id": "k", "secret": "s"}]})
    for bucket in ("site", "nobody"):
        answer = await api.call("GET", bucket=bucket, **headers)
        assert (answer.status, code_of(answer)) == (403, code)


async def test_the_admin_token_opens_the_api_and_is_told_by_no_answer_w13():
    api = Api(admin={"token": "the-token"})
    assert (
        await api.call("PUT", body=COS, peer="203.0.113.5", authorization="Bearer the-token")
    ).status == 200
    refused = await api.call("GET", authorization="Bearer other")
    assert b"the-token" not in refused.body


@pytest.mark.parametrize(
    "where",
    [
        {"peer": "203.0.113.5"},
        {"listener": "192.0.2.1"},
        {"listener": ""},
        {"x_forwarded_for": "203.0.113.5"},
        {"via": "1.1 proxy"},
        {"origin": "https://evil.example"},
    ],
)
async def test_without_keys_only_this_machine_may_call_w13(api, where):
    assert (await api.call("PUT", body=COS)).status == 200
    answer = await api.call("PUT", body=COS, **where)
    assert (answer.status, code_of(answer)) == (403, "AccessDenied")


@pytest.mark.parametrize(
    ("listen", "sections", "problem"),
    [
        ("127.0.0.1:8080", {}, False),
        ("[::1]:8080", {}, False),
        ("localhost:0", {}, False),
        ("0.0.0.0:8080", {"admin": {"token": "t"}}, False),
        ("0.0.0.0:8080", {"gateway": {"access_keys": [{"id": "k", "secret": "s"}]}}, False),
        ("0.0.0.0:8080", {}, True),
        ("192.0.2.1:80", {}, True),
    ],
)
def test_an_open_rule_api_is_a_problem_by_name_w13(listen, sections, problem):
    sections = {**sections, "gateway": {**sections.get("gateway", {}), "listen": listen}}
    if not problem:
        assert Settings.model_validate(sections).gateway.listen == listen
        return
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(sections)
    assert listen in str(caught.value)
    assert "access_keys" in str(caught.value)


async def test_a_document_longer_than_its_limit_is_refused_l7(api):
    answer = await api.call("PUT", body=None)
    assert (answer.status, code_of(answer)) == (400, "EntityTooLarge")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "MalformedXML"),
        (b"<OriginConfiguration>", 400, "MalformedXML"),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><OriginConfiguration/>", 400, "MalformedXML"),
        (COS.replace(b"Mirror", b"Mirrored"), 400, "InvalidArgument"),
        (COS.replace(b"a.example.com", b"169.254.169.254"), 400, "InvalidArgument"),
        (OSS, 400, "MalformedXML"),
    ],
)
async def test_a_refused_document_names_line_and_element_and_changes_nothing_1_1(api, body, status, code):
    await api.call("PUT", body=COS)
    before = (await api.call("GET")).body
    answer = await api.call("PUT", body=body)
    assert (answer.status, code_of(answer)) == (status, code)
    assert (await api.call("GET")).body == before


async def test_all_problems_come_at_once_1_1(api):
    body = COS.replace(b"Mirror<", b"Mirrored<").replace(b"a.example.com", b"http://u:p@a.example.com/x")
    message = ET.fromstring((await api.call("PUT", body=body)).body).findtext("Message") or ""
    assert "OriginType" in message
    assert "HostName" in message


async def test_an_error_document_has_every_element_that_sdks_look_for_section_5(api):
    answer = await api.call("GET")
    root = ET.fromstring(answer.body)
    assert [child.tag for child in root] == ["Code", "Message", "Resource", "RequestId", "TraceId", "HostId"]
    assert all(child.text for child in root)
    assert root.findtext("Resource") == "/site"
    for name in (b"x-amz-request-id", b"x-cos-request-id", b"x-oss-request-id"):
        assert headers_of(answer)[name] == b"ABC123"


async def test_warnings_come_as_headers_and_never_refuse_1_2(api):
    body = COS.replace(
        b"<OriginInfo>",
        b"<OriginParameter><FollowQueryString>true</FollowQueryString></OriginParameter><OriginInfo>",
    )
    answer = await api.call("PUT", body=body)
    warnings = [value for name, value in answer.headers if name == b"x-ferryman-warning"]
    assert answer.status == 200
    assert any(b"FollowQueryString" in warning for warning in warnings)


def test_warning_headers_are_printable_bounded_and_counted():
    warnings = [
        Problem(path="a", kind=ProblemKind.WARNING, message=f"é中\r\nX: y {n}" * 100) for n in range(30)
    ]
    headers = warning_headers(warnings)
    assert len(headers) == 20
    assert headers[-1][1] == b"and 11 more"
    for _, value in headers:
        assert len(value) <= 500
        assert all(32 <= byte < 127 for byte in value)


def test_what_concerns_one_rule_comes_before_what_is_said_of_all():
    """1.2: a COS document of thirty rules follows the query thirty times; the one dead rule must be seen."""
    kind = ProblemKind.WARNING
    warnings = [Problem(path=f"OriginRule[{n}]", kind=kind, message="query") for n in range(30)]
    warnings.insert(28, Problem(path="OriginRule[28]", kind=kind, message="can never match"))
    headers = [value for _, value in warning_headers(warnings)]
    assert headers[:2] == [b"OriginRule[0]: query", b"OriginRule[28]: can never match"]
    assert (len(headers), headers[-1]) == (20, b"and 12 more")


async def test_a_request_that_names_no_bucket_is_told_so_w7(api):
    answer = await api.call("PUT", bucket="", body=COS)
    assert (answer.status, code_of(answer)) == (404, "NoSuchBucket")
    assert b"names no bucket" in answer.body


async def test_without_redis_a_change_is_503_and_a_read_is_answered_from_memory(api):
    await api.call("PUT", body=COS)
    api.server.connected = False
    answer = await api.call("PUT", body=COS.replace(b"a.example", b"b.example"))
    assert (answer.status, code_of(answer)) == (503, "ServiceUnavailable")
    assert headers_of(answer)[b"retry-after"] == b"1"
    assert (await api.call("GET")).status == 200


async def test_who_and_how_are_in_the_history():
    api = Api(admin={"token": "t"})
    await api.call("PUT", body=COS, authorization="Bearer t")
    await api.call("DELETE", "website", authorization="Bearer t")
    history = await api.services.rules.history("site")
    assert [(change.who, change.how) for change in history] == [
        ("token", "DELETE ?website"),
        ("token", "PUT ?origin"),
    ]


@pytest.mark.parametrize(
    ("method", "path", "query", "ours"),
    [
        ("GET", b"/site", b"origin", True),
        ("GET", b"/site/", b"website=", True),
        ("GET", b"/site", b"acl", True),
        ("HEAD", b"/site", b"origin", True),
        ("GET", b"/site", b"resourceGroup", True),
        ("GET", b"/site", b"origin&x-id=GetBucketOrigin", True),
        ("PUT", b"/site", b"", True),
        ("POST", b"/site", b"delete", True),
        ("GET", b"/site", b"", False),
        ("GET", b"/site", b"list-type=2", False),
        ("HEAD", b"/site", b"", False),
        ("GET", b"/site/k", b"origin", False),
        ("PUT", b"/site/k", b"origin", False),
    ],
)
def test_rule_calls_are_told_from_objects(method, path, query, ours):
    assert is_wire_request(method, BucketLookup().find("", path), query) is ours


async def _receive(parts):
    queue = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    queue.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive():
        return queue.pop(0)

    return receive


async def test_a_body_is_read_to_its_end_and_no_further_than_its_limit_l7():
    mib = 1024 * 1024
    assert await read_body(await _receive([b"a", b"b"]), "2") == b"ab"
    assert await read_body(await _receive([b"a" * mib]), "") == b"a" * mib
    assert await read_body(await _receive([b"a" * mib, b"b"]), "") is None
    assert await read_body(await _receive([]), str(mib + 1)) is None


def test_the_keyring_has_what_is_configured(tmp_path):
    (tmp_path / "secret").write_text("from-a-file\n")
    (tmp_path / "token").write_text("token-in-a-file\n")
    settings = Settings.model_validate(
        {
            "gateway": {
                "access_keys": [
                    {"id": "a", "secret": "s"},
                    {"id": "b", "secret_file": str(tmp_path / "secret")},
                ]
            },
            "admin": {"token_file": str(tmp_path / "token")},
        }
    )
    keys = keyring_of(settings)
    assert keys.pairs == {"a": "s", "b": "from-a-file"}
    assert keys.tokens == ("token-in-a-file",)
    assert not keyring_of(Settings())
