"""SigV4 compared with the C signer that boto3 uses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from awscrt import auth, http
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.store.wire.addressing import Endpoint, encode_key, encode_query
from workers.store.wire.signing import EMPTY_SHA256, UNSIGNED, Credentials, Signer

NOW = 1_767_225_600.0

#: One for many requests, as in a process: what it remembers of one must not reach another.
SIGNER = Signer("eu-west-1")

HEADER_TEXT = st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)


def theirs(credentials, method, path, headers, payload):
    """What awscrt says for the same request."""
    provider = auth.AwsCredentialsProvider.new_static(
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.token or None,
    )
    request = http.HttpRequest(method, path, http.HttpHeaders(list(headers.items())))
    config = auth.AwsSigningConfig(
        algorithm=auth.AwsSigningAlgorithm.V4,
        signature_type=auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
        credentials_provider=provider,
        region="eu-west-1",
        service="s3",
        date=datetime.fromtimestamp(NOW, UTC),
        use_double_uri_encode=False,
        should_normalize_uri_path=False,
        signed_body_value=payload,
        signed_body_header_type=auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
    )
    signed = auth.aws_sign_request(request, config).result()
    return {name.lower(): value for name, value in signed.headers}


@pytest.mark.parametrize("token", ["", "a-session-token=="])
@pytest.mark.parametrize("payload", [EMPTY_SHA256, UNSIGNED])
@settings(max_examples=60, deadline=None)
@given(
    key=st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30),
    query=st.dictionaries(
        HEADER_TEXT.filter(lambda name: not name.lower().startswith("x-amz-")),
        st.text(alphabet="aZ9-._~ +/=&%\u00fc", max_size=8),
        max_size=4,
    ),
    meta=st.dictionaries(
        st.from_regex(r"x-amz-meta-[a-z0-9-]{1,10}", fullmatch=True), HEADER_TEXT, max_size=5
    ),
)
def test_signature_is_the_one_of_the_c_signer(token, payload, key, query, meta):
    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", token)
    raw_path, raw_query = f"/bucket/{encode_key(key)}", encode_query(query.items())
    headers = {"host": "127.0.0.1:8333", **meta}
    expected = theirs(
        credentials, "PUT", f"{raw_path}?{raw_query}" if raw_query else raw_path, headers, payload
    )
    SIGNER.sign(
        credentials,
        "PUT",
        raw_path,
        raw_query,
        headers,
        payload_sha256=payload,
        now=NOW,
    )
    assert headers["authorization"] == expected["authorization"]
    assert headers["x-amz-date"] == expected["x-amz-date"]


@pytest.mark.parametrize(
    "value", ["two  spaces   here", " before", "behind ", "a: b", "  ", "Sat, 28 Nov 2026 10:00:00 GMT"]
)
@pytest.mark.parametrize("name", ["x-amz-meta-a", "zz"])
def test_spaces_in_values_are_signed_as_the_standard_has_them(name, value):
    credentials = Credentials("AKID", "secret")
    headers = {"host": "h", name: value}
    expected = theirs(credentials, "GET", "/b/k", headers, EMPTY_SHA256)
    SIGNER.sign(credentials, "GET", "/b/k", "", headers, payload_sha256=EMPTY_SHA256, now=NOW)
    assert headers["authorization"] == expected["authorization"]


def test_what_is_kept_between_requests_is_that_of_the_same_secret_day_and_names():
    kept = Signer("eu-west-1")
    for turn in range(3):
        for secret in ("one", "two", "x" * 80):
            for now in (NOW, NOW + 86_400, NOW + 1):
                for names in (("host", "b", "a"), ("a", "b", "host"), ("host",)):
                    mine = {name: f"{name}-{turn}" for name in names}
                    fresh = dict(mine)
                    for signer, headers in ((kept, mine), (Signer("eu-west-1"), fresh)):
                        signer.sign(
                            Credentials("AKID", secret), "PUT", "/b/k", "", headers,
                            payload_sha256=UNSIGNED, now=now,
                        )  # fmt: skip
                    assert mine == fresh


def test_more_shapes_of_requests_than_are_kept_are_signed_all_the_same():
    kept, credentials = Signer("eu-west-1"), Credentials("AKID", "secret")
    for number in [*range(600), 0, 599]:
        headers = {"host": "h", f"x-{number}": "v"}
        fresh = dict(headers)
        for signer, some in ((kept, headers), (Signer("eu-west-1"), fresh)):
            signer.sign(credentials, "GET", "/b/k", "", some, payload_sha256=EMPTY_SHA256, now=NOW)
        assert headers == fresh


def test_query_is_sorted_by_name_where_one_name_begins_with_another():
    assert encode_query([("00", ""), ("0", "b"), ("0", "a")]) == "0=a&0=b&00="


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        ("a b", "a%20b"),
        ("a+b", "a%2Bb"),
        ("a%20b", "a%2520b"),
        ("a//b/", "a//b/"),
        ("e\u0301", "e%CC%81"),
        ("q?1#2", "q%3F1%232"),
        ("a=b&c,(d)@e:f!", "a%3Db%26c%2C%28d%29%40e%3Af%21"),
        (".well-known/~x", ".well-known/~x"),
        ("d/../x", "d/../x"),
        ("\x01", "%01"),
    ],
)
def test_p16_key_is_encoded_once_and_reaches_the_request_line_unchanged(key, encoded):
    """P16, P17, U22 to U36: one key, one path; nothing is normalised on the way."""
    assert encode_key(key) == encoded
    path = Endpoint("http://s3.example:9000").target("b", key)
    assert path.raw_path == f"/b/{encoded}"
    assert path.url.raw_path_qs == f"/b/{encoded}"
    assert (path.host, str(path.url)) == ("s3.example:9000", f"http://s3.example:9000/b/{encoded}")
    virtual = Endpoint("https://s3.example", addressing="virtual").target("b", key, "a=1")
    assert (virtual.host, virtual.raw_path) == ("b.s3.example", f"/{encoded}")
    assert virtual.url.raw_path_qs == f"/{encoded}?a=1"
