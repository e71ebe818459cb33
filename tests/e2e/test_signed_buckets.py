"""Objects of an `access: signed` bucket through links and requests of the SDKs, over the real store."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import alibabacloud_oss_v2 as oss_v2
import boto3
import oss2
import pytest
import requests
from botocore.config import Config as BotoConfig

from scheduler.config.settings import Settings
from support.origin.wire_server import running_wire_server
from support.vendor_sdks import (
    KEY_ID,
    SECRET,
    cos_client,
    cos_client_by_name,
    oss2_bucket,
    oss_v2_client,
    s3_client,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.origin.wire_server import WireServer

pytestmark = [
    pytest.mark.real,
    # oss2 signs version 4 with a call that Python 3.12 deprecates.
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning:oss2"),
]

KEY = "dir/a b+c/100% é中.txt"
BODY = b"only for those who sign"


@pytest.fixture(scope="module")
def names() -> tuple[str, str]:
    """A signed and a public bucket."""
    suffix = uuid.uuid4().hex[:8]
    return f"signed-{suffix}", f"public-{suffix}"


@pytest.fixture(scope="module")
def server(seaweed, valkey_url, tmp_path_factory, names) -> Iterator[WireServer]:
    signed, public = names
    store = boto3.client(
        "s3",
        endpoint_url=seaweed.endpoint,
        aws_access_key_id=seaweed.access_key_id,
        aws_secret_access_key=seaweed.secret_access_key,
        region_name="us-east-1",
        config=BotoConfig(s3={"addressing_style": "path"}),
    )
    for bucket in names:
        store.create_bucket(Bucket=bucket)
        store.put_object(Bucket=bucket, Key=KEY, Body=BODY)
        store.put_object(Bucket=bucket, Key=".ferryman/report.json", Body=b"{}")
    settings = Settings.model_validate(
        {
            "gateway": {
                "access_keys": [{"id": KEY_ID, "secret": SECRET}],
                "trusted_proxies": ["127.0.0.1"],
            },
            "buckets": {signed: {"access": "signed"}, public: {}},
            "broker": {"url": valkey_url, "namespace": f"t{uuid.uuid4().hex[:8]}"},
            "store": {
                "endpoint": seaweed.endpoint,
                "access_key_id": seaweed.access_key_id,
                "secret_access_key": seaweed.secret_access_key,
            },
            "data_dir": tmp_path_factory.mktemp("signed-bucket"),
        }
    )
    with running_wire_server(settings) as running:
        yield running


def _links(port: int, bucket: str) -> dict[str, str]:
    boto = {"Bucket": bucket, "Key": KEY}
    request = oss_v2.GetObjectRequest(bucket=bucket, key=KEY)
    return {
        "boto3": s3_client(port).generate_presigned_url("get_object", Params=boto),
        "boto3 v4": s3_client(port, signature_version="s3v4").generate_presigned_url(
            "get_object", Params=boto
        ),
        "oss_v2 v4": oss_v2_client(port).presign(request).url,
        "oss_v2 v1": oss_v2_client(port, signature_version="v1").presign(request).url,
        "oss2 v1": oss2_bucket(port, bucket).sign_url("GET", KEY, 600),
        "oss2 v4": oss2_bucket(port, bucket, v4=True).sign_url("GET", KEY, 600),
    }


@pytest.mark.parametrize("sdk", ["boto3", "boto3 v4", "oss_v2 v4", "oss_v2 v1", "oss2 v1", "oss2 v4"])
def test_a_link_of_an_sdk_opens_one_object_and_no_other(server, names, sdk):
    link = _links(server.port, names[0])[sdk]
    answer = requests.get(link, timeout=10)
    assert (answer.status_code, answer.content) == (200, BODY)
    other = requests.get(link.replace("dir/", "dir2/").replace("dir%2F", "dir2%2F"), timeout=10)
    assert other.status_code == 403
    assert "<Code>SignatureDoesNotMatch</Code>" in other.text


def test_a_cos_link_opens_the_object(server, names):
    url = cos_client_by_name().get_presigned_url(Bucket=names[0], Key=KEY, Method="GET")
    parts = urlsplit(url)
    answer = requests.get(
        f"{server.endpoint}{parts.path}?{parts.query}", headers={"Host": parts.netloc}, timeout=10
    )
    assert (answer.status_code, answer.content) == (200, BODY)


def test_sdks_read_objects_with_signed_headers(server, names):
    bucket = names[0]
    assert s3_client(server.port).get_object(Bucket=bucket, Key=KEY)["Body"].read() == BODY
    assert s3_client(server.port).head_object(Bucket=bucket, Key=KEY)["ContentLength"] == len(BODY)
    assert oss2_bucket(server.port, bucket).get_object(KEY).read() == BODY
    assert oss2_bucket(server.port, bucket, v4=True).head_object(KEY).content_length == len(BODY)
    got = oss_v2_client(server.port).get_object(oss_v2.GetObjectRequest(bucket=bucket, key=KEY))
    assert got.body.content == BODY
    streamed = cos_client(server.port).get_object(Bucket=bucket, Key=KEY)["Body"]
    assert streamed.get_raw_stream().read() == BODY


def test_without_a_signature_the_object_and_its_absence_are_not_told(server, names):
    for key in (KEY, "nothing-here"):
        answer = requests.get(f"{server.endpoint}/{names[0]}/{requests.utils.quote(key)}", timeout=10)
        assert answer.status_code == 403
        assert "<Code>AccessDenied</Code>" in answer.text
    with pytest.raises(oss2.exceptions.ServerError) as refused:
        oss2.Bucket(oss2.Auth(KEY_ID, "wrong"), server.endpoint, names[0]).get_object(KEY)
    assert (refused.value.status, refused.value.code) == (403, "SignatureDoesNotMatch")


def test_a_link_is_good_through_a_trusted_proxy_that_replaces_host(server, names):
    link = s3_client(80, signature_version="s3v4", host="www.site.example").generate_presigned_url(
        "get_object", Params={"Bucket": names[0], "Key": KEY}
    )
    parts = urlsplit(link)
    here = f"{server.endpoint}{parts.path}?{parts.query}"
    assert requests.get(here, timeout=10).status_code == 403
    answer = requests.get(here, headers={"X-Forwarded-Host": parts.hostname}, timeout=10)
    assert (answer.status_code, answer.content) == (200, BODY)


def test_a_public_bucket_needs_none(server, names):
    answer = requests.get(f"{server.endpoint}/{names[1]}/{requests.utils.quote(KEY)}", timeout=10)
    assert (answer.status_code, answer.content) == (200, BODY)
    wrong = oss2.Bucket(oss2.Auth("nobody", "wrong"), server.endpoint, names[1]).get_object(KEY)
    assert wrong.read() == BODY


@pytest.mark.parametrize(
    "path",
    [
        "/.ferryman/report.json",
        "/%2Eferryman%2Freport.json",
        "//.ferryman//report.json",
        "/%5C.ferryman%5Creport.json",
        "/x%5C..%5C.ferryman/report.json",
    ],
)
def test_ferrymans_own_objects_are_never_served_however_the_store_reads_a_path(server, names, path):
    """SeaweedFS takes a backslash for a slash, and drops empty segments."""
    signed, public = names
    answer = requests.get(f"{server.endpoint}/{public}{path}", timeout=10)
    assert (answer.status_code, "<Code>NoSuchKey</Code>" in answer.text) == (404, True)
    link = s3_client(server.port).generate_presigned_url(
        "get_object", Params={"Bucket": signed, "Key": ".ferryman/report.json"}
    )
    assert requests.get(link, timeout=10).status_code == 404


def test_a_bucket_that_is_not_configured_does_not_exist(server):
    assert requests.get(f"{server.endpoint}/nobody/{KEY}", timeout=10).status_code == 404
