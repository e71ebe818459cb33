"""The vendors' SDKs as clients of the tests: made for one endpoint, and caught before they send.

`caught` records what an SDK would have put on the wire and answers 200, so that a signature is checked
against the very bytes, without a server.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import urlsplit

import boto3
import oss2
import requests
from alibabacloud_oss_v2 import Client as OssV2Client
from alibabacloud_oss_v2 import config as oss_v2_config
from alibabacloud_oss_v2.credentials import StaticCredentialsProvider
from botocore.awsrequest import AWSResponse
from botocore.config import Config as BotoConfig
from qcloud_cos import CosConfig, CosS3Client

from scheduler.front.auth import SignedRequest
from scheduler.front.http.bucket_address import BucketLookup

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY_ID = "AKIDEXAMPLEFERRYMAN"
SECRET = "not/a+real=secret"


def cos_client(port: int, *, retry: int = 0, **options: Any) -> CosS3Client:
    """W14: the bucket goes into `Host`, the connection to the IP."""
    return _cos(retry=retry, IP="127.0.0.1", Port=port, **options)


def cos_client_by_name(**options: Any) -> CosS3Client:
    """A COS client whose URLs name the bucket; nothing answers there, it is for presigning."""
    return _cos(**options)


def _cos(*, retry: int = 0, **options: Any) -> CosS3Client:
    config = CosConfig(Region="local", SecretId=KEY_ID, SecretKey=SECRET, Scheme="http", **options)
    return CosS3Client(config, retry=retry)


def oss_v2_client(port: int, *, signature_version: str = "v4", secret: str = SECRET) -> OssV2Client:
    """W16: an IP as endpoint means path style."""
    return OssV2Client(
        oss_v2_config.Config(
            region="cn-hangzhou",
            endpoint=f"http://127.0.0.1:{port}",
            credentials_provider=StaticCredentialsProvider(KEY_ID, secret),
            signature_version=signature_version,
            retry_max_attempts=1,
        )
    )


def oss2_bucket(port: int, bucket: str, *, v4: bool = False) -> oss2.Bucket:
    """W17: an IP as endpoint means path style."""
    auth = oss2.AuthV4(KEY_ID, SECRET) if v4 else oss2.Auth(KEY_ID, SECRET)
    return oss2.Bucket(
        auth, f"http://127.0.0.1:{port}", bucket, region="cn-hangzhou", connect_timeout=10, enable_crc=False
    )


def s3_client(
    port: int,
    *,
    host: str = "127.0.0.1",
    signature_version: str | None = None,
    style: str = "path",
    **options: Any,
) -> Any:
    """boto3 on an endpoint of ours."""
    return boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=BotoConfig(
            signature_version=signature_version,
            s3={"addressing_style": style, **options},
            retries={"total_max_attempts": 1},
        ),
    )


@dataclass
class Caught:
    """Requests that were about to be sent."""

    requests: list[SignedRequest] = field(default_factory=list)

    @property
    def only(self) -> SignedRequest:
        (request,) = self.requests
        return request


def as_signed(method: str, url: str, headers: dict[str, Any], body: Any = b"") -> SignedRequest:
    """A request as a server would see it; `Host` is added the way HTTP clients do."""
    parts = urlsplit(url)
    given = {str(name).lower(): _text(value) for name, value in headers.items() if value is not None}
    given.setdefault("host", parts.netloc)
    raw_path = (parts.path or "/").encode("ascii")
    address = BucketLookup().find(given["host"], raw_path)
    return SignedRequest(
        method=method,
        raw_path=raw_path,
        query=parts.query.encode("ascii"),
        headers=tuple(given.items()),
        bucket=address.bucket,
        object_path=address.object_path,
        body=_bytes(body),
    )


def url_request(url: str, method: str = "GET", **headers: str) -> SignedRequest:
    """A presigned URL as a plain client fetches it."""
    return as_signed(method, url, {name.replace("_", "-"): value for name, value in headers.items()})


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray)):
        return bytes(body)
    return bytes(body.read())


@contextlib.contextmanager
def caught() -> Iterator[Caught]:
    """Catch what SDKs over `requests` would send; they are told 200 with an empty body."""
    seen = Caught()

    def send(_adapter: Any, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        seen.requests.append(
            as_signed(request.method or "", request.url or "", dict(request.headers), request.body)
        )
        response = requests.Response()
        response.status_code = 200
        response.url = request.url or ""
        response.request = request
        response._content = b""
        response.headers["x-oss-request-id"] = "1"
        return response

    with mock.patch.object(requests.adapters.HTTPAdapter, "send", send):
        yield seen


@contextlib.contextmanager
def caught_boto(client: Any) -> Iterator[Caught]:
    """Catch what a boto3 client would send."""
    seen = Caught()

    def before_send(request: Any, **_: Any) -> AWSResponse:
        seen.requests.append(as_signed(request.method, request.url, dict(request.headers), request.body))

        class Raw:
            def stream(self, **_: Any) -> Iterator[bytes]:
                yield b""

        return AWSResponse(request.url, 200, {}, Raw())

    client.meta.events.register_first("before-send.s3", before_send)
    try:
        yield seen
    finally:
        client.meta.events.unregister("before-send.s3", before_send)
