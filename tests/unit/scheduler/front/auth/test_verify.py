"""Signatures by the vendors' SDKs, verified by ours; what is signed is tampered with (SEMANTICS.md W13)."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import TYPE_CHECKING

import alibabacloud_oss_v2 as oss_v2
import oss2
import pytest

from scheduler.front.auth import AuthError, Keyring, SignedRequest, named_by_aws, verify
from support.vendor_sdks import (
    KEY_ID,
    SECRET,
    caught,
    caught_boto,
    cos_client,
    cos_client_by_name,
    oss2_bucket,
    oss_v2_client,
    s3_client,
    url_request,
)

if TYPE_CHECKING:
    from collections.abc import Callable

#: oss2 signs version 4 with a call that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning:oss2")

KEYS = Keyring(pairs={"another": "secret", KEY_ID: SECRET}, tokens=("token-of-the-admin-side",))
COS_BUCKET = "examplebucket-1250000000"
ODD_KEY = "a b+c//d%2F é中.txt"
MINUTE = 60


def _cos_put() -> SignedRequest:
    with caught() as seen:
        cos_client(8080).put_bucket_origin(
            Bucket=COS_BUCKET, OriginConfiguration={"OriginRule": [{"OriginType": "Mirror"}]}
        )
    return seen.only


def _cos_get() -> SignedRequest:
    with caught() as seen:
        cos_client(8080).delete_object(Bucket=COS_BUCKET, Key=ODD_KEY)
    return seen.only


def _cos_url() -> SignedRequest:
    url = cos_client_by_name().get_presigned_url(
        Bucket=COS_BUCKET, Key=ODD_KEY, Method="GET", Params={"response-content-type": "a b+c"}
    )
    return url_request(url)


def _oss_v2_put(version: str) -> SignedRequest:
    rule = oss_v2.RoutingRule(rule_number=1)
    website = oss_v2.WebsiteConfiguration(routing_rules=oss_v2.RoutingRules(routing_rules=[rule]))
    with caught() as seen:
        oss_v2_client(8080, signature_version=version).put_bucket_website(
            oss_v2.PutBucketWebsiteRequest(bucket="site", website_configuration=website)
        )
    return seen.only


def _oss_v2_get(version: str) -> SignedRequest:
    with caught() as seen:
        oss_v2_client(8080, signature_version=version).delete_object(
            oss_v2.DeleteObjectRequest(bucket="site", key=ODD_KEY)
        )
    return seen.only


def _oss_v2_url(version: str) -> SignedRequest:
    request = oss_v2.GetObjectRequest(bucket="site", key=ODD_KEY, response_content_type="a b+c")
    return url_request(oss_v2_client(8080, signature_version=version).presign(request).url)


def _oss2_put(*, v4: bool) -> SignedRequest:
    with caught() as seen:
        oss2_bucket(8080, "site", v4=v4).put_bucket_website(
            oss2.models.BucketWebsite("index.html", "error.html")
        )
    return seen.only


def _oss2_get(*, v4: bool) -> SignedRequest:
    with caught() as seen:
        oss2_bucket(8080, "site", v4=v4).get_object(ODD_KEY, byte_range=(0, 9), params={"x": "y z"})
    return seen.only


def _oss2_url(*, v4: bool) -> SignedRequest:
    return url_request(
        oss2_bucket(8080, "site", v4=v4).sign_url(
            "GET", ODD_KEY, 3600, params={"response-content-type": "a b+c", "x": "y z"}
        )
    )


def _boto_put(version: str | None) -> SignedRequest:
    client = s3_client(8080, signature_version=version)
    with caught_boto(client) as seen:
        client.put_bucket_website(Bucket="site", WebsiteConfiguration={"ErrorDocument": {"Key": "x"}})
    return seen.only


def _boto_get(version: str | None, style: str = "path") -> SignedRequest:
    client = s3_client(8080, signature_version=version, style=style)
    with caught_boto(client) as seen:
        client.delete_object(Bucket="site", Key=ODD_KEY)
    return seen.only


def _boto_url(version: str | None, style: str = "path") -> SignedRequest:
    client = s3_client(8080, signature_version=version, style=style)
    return url_request(
        client.generate_presigned_url(
            "get_object", Params={"Bucket": "site", "Key": ODD_KEY, "ResponseContentType": "a b+c"}
        )
    )


#: What an SDK sends, by name: (scheme, how it is made).
CASES: dict[str, tuple[str, Callable[[], SignedRequest]]] = {
    "cos put_bucket_origin": ("cos", _cos_put),
    "cos object": ("cos", _cos_get),
    "cos presigned": ("cos", _cos_url),
    "oss_v2 v4 put_bucket_website": ("oss-v4", functools.partial(_oss_v2_put, "v4")),
    "oss_v2 v4 object": ("oss-v4", functools.partial(_oss_v2_get, "v4")),
    "oss_v2 v4 presigned": ("oss-v4", functools.partial(_oss_v2_url, "v4")),
    "oss_v2 v1 put_bucket_website": ("oss-v1", functools.partial(_oss_v2_put, "v1")),
    "oss_v2 v1 object": ("oss-v1", functools.partial(_oss_v2_get, "v1")),
    "oss_v2 v1 presigned": ("oss-v1", functools.partial(_oss_v2_url, "v1")),
    "oss2 v1 put_bucket_website": ("oss-v1", functools.partial(_oss2_put, v4=False)),
    "oss2 v1 object": ("oss-v1", functools.partial(_oss2_get, v4=False)),
    "oss2 v1 presigned": ("oss-v1", functools.partial(_oss2_url, v4=False)),
    "oss2 v4 put_bucket_website": ("oss-v4", functools.partial(_oss2_put, v4=True)),
    "oss2 v4 object": ("oss-v4", functools.partial(_oss2_get, v4=True)),
    "oss2 v4 presigned": ("oss-v4", functools.partial(_oss2_url, v4=True)),
    "boto3 put_bucket_website": ("aws-v4", functools.partial(_boto_put, None)),
    "boto3 object": ("aws-v4", functools.partial(_boto_get, None)),
    "boto3 presigned by default": ("aws-v2", functools.partial(_boto_url, None)),
    "boto3 presigned v4": ("aws-v4", functools.partial(_boto_url, "s3v4")),
    "boto3 v2 put_bucket_website": ("aws-v2", functools.partial(_boto_put, "s3")),
    "boto3 v2 object": ("aws-v2", functools.partial(_boto_get, "s3")),
}


@functools.cache
def _made(name: str) -> tuple[SignedRequest, float]:
    """The request, and the time at which it was signed."""
    return CASES[name][1](), time.time()


def _refused(request: SignedRequest, now: float, keys: Keyring = KEYS) -> AuthError:
    with pytest.raises(AuthError) as caught_error:
        verify(request, keys, now)
    return caught_error.value


@pytest.mark.parametrize("name", CASES)
def test_what_an_sdk_signs_is_accepted_w13(name):
    request, now = _made(name)
    principal = verify(request, KEYS, now)
    assert (principal.key_id, principal.scheme) == (KEY_ID, CASES[name][0])


@pytest.mark.parametrize("name", [name for name, (scheme, _) in CASES.items() if scheme.startswith("aws-")])
def test_the_key_id_that_a_request_names_is_the_one_that_verify_looks_up(name):
    request, _ = _made(name)
    assert named_by_aws(request.header("authorization"), request.query) == KEY_ID
    assert named_by_aws("", b"") == named_by_aws("Bearer token", b"") == ""


@pytest.mark.parametrize("name", CASES)
def test_another_secret_is_refused_w13(name):
    request, now = _made(name)
    error = _refused(request, now, Keyring(pairs={KEY_ID: SECRET + "x"}))
    assert (error.status, error.code) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("name", CASES)
def test_an_unknown_key_id_is_refused_w13(name):
    request, now = _made(name)
    error = _refused(request, now, Keyring(pairs={"another": SECRET}))
    assert (error.status, error.code) == (403, "InvalidAccessKeyId")
    assert SECRET not in error.message


def _with_header(request: SignedRequest, name: str, value: str) -> SignedRequest:
    headers = tuple((given, value if given == name else old) for given, old in request.headers)
    return dataclasses.replace(request, headers=headers)


def _other_path(request: SignedRequest) -> SignedRequest:
    return dataclasses.replace(
        request, raw_path=request.raw_path + b"x", object_path=request.object_path + b"x"
    )


def _other_bucket(request: SignedRequest) -> SignedRequest:
    if request.raw_path == request.object_path:
        host = request.header("host")
        return dataclasses.replace(
            _with_header(request, "host", host.replace(request.bucket, "other")), bucket="other"
        )
    return dataclasses.replace(
        request,
        bucket="other",
        raw_path=request.raw_path.replace(b"/" + request.bucket.encode(), b"/other", 1),
    )


def _with_parameter(name: bytes, request: SignedRequest) -> SignedRequest:
    return dataclasses.replace(request, query=b"&".join(filter(None, (request.query, name))))


#: Each change must break every signature that covers it.
TAMPERINGS: dict[str, Callable[[SignedRequest], SignedRequest]] = {
    "method": lambda request: dataclasses.replace(
        request, method="DELETE" if request.method == "PUT" else "PUT"
    ),
    "path": _other_path,
    "bucket": _other_bucket,
    "origin is asked for": functools.partial(_with_parameter, b"origin"),
    "website is asked for": functools.partial(_with_parameter, b"website=x"),
}


@pytest.mark.parametrize("what", TAMPERINGS)
@pytest.mark.parametrize("name", CASES)
def test_a_changed_request_is_refused_w13(name, what):
    request, now = _made(name)
    error = _refused(TAMPERINGS[what](request), now)
    assert (error.status, error.code) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("cos put_bucket_origin", "content-md5"),
        ("cos put_bucket_origin", "content-type"),
        ("oss_v2 v4 put_bucket_website", "content-md5"),
        ("oss_v2 v4 put_bucket_website", "content-type"),
        ("oss_v2 v1 put_bucket_website", "content-md5"),
        ("oss_v2 v1 put_bucket_website", "content-type"),
        ("oss2 v1 put_bucket_website", "content-md5"),
        ("oss2 v4 put_bucket_website", "content-md5"),
    ],
)
def test_a_changed_content_header_is_refused_w13(name, header):
    request, now = _made(name)
    assert request.header(header)
    error = _refused(_with_header(request, header, "AAAAAAAAAAAAAAAAAAAAAA=="), now)
    assert error.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("name", [name for name, (scheme, _) in CASES.items() if scheme in {"cos", "aws-v4"}])
def test_a_changed_host_is_refused_w13(name):
    request, now = _made(name)
    assert _refused(_with_header(request, "host", "evil.example"), now).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("name", CASES)
def test_a_changed_signature_is_refused_w13(name):
    request, now = _made(name)
    flipped = _flip_signature(request)
    assert flipped != request
    assert _refused(flipped, now).code == "SignatureDoesNotMatch"


def _flip_signature(request: SignedRequest) -> SignedRequest:
    def flip(text: str, mark: str) -> str:
        at = text.index(mark) + len(mark)
        return text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :]

    authorization = request.header("authorization")
    if authorization:
        mark = next(
            mark
            for mark in ("q-signature=", "Signature=", f"OSS {KEY_ID}:", f"AWS {KEY_ID}:")
            if mark in authorization
        )
        return _with_header(request, "authorization", flip(authorization, mark))
    query = request.query.decode()
    mark = next(
        mark
        for mark in ("q-signature=", "x-oss-signature=", "X-Amz-Signature=", "Signature=")
        if mark in query
    )
    return dataclasses.replace(request, query=flip(query, mark).encode())


@pytest.mark.parametrize("minutes", [-16, 16])
@pytest.mark.parametrize(
    "name", [name for name, (scheme, _) in CASES.items() if "presigned" not in name and scheme != "cos"]
)
def test_a_clock_beyond_fifteen_minutes_is_refused_w13(name, minutes):
    request, now = _made(name)
    verify(request, KEYS, now + minutes / 16 * 14 * MINUTE)
    error = _refused(request, now + minutes * MINUTE)
    assert (error.status, error.code) == (403, "RequestTimeTooSkewed")


@pytest.mark.parametrize(
    "name", ["cos put_bucket_origin", "cos presigned", "oss2 v4 presigned", "boto3 presigned v4"]
)
def test_a_signature_from_the_future_is_refused_as_skewed_w13(name):
    request, now = _made(name)
    error = _refused(request, now - 20 * MINUTE)
    assert (error.status, error.code) == (403, "RequestTimeTooSkewed")


@pytest.mark.parametrize("name", [name for name in CASES if "presigned" in name or name.startswith("cos ")])
def test_an_expired_signature_is_refused_w13(name):
    request, now = _made(name)
    error = _refused(request, now + 11_000)
    assert (error.status, error.code) == (403, "AccessDenied")
    assert "expired" in error.message


@pytest.mark.parametrize("name", CASES)
def test_the_key_is_checked_before_the_time_and_the_time_before_the_signature_w13(name):
    request, now = _made(name)
    flipped, much_later = _flip_signature(request), now + 30 * 24 * 60 * MINUTE
    assert _refused(flipped, much_later, Keyring(pairs={"another": "x"})).code == "InvalidAccessKeyId"
    assert _refused(flipped, much_later).code in {"RequestTimeTooSkewed", "AccessDenied"}
    assert _refused(flipped, now).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("name", ["boto3 put_bucket_website"])
def test_a_signed_hash_is_compared_with_the_body_w13(name):
    request, now = _made(name)
    assert len(request.header("x-amz-content-sha256")) == 64
    changed = dataclasses.replace(request, body=(request.body or b"") + b" ")
    assert _refused(changed, now).code == "XAmzContentSHA256Mismatch"
    verify(dataclasses.replace(request, body=None), KEYS, now)  # not read: nothing to compare


def test_an_unsigned_payload_is_accepted_and_a_changed_word_is_not():
    client = s3_client(8080, payload_signing_enabled=False)
    with caught_boto(client) as seen:
        client.put_bucket_website(Bucket="site", WebsiteConfiguration={"ErrorDocument": {"Key": "x"}})
    request, now = seen.only, time.time()
    assert request.header("x-amz-content-sha256") == "UNSIGNED-PAYLOAD"
    assert verify(request, KEYS, now).scheme == "aws-v4"
    chunked = _with_header(request, "x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    assert _refused(chunked, now).code == "NotImplemented"
    hashed = _with_header(request, "x-amz-content-sha256", "0" * 64)
    assert _refused(dataclasses.replace(hashed, body=None), now).code == "SignatureDoesNotMatch"


def test_virtual_hosts_are_signed_too():
    for version in ("s3v4", "s3"):
        client = s3_client(8080, signature_version=version, style="virtual")
        url = client.generate_presigned_url("get_object", Params={"Bucket": "site", "Key": ODD_KEY})
        verify(url_request(url), KEYS, time.time())


def test_a_cos_link_is_good_with_and_without_the_port_in_host():
    """The SDK signs the bare name even where the URL has a port."""
    client = cos_client_by_name(Endpoint="cos.local.example:8080")
    request = url_request(client.get_presigned_url(Bucket=COS_BUCKET, Key=ODD_KEY, Method="GET"))
    assert request.header("host") == f"{COS_BUCKET}.cos.local.example:8080"
    verify(request, KEYS, time.time())
    verify(_with_header(request, "host", f"{COS_BUCKET}.cos.local.example"), KEYS, time.time())


def test_a_cos_signature_without_the_sub_resource_is_not_one_for_rules():
    """`SignParams=False` leaves `origin` out: the same signature would then also allow the bucket itself."""
    with caught() as seen:
        cos_client(8080, SignParams=False).delete_bucket_origin(Bucket=COS_BUCKET)
    error = _refused(seen.only, time.time())
    assert error.code == "SignatureDoesNotMatch"
    assert "q-url-param-list" in error.message


def _bare(**headers: str) -> SignedRequest:
    return SignedRequest(
        method="GET",
        raw_path=b"/site/",
        query=b"origin",
        headers=tuple(headers.items()),
        bucket="site",
        object_path=b"/",
    )


def test_a_bearer_token_is_accepted_w13():
    assert verify(_bare(authorization="Bearer token-of-the-admin-side"), KEYS, 0).key_id == "token"
    assert verify(_bare(authorization="bearer  token-of-the-admin-side "), KEYS, 0).scheme == "bearer"


@pytest.mark.parametrize("token", ["", "token-of-the-admin-sid", "token-of-the-admin-side2", "é"])
def test_another_bearer_token_is_refused_w13(token):
    error = _refused(_bare(authorization=f"Bearer {token}"), 0)
    assert (error.status, error.code) == (403, "AccessDenied")


def test_no_bearer_token_is_accepted_when_none_is_configured():
    assert _refused(_bare(authorization="Bearer "), 0, Keyring(pairs={KEY_ID: SECRET})).code == "AccessDenied"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 403, "AccessDenied"),
        ({"authorization": "Basic dXNlcjpwYXNz"}, 403, "AccessDenied"),
        ({"authorization": "OSS "}, 403, "InvalidAccessKeyId"),
        ({"authorization": f"OSS {KEY_ID}:x"}, 403, "AccessDenied"),
        ({"authorization": f"AWS {KEY_ID}:x"}, 403, "AccessDenied"),
        ({"authorization": "AWS4-HMAC-SHA256"}, 403, "InvalidAccessKeyId"),
        ({"authorization": f"AWS4-HMAC-SHA256 Credential={KEY_ID}/x"}, 403, "AccessDenied"),
        ({"authorization": f"AWS4-HMAC-SHA256 Credential={KEY_ID}/2/r/s3/aws4_request"}, 403, "AccessDenied"),
        ({"authorization": f"OSS4-HMAC-SHA256 Credential={KEY_ID}/20261121/r/oss/x"}, 403, "AccessDenied"),
        ({"authorization": "OSS2 AccessKeyId:x,Signature:y"}, 403, "AccessDenied"),
        ({"authorization": "q-sign-algorithm=md5&q-ak=x"}, 400, "InvalidArgument"),
        ({"authorization": f"q-sign-algorithm=sha1&q-ak={KEY_ID}"}, 403, "AccessDenied"),
    ],
)
def test_what_is_no_signature_is_refused_and_never_a_crash_w13(headers, status, code):
    error = _refused(_bare(**headers), 1_795_236_521.0)
    assert (error.status, error.code) == (status, code)


def test_a_signature_in_the_header_and_in_the_query_is_refused():
    request, now = _made("boto3 presigned v4")
    both = dataclasses.replace(request, headers=(*request.headers, ("authorization", "Bearer x")))
    assert _refused(both, now).status == 400


def test_a_header_that_must_be_signed_by_aws_v4_is_host():
    request, now = _made("boto3 object")
    authorization = request.header("authorization").replace("host;", "")
    assert "Host" in _refused(_with_header(request, "authorization", authorization), now).message


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("boto3 object", "SignedHeaders="),
        ("cos object", "q-header-list="),
        ("cos object", "q-url-param-list="),
    ],
)
def test_a_list_of_signed_names_has_a_bound(name, mark):
    """Each name is looked up in the request: a list as long as a header would cost too much."""
    request, now = _made(name)
    long = request.header("authorization").replace(mark, mark + "x;" * 200)
    error = _refused(_with_header(request, "authorization", long), now)
    assert (error.status, error.code) == (400, "InvalidArgument")


def test_no_repr_shows_a_secret():
    assert SECRET not in repr(KEYS)
    assert "token-of-the-admin-side" not in repr(KEYS)
