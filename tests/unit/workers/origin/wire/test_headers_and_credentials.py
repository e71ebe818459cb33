"""Request headers (H5, H6, H11) and authentication (F27)."""

from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from workers.errors import ConfigError, CredentialMissing
from workers.origin.wire.connector import check_name
from workers.origin.wire.credentials import Credentials
from workers.origin.wire.headers import HOP_HEADER, USER_AGENT, fixed_headers, request_headers, went_through
from workers.settings import CredentialSettings


def test_the_fixed_headers_ask_for_the_bytes_as_they_are():
    """H6, P10."""
    assert fixed_headers("i1") == {
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
        HOP_HEADER: "i1",
    }


def test_new_headers_replace_passed_ones_and_empty_ones_do_nothing():
    """H5, F15."""
    passed = (("X-A", "1"), ("x-b", "2"), ("Accept-Encoding", "gzip"))
    new = (("X-a", "9"), ("X-B", ""), ("X-C", "3"))
    assert request_headers(passed, new, instance="i") == [("x-b", "2"), ("X-a", "9"), ("X-C", "3")]


def test_the_hop_marker_grows_so_that_two_installations_find_their_loop():
    """H11."""
    headers = request_headers((("x-ferryman-hop", "other"),), (), instance="me")
    assert headers == [(HOP_HEADER, "other, me")]
    assert went_through(tuple(headers), "me")
    assert went_through(tuple(headers), "other")
    assert not went_through(tuple(headers), "th")
    assert not went_through((("X-Ferryman-Hop", ""),), "")


def test_basic_and_bearer_come_from_settings_or_files(tmp_path):
    secret = tmp_path / "token"
    secret.write_text("t0k\n")
    known = Credentials(
        {
            "a": CredentialSettings(type="basic", username="u", password=SecretStr("p:w")),
            "b": CredentialSettings(type="bearer", token_file=secret),
        }
    )
    assert known.headers("a", "GET", "http://o/") == [("Authorization", "Basic dTpwOnc=")]
    assert known.headers("b", "GET", "http://o/") == [("Authorization", "Bearer t0k")]
    assert "t0k" not in repr(known)


def test_an_unknown_credential_is_a_listed_failure_and_an_unreadable_file_a_configuration_error(tmp_path):
    known = Credentials({"b": CredentialSettings(type="bearer", token_file=tmp_path / "none")})
    with pytest.raises(CredentialMissing, match="nobody"):
        known.headers("nobody", "GET", "http://o/")
    with pytest.raises(ConfigError, match="none"):
        known.headers("b", "GET", "http://o/")


def test_sigv4_agrees_with_an_independent_signer():
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as Keys

    settings = CredentialSettings(
        type="s3v4", access_key_id="AKID", secret_access_key=SecretStr("SECRET"), region="eu-west-1"
    )
    url = "http://o.example:9000/bucket/a%20b%2Bc//d.txt"
    signer = S3SigV4Auth(Keys("AKID", "SECRET"), "s3", "eu-west-1")
    for _ in range(3):  # theirs reads the clock by itself, and a second may turn between both
        now = datetime.now(UTC).replace(microsecond=0)
        ours = dict(Credentials({"s": settings}).headers("s", "GET", url, now=now))
        request = AWSRequest(method="GET", url=url)
        signer.add_auth(request)
        theirs = request.headers
        if theirs["X-Amz-Date"] == ours["X-Amz-Date"]:
            break
    assert theirs["X-Amz-Date"] == ours["X-Amz-Date"]
    assert ours["Authorization"].split("Signature=")[1] == theirs["Authorization"].split("Signature=")[1]


@pytest.mark.parametrize(
    ("host", "names", "good"),
    [
        ("o.example", (("DNS", "o.example"),), True),
        ("O.Example.", (("DNS", "o.example"),), True),
        ("a.o.example", (("DNS", "*.o.example"),), True),
        ("a.b.o.example", (("DNS", "*.o.example"),), False),
        ("o.example", (("DNS", "*.example"),), True),
        ("192.0.2.1", (("IP Address", "192.0.2.1"),), True),
        ("192.0.2.1", (("DNS", "192.0.2.1"),), True),
        ("o.example", (), False),
    ],
)
def test_names_are_checked_by_us_where_no_sni_is_sent(host, names, good):
    """F19."""
    import ssl

    if good:
        check_name(host, {"subjectAltName": names})
    else:
        with pytest.raises(ssl.SSLError, match="not for"):
            check_name(host, {"subjectAltName": names})
