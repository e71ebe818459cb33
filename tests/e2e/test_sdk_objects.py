"""Objects and misses as the vendors' SDKs see them through the gateway (SEMANTICS.md W14 to W17)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import alibabacloud_oss_v2 as oss_v2
import boto3
import botocore.exceptions
import oss2
import pytest
from botocore.config import Config as BotoConfig
from qcloud_cos.cos_exception import CosServiceError

from scheduler.config.settings import Settings
from support.origin.wire_server import running_wire_server
from support.vendor_sdks import cos_client, oss2_bucket, oss_v2_client, s3_client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.origin.wire_server import WireServer

pytestmark = pytest.mark.real

KEY = "a b+c/d.txt"
BODY = b"stored"
#: Nothing listens on it.
DEAD = "127.0.0.1:9"


@pytest.fixture(scope="module")
def bucket_name() -> str:
    return f"objects-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def server(seaweed, valkey_url, tmp_path_factory, bucket_name) -> Iterator[WireServer]:
    store = boto3.client(
        "s3",
        endpoint_url=seaweed.endpoint,
        aws_access_key_id=seaweed.access_key_id,
        aws_secret_access_key=seaweed.secret_access_key,
        region_name="us-east-1",
        config=BotoConfig(s3={"addressing_style": "path"}),
    )
    store.create_bucket(Bucket=bucket_name)
    store.put_object(Bucket=bucket_name, Key=KEY, Body=BODY)
    rules = [
        {"name": "mirror", "prefix": "mirror/", "origins": [f"http://{DEAD}"]},
        {"name": "proxy", "type": "proxy", "prefix": "proxy/", "origins": [f"http://{DEAD}"]},
        {"name": "redirect", "type": "redirect", "prefix": "redirect/", "origins": [f"http://{DEAD}"]},
    ]
    settings = Settings.model_validate(
        {
            "buckets": {bucket_name: {"rules": rules}},
            "broker": {"url": valkey_url, "namespace": f"t{uuid.uuid4().hex[:8]}"},
            "store": {
                "endpoint": seaweed.endpoint,
                "access_key_id": seaweed.access_key_id,
                "secret_access_key": seaweed.secret_access_key,
            },
            "data_dir": tmp_path_factory.mktemp("objects"),
        }
    )
    with running_wire_server(settings) as running:
        yield running


def _asked(server: WireServer, since: int) -> list[tuple[str, bytes]]:
    return [(method, path) for method, path, _, _ in server.requests[since:]]


def test_cos_sdk_reads_an_object_with_its_own_spelling_of_the_key_w14_w15(server, bucket_name):
    since = len(server.requests)
    got = cos_client(server.port).get_object(Bucket=bucket_name, Key="a b+c/d.txt")
    assert got["Body"].get_raw_stream().read() == BODY
    assert _asked(server, since) == [("GET", b"/a%20b%2Bc/d.txt")]
    assert server.requests[-1][3]["accept-encoding"] == "gzip, deflate"


def test_oss2_sdk_encodes_every_slash_of_the_key_w17(server, bucket_name):
    since = len(server.requests)
    assert oss2_bucket(server.port, bucket_name).get_object(KEY).read() == BODY
    assert _asked(server, since) == [("GET", f"/{bucket_name}/a%20b%2Bc%2Fd.txt".encode())]


def test_oss_v2_sdk_asks_in_path_style_w16(server, bucket_name):
    since = len(server.requests)
    got = oss_v2_client(server.port).get_object(oss_v2.GetObjectRequest(bucket=bucket_name, key=KEY))
    assert got.body.content == BODY
    assert _asked(server, since) == [("GET", f"/{bucket_name}/a%20b%2Bc/d.txt".encode())]


def test_a_failed_mirror_is_424_in_every_sdk_and_is_not_tried_again_a11_w15_w17(server, bucket_name):
    since = len(server.requests)
    with pytest.raises(CosServiceError) as cos:
        cos_client(server.port, retry=3).get_object(Bucket=bucket_name, Key="mirror/x")
    assert (cos.value.get_status_code(), cos.value.get_error_code()) == (424, "MirrorFailed")
    assert cos.value.get_request_id()
    assert len(_asked(server, since)) == 1
    with pytest.raises(oss2.exceptions.ServerError) as old:
        oss2_bucket(server.port, bucket_name).get_object("mirror/x")
    assert (old.value.status, old.value.code) == (424, "MirrorFailed")
    assert len(_asked(server, since)) == 2
    with pytest.raises(oss_v2.exceptions.OperationError) as new:
        oss_v2_client(server.port).get_object(oss_v2.GetObjectRequest(bucket=bucket_name, key="mirror/x"))
    assert (new.value.unwrap().status_code, new.value.unwrap().code) == (424, "MirrorFailed")
    with pytest.raises(botocore.exceptions.ClientError) as boto:
        s3_client(server.port).get_object(Bucket=bucket_name, Key="mirror/x")
    assert boto.value.response["Error"]["Code"] == "MirrorFailed"


@pytest.mark.parametrize("kind", ["proxy", "redirect"])
def test_cos_sdk_takes_a_redirect_for_a_result_a27_a33_w15(server, bucket_name, kind):
    client = cos_client(server.port, AllowRedirects=False)
    since = len(server.requests)
    client.get_object(Bucket=bucket_name, Key=f"{kind}/x y")
    assert _asked(server, since) == [("GET", f"/{kind}/x%20y".encode())]


def test_cos_sdk_turns_a_404_of_head_into_its_own_code_a35_w15(server, bucket_name):
    for key in ("nothing", "mirror/x"):
        with pytest.raises(CosServiceError) as absent:
            cos_client(server.port).head_object(Bucket=bucket_name, Key=key)
        assert (absent.value.get_status_code(), absent.value.get_error_code()) == (404, "NoSuchResource")


def test_a_key_without_a_rule_is_no_such_key_in_every_sdk(server, bucket_name):
    with pytest.raises(CosServiceError) as cos:
        cos_client(server.port).get_object(Bucket=bucket_name, Key="nothing")
    assert (cos.value.get_status_code(), cos.value.get_error_code()) == (404, "NoSuchKey")
    with pytest.raises(oss2.exceptions.NoSuchKey):
        oss2_bucket(server.port, bucket_name).get_object("nothing")
    with pytest.raises(botocore.exceptions.ClientError) as boto:
        s3_client(server.port).get_object(Bucket=bucket_name, Key="nothing")
    assert boto.value.response["Error"]["Code"] == "NoSuchKey"
