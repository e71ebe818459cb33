"""Who signed: every scheme, in headers, in queries and in forms. Nothing that is made up is ever accepted."""

# ruff: noqa: E501, ISC004 -- inputs and words of a format read best unbroken

from __future__ import annotations

from functools import partial

from fuzz.target import Target, latin_headers
from scheduler.front import auth
from scheduler.front.auth import AuthError, Keyring, SignedRequest

_KEYS = Keyring(pairs={"AKID": "secret", "a/b": "other"}, tokens=("a token that nobody guesses",))
_NOW = 1795233395.0


def _verify(data: bytes, *, body: bytes | None) -> None:
    head, _, rest = data.partition(b"\n")
    method, _, target = head.partition(b" ")
    path, _, query = target.partition(b"?")
    headers = latin_headers(rest)
    request = SignedRequest(
        method=method.decode("latin-1"),
        raw_path=path,
        query=query,
        headers=headers,
        bucket="site",
        object_path=path,
        body=body,
    )
    authorization = request.header("authorization")
    auth.named_by_aws(authorization, query)
    principal = auth.verify(request, _KEYS, _NOW)
    msg = f"nobody signed this, and it is taken for {principal}"
    raise AssertionError(msg)


def _form(data: bytes) -> None:
    fields = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        name, _, value = line.partition("=")
        fields[name.lower()] = value
    raise AssertionError(auth.verify_form(fields, _KEYS))


_V4 = (
    b"GET /site/a?b=1\nhost: a.example\nx-amz-date: 20261121T035635Z\nx-amz-content-sha256: UNSIGNED-PAYLOAD\n"
    b"authorization: AWS4-HMAC-SHA256 Credential=AKID/20261121/us-east-1/s3/aws4_request, "
    b"SignedHeaders=host;x-amz-date, Signature=" + b"0" * 64
)
_PRESIGNED = (
    b"GET /site/a?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F20261121%2Fus-east-1%2Fs3%2Faws4_request"
    b"&X-Amz-Date=20261121T035635Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00\nhost: a.example"
)
_OSS4 = (
    b"PUT /site/a\nx-oss-date: 20261121T035635Z\nx-oss-content-sha256: UNSIGNED-PAYLOAD\nauthorization: "
    b"OSS4-HMAC-SHA256 Credential=AKID/20261121/cn-x/oss/aliyun_v4_request,AdditionalHeaders=host,Signature=00"
)
_OSS4_QUERY = (
    b"GET /site/a?x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential=AKID%2F20261121%2Fcn%2Foss%2F"
    b"aliyun_v4_request&x-oss-date=20261121T035635Z&x-oss-expires=9&x-oss-signature=0\nhost: a"
)
_COS = (
    b"GET /a\nhost: a.example\nauthorization: q-sign-algorithm=sha1&q-ak=AKID&q-sign-time=1795233000;1795234000"
    b"&q-key-time=1795233000;1795234000&q-header-list=host&q-url-param-list=&q-signature=00"
)
_WORDS = (
    b"authorization: ", b"AWS4-HMAC-SHA256 ", b"Credential=", b"SignedHeaders=", b"Signature=", b"X-Amz-Expires=", b"host;",
    b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", b"q-header-list=", b"q-url-param-list=", b"q-sign-time=", b"a/b", b"AKID",
    b"AdditionalHeaders=", b"Expires=", b"Bearer ", b"x-amz-date: ", b"date: ", b"%2F", b"&&", b";;", b"00000000T000000Z",
)  # fmt: skip

TARGETS = (
    *(
        Target(
            name=name,
            read=partial(_verify, body=body),
            seeds=(
                _V4, _PRESIGNED, _OSS4, _OSS4_QUERY, _COS,
                b"GET /site/a\ndate: Sat, 21 Nov 2026 03:56:35 GMT\nauthorization: AWS AKID:AAAA",
                b"GET /site/a\ndate: Sat, 21 Nov 2026 03:56:35 GMT\nauthorization: OSS AKID:AAAA\nx-oss-a: 1",
                b"GET /site/a?AWSAccessKeyId=AKID&Signature=AA&Expires=1795233999&response-expires=0\nhost: a",
                b"GET /site/a?OSSAccessKeyId=AKID&Signature=AA&Expires=1795233999\nhost: a",
                b"GET /site/a?q-sign-algorithm=sha1&q-ak=AKID&q-sign-time=1;2&q-key-time=1;2&q-header-list=&q-url-param-list=&q-signature=0\n",
                b"GET /a\nauthorization: Bearer x",
            ),
            words=_WORDS,
            refuses=(AuthError,),
            max_bytes=2048,
        )
        for name, body in (("signatures", None), ("signatures-of-bodies", b"<xml/>"))
    ),
    Target(
        name="form-signatures",
        read=_form,
        seeds=(
            b"policy=e30=\nx-amz-algorithm=AWS4-HMAC-SHA256\nx-amz-credential=AKID/20261121/us-east-1/s3/aws4_request\n"
            b"x-amz-date=20261121T035635Z\nx-amz-signature=00",
            b"policy=e30=\nAWSAccessKeyId=AKID\nsignature=AAAA",
        ),
        words=(b"policy=", b"x-amz-credential=", b"AWSAccessKeyId=", b"AKID", b"a/b"),
        refuses=(AuthError,),
        max_bytes=1024,
    ),
)  # fmt: skip
