"""Bucket lookup: Host, vendor names, path (SEMANTICS.md section 9, *Bucket lookup*)."""

from __future__ import annotations

import pytest

from scheduler.config.settings import BucketSettings
from scheduler.front.http.bucket_address import BucketLookup, host_name
from workers.origin.wire.addresses import is_loopback

LOOKUP = BucketLookup(
    domains=("objects.example", ".cdn.example."),
    hosts={"www.site.example": "site", "Static.Site.Example:8080": "static"},
)


@pytest.mark.parametrize(
    ("host", "raw_path", "bucket", "object_path", "path_style"),
    [
        ("site.objects.example", b"/a/b.txt", "site", b"/a/b.txt", False),
        ("SITE.Objects.Example:8080", b"/a", "site", b"/a", False),
        ("my.site.objects.example.", b"/a", "my.site", b"/a", False),
        ("x.cdn.example", b"", "x", b"/", False),
        ("objects.example", b"/site/a", "site", b"/a", True),
        ("notobjects.example", b"/site/a", "site", b"/a", True),
        ("b-1250000000.cos.ap-shanghai.myqcloud.com", b"/k", "b-1250000000", b"/k", False),
        ("b-1250000000.cos.local.myqcloud.com:80", b"/", "b-1250000000", b"/", False),
        ("site.oss-cn-hangzhou.aliyuncs.com", b"/k%20k", "site", b"/k%20k", False),
        (".cos.ap-shanghai.myqcloud.com", b"/site/k", "site", b"/k", True),
        ("www.site.example", b"/a", "site", b"/a", False),
        ("WWW.site.example:443", b"/a", "site", b"/a", False),
        ("static.site.example", b"/a", "static", b"/a", False),
        ("127.0.0.1:8080", b"/site/a//b", "site", b"/a//b", True),
        ("localhost", b"/site", "site", b"/", True),
        ("localhost:8080", b"/site/", "site", b"/", True),
        ("[::1]:8080", b"/site/k", "site", b"/k", True),
        ("::1", b"/site/k", "site", b"/k", True),
        ("", b"/site/k", "site", b"/k", True),
        ("anything.example", b"/si%74e/%2e", "site", b"/%2e", True),
        ("anything.example", b"/", "", b"/", True),
        ("anything.example", b"//k", "", b"/k", True),
    ],
)
def test_a_bucket_is_found_in_host_or_path(host, raw_path, bucket, object_path, path_style):
    found = LOOKUP.find(host, raw_path)
    assert (found.bucket, found.object_path, found.path_style) == (bucket, object_path, path_style)


def test_the_bucket_itself_is_told_from_what_is_in_it():
    assert LOOKUP.find("", b"/site").is_bucket
    assert LOOKUP.find("", b"/site/").is_bucket
    assert LOOKUP.find("site.objects.example", b"/").is_bucket
    assert not LOOKUP.find("", b"/site/k").is_bucket
    assert not LOOKUP.find("", b"/site//").is_bucket


def test_an_address_is_path_style_even_where_a_domain_or_name_would_fit():
    lookup = BucketLookup(domains=("0.1",), hosts={})
    assert lookup.find("127.0.0.1", b"/site/k").bucket == "site"


def test_names_of_buckets_come_from_their_settings():
    lookup = BucketLookup.of(
        ("o.example",), {"site": BucketSettings(hosts=("www.example",)), "b": BucketSettings()}
    )
    assert lookup.find("www.example", b"/k").bucket == "site"
    assert lookup.find("b.o.example", b"/k").bucket == "b"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("A.Example:80", "a.example"),
        ("[::1]:80", "::1"),
        ("::1", "::1"),
        ("a.example.", "a.example"),
        ("", ""),
    ],
)
def test_a_host_header_is_reduced_to_its_name(header, name):
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("a.example", False),
        ("", False),
    ],
)
def test_loopback_is_known(host, loopback):
    assert is_loopback(host) is loopback
