"""Who the client is behind proxies, and what it may read (SEMANTICS.md 3.4, FIELD.md; DESIGN.md fact 13)."""

from __future__ import annotations

import pytest

from scheduler.config.settings import BucketSettings
from scheduler.front.auth import Keyring, Principal, SignedRequest
from scheduler.front.http.access import (
    NO_SUCH_BUCKET,
    NO_SUCH_KEY,
    Refusal,
    TrustedProxies,
    client_facts,
    may_read,
)

TRUSTED = TrustedProxies(("10.0.0.0/8", "192.0.2.7", "fd00::/8"))


def scope(peer="10.0.0.1", scheme="http", **headers):
    return {
        "client": (peer, 1234) if peer else None,
        "scheme": scheme,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }


def facts(**parts):
    found = client_facts(scope(**parts), TRUSTED)
    return (found.scheme, found.address, found.host, found.trusted)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # nobody forwards
        ({"peer": "198.51.100.9", "host": "a.example:80"}, ("http", "198.51.100.9", "a.example:80", False)),
        ({"peer": "198.51.100.9", "scheme": "https", "host": "a"}, ("https", "198.51.100.9", "a", False)),
        # a stranger's word is worth nothing
        (
            {
                "peer": "198.51.100.9",
                "host": "a",
                "x_forwarded_proto": "https",
                "x_forwarded_for": "127.0.0.1",
                "x_forwarded_host": "evil",
            },
            ("http", "198.51.100.9", "a", False),
        ),
        # a trusted proxy's is
        (
            {
                "host": "upstream",
                "x_forwarded_proto": "https",
                "x_forwarded_for": "203.0.113.5",
                "x_forwarded_host": "www.example",
            },
            ("https", "203.0.113.5", "www.example", True),
        ),
        # the last address that is not ours; what stands before it is hearsay
        (
            {"host": "a", "x_forwarded_for": "127.0.0.1, 203.0.113.5, 10.9.9.9, 192.0.2.7"},
            ("http", "203.0.113.5", "a", True),
        ),
        ({"host": "a", "x_forwarded_for": "10.1.1.1, 10.2.2.2"}, ("http", "10.1.1.1", "a", True)),
        ({"host": "a", "x_forwarded_for": "203.0.113.5, unknown"}, ("http", "10.0.0.1", "a", True)),
        ({"host": "a", "x_forwarded_for": "203.0.113.5:5060"}, ("http", "203.0.113.5", "a", True)),
        ({"host": "a", "x_forwarded_for": "[2001:db8::5]:5060"}, ("http", "2001:db8::5", "a", True)),
        ({"host": "a"}, ("http", "10.0.0.1", "a", True)),
        # several values: the nearest proxy's
        ({"host": "a", "x_forwarded_proto": "http, HTTPS"}, ("https", "10.0.0.1", "a", True)),
        ({"host": "a", "x_forwarded_proto": "gopher"}, ("http", "10.0.0.1", "a", True)),
        # IPv6, and IPv4 inside it
        (
            {"peer": "::ffff:10.0.0.1", "host": "a", "x_forwarded_proto": "https"},
            ("https", "::ffff:10.0.0.1", "a", True),
        ),
        ({"peer": "fd00::7", "host": "a", "x_forwarded_proto": "https"}, ("https", "fd00::7", "a", True)),
        # no peer: a Unix socket
        ({"peer": "", "host": "a", "x_forwarded_proto": "https"}, ("http", "", "a", False)),
    ],
)  # fmt: skip
def test_forwarded_headers_count_only_from_trusted_proxies_3_4(parts, expected):
    assert facts(**parts) == expected


def test_nothing_is_trusted_by_default():
    found = client_facts(scope(host="a", x_forwarded_proto="https"), TrustedProxies())
    assert (found.scheme, found.trusted) == ("http", False)


def test_the_host_name_is_without_port():
    assert client_facts(scope(host="A.Example:80"), TRUSTED).host_name == "a.example"


REQUEST = SignedRequest(method="GET", raw_path=b"/site/k", bucket="site", object_path=b"/k")
KEYS = Keyring(pairs={"id": "secret"}, tokens=("t",))


def test_only_configured_buckets_exist():
    assert may_read(None, "k", REQUEST, KEYS, 0.0) is NO_SUCH_BUCKET


def test_a_public_bucket_asks_for_nothing():
    assert may_read(BucketSettings(), "k", REQUEST, KEYS, 0.0) is None


def test_a_signed_bucket_asks_for_a_signature():
    signed = BucketSettings(access="signed")
    refused = may_read(signed, "k", REQUEST, KEYS, 0.0)
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.code) == (403, "AccessDenied")
    with_token = SignedRequest(
        method="GET",
        raw_path=b"/site/k",
        headers=(("authorization", "Bearer t"),),
        bucket="site",
        object_path=b"/k",
    )
    assert may_read(signed, "k", with_token, KEYS, 0.0) == Principal(key_id="token", scheme="bearer")
    assert may_read(signed, ".ferryman/x", with_token, KEYS, 0.0) is NO_SUCH_KEY


def test_reserved_keys_do_not_exist_and_an_unsigned_client_does_not_learn_it():
    assert may_read(BucketSettings(), ".ferryman/x", REQUEST, KEYS, 0.0) is NO_SUCH_KEY
    refused = may_read(BucketSettings(access="signed"), ".ferryman/x", REQUEST, KEYS, 0.0)
    assert isinstance(refused, Refusal)
    assert refused.code == "AccessDenied"


def test_a_signed_bucket_without_configured_keys_opens_to_nobody():
    refused = may_read(BucketSettings(access="signed"), "k", REQUEST, Keyring(), 0.0)
    assert isinstance(refused, Refusal)
