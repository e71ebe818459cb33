"""Any key and any query that an SDK signs is verified, and no other key opens with the same signature."""

from __future__ import annotations

import dataclasses
import functools
import time

import alibabacloud_oss_v2 as oss_v2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduler.front.auth import AuthError, Keyring, verify
from scheduler.front.auth.encoding import fields, http_time, query_pairs, query_value
from support.vendor_sdks import (
    KEY_ID,
    SECRET,
    cos_client_by_name,
    oss2_bucket,
    oss_v2_client,
    s3_client,
    url_request,
)

#: oss2 signs version 4 with a call that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning:oss2")

KEYS = Keyring(pairs={KEY_ID: SECRET})
#: Letters, what URLs and canonical forms treat specially, and any other text; no key begins with a slash,
#: because SDKs and HTTP clients each do something of their own with it.
_CHARACTERS = st.one_of(
    st.sampled_from("ab/ +%&=?#;:@,~!*'()\"\\|.-_é中\U0001f40d"), st.characters(exclude_categories=["C"])
)
ODD_KEYS = st.text(_CHARACTERS, min_size=1, max_size=40).filter(
    lambda key: (
        key.strip() == key and key[0] not in "/\\?" and ".." not in key and "/." not in key and key != "."
    )
)
ODD_VALUES = st.text(_CHARACTERS, min_size=1, max_size=20).filter(lambda value: value.strip() == value)


@functools.cache
def _client(name: str):
    return {
        "cos": cos_client_by_name,
        "oss_v2 v1": lambda: oss_v2_client(8080, signature_version="v1"),
        "oss_v2 v4": lambda: oss_v2_client(8080),
        "oss2 v1": lambda: oss2_bucket(8080, "site"),
        "oss2 v4": lambda: oss2_bucket(8080, "site", v4=True),
        "boto3 v2": lambda: s3_client(8080),
        "boto3 v4": lambda: s3_client(8080, signature_version="s3v4"),
    }[name]()


def _link(name: str, key: str, value: str) -> str:
    client = _client(name)
    if name == "cos":
        parameters = {"response-content-disposition": value}
        return client.get_presigned_url(Bucket="site-1250000000", Key=key, Method="GET", Params=parameters)
    if name.startswith("oss_v2"):
        request = oss_v2.GetObjectRequest(bucket="site", key=key, response_content_disposition=value)
        return client.presign(request).url
    if name.startswith("oss2"):
        return client.sign_url("GET", key, 600, params={"response-content-disposition": value})
    parameters = {"Bucket": "site", "Key": key, "ResponseContentDisposition": value}
    return client.generate_presigned_url("get_object", Params=parameters)


@pytest.mark.parametrize(
    "name", ["cos", "oss_v2 v1", "oss_v2 v4", "oss2 v1", "oss2 v4", "boto3 v2", "boto3 v4"]
)
@given(key=ODD_KEYS, value=ODD_VALUES)
@example(key="a b+c//d%2F%25.txt", value='attachment; filename="a+b c.txt"')
@example(key="q?1#2&x=y;z", value="a=b&c")
@settings(max_examples=60, deadline=None)
def test_a_link_for_any_key_is_verified_and_opens_no_other(name, key, value):
    request = url_request(_link(name, key, value))
    now = time.time()
    assert verify(request, KEYS, now).key_id == KEY_ID
    other = dataclasses.replace(
        request, raw_path=request.raw_path + b"0", object_path=request.object_path + b"0"
    )
    with pytest.raises(AuthError) as refused:
        verify(other, KEYS, now)
    assert refused.value.code == "SignatureDoesNotMatch"
    again = request.query.replace(b"response-content-disposition=", b"response-content-disposition=0", 1)
    with pytest.raises(AuthError) as changed:
        verify(dataclasses.replace(request, query=again), KEYS, now)
    assert changed.value.code == "SignatureDoesNotMatch"


@given(raw=st.binary(max_size=80), authorization=st.text(st.characters(max_codepoint=255), max_size=80))
@settings(max_examples=300, deadline=None)
def test_rubbish_is_refused_and_never_a_crash(raw, authorization):
    base = url_request("http://127.0.0.1/site/k")
    for start in (
        "",
        "OSS ",
        "AWS ",
        "AWS4-HMAC-SHA256 ",
        "OSS4-HMAC-SHA256 ",
        "Bearer ",
        "q-sign-algorithm=",
    ):
        text = f"{start}{authorization}".strip()
        headers = (*base.headers, ("authorization", text), ("date", "x"))
        for query in (raw, b"X-Amz-Algorithm=" + raw, b"q-sign-algorithm=" + raw, b"OSSAccessKeyId=" + raw):
            for request in (
                dataclasses.replace(base, headers=headers, query=raw),
                dataclasses.replace(base, query=query),
            ):
                with pytest.raises(AuthError) as refused:
                    verify(request, KEYS, 1_795_236_521.0)
                assert refused.value.status in {400, 403, 501}


def test_a_parameter_that_is_given_twice_counts_as_absent():
    """Otherwise one reader could check one of them and another use the other."""
    assert query_value(b"a=1&a=2", "a") is None
    assert fields("a=1,a=2,b=3", ",") == {"b": "3"}
    assert query_pairs(b"a&&b=&c=1=2") == ((b"a", b""), (b"b", b""), (b"c", b"1=2"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20261121T034841Z", 1795232921.0),
        ("Sat, 21 Nov 2026 03:48:41 GMT", 1795232921.0),
        ("20261121T034841", None),
        ("20261341T034841Z", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times_are_read_in_both_spellings(text, seconds):
    assert http_time(text) == seconds
