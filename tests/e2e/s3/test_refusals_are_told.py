"""What S3 clients did and were refused: counted by operation, and in the log; bad input is refused early."""

from __future__ import annotations

import asyncio

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from workers.telemetry import metrics

pytestmark = pytest.mark.real
BODY = b"x" * 1000


def counted():
    """(operation, status) to the answers that were counted."""
    return {
        (sample.labels["operation"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == "ferryman_s3_requests_total"
    }


async def test_every_answer_is_counted_by_operation_and_status(start, client, caller):
    front = await start()
    s3, by_hand, path = client(front), caller(front), f"/{front.bucket}/k"
    before = counted()

    def calls():
        s3.put_object(Bucket=front.bucket, Key="k", Body=BODY)
        s3.get_object(Bucket=front.bucket, Key="k")["Body"].read()
        s3.list_objects_v2(Bucket=front.bucket)
        form = s3.generate_presigned_post(front.bucket, "form", ExpiresIn=60)
        requests.post(form["url"], data=form["fields"], files={"file": BODY}, timeout=10)
        s3.delete_objects(Bucket=front.bucket, Delete={"Objects": [{"Key": "k"}]})

    await asyncio.to_thread(calls)
    assert (await by_hand.call("GET", path, "tagging=")).status == 404
    assert (await by_hand.call("GET", path, "unheard-of=")).status < 500
    by_hand.secret = "wrong"
    assert (await by_hand.call("PUT", path, body=BODY)).status == 403
    more = {name: n - before.get(name, 0) for name, n in counted().items() if n != before.get(name, 0)}
    others = {name for name in more if name[0] == "Other"}
    assert len(others) == 1
    assert {name: n for name, n in more.items() if name not in others} == {
        ("PutObject", "200"): 1,
        ("GetObject", "200"): 1,
        ("ListObjects", "200"): 1,
        ("PostObject", "204"): 1,
        ("DeleteObjects", "200"): 1,
        ("GetObjectTagging", "404"): 1,
        ("PutObject", "403"): 1,
    }


async def test_the_log_has_what_each_key_may_and_each_refusal_with_its_reason_and_no_secret(start, caller):
    with capture_logs() as lines:
        front = await start()
        s3 = caller(front)
        s3.key_id, s3.secret = "READER", "reader-secret"
        refused = await s3.call("PUT", f"/{front.bucket}/k", "x-id=PutObject", body=BODY)
        form = {"content-type": "multipart/form-data; boundary=b"}
        assert (await front.request("POST", "", form, data=b"--b--\r\n")).status == 400
    keys = {
        one["access_key"]: (one["may"], one["buckets"]) for one in lines if one["event"] == "s3_access_key"
    }
    assert keys["READER"] == (("read",), "all")
    assert keys["OTHER"] == (("read", "write"), ("elsewhere",))
    put, post = [one for one in lines if one["event"] == "s3_refused"]
    assert put["request_id"] == refused.headers["x-amz-request-id"]
    assert (put["operation"], put["access_key"], put["bucket"]) == ("PutObject", "READER", front.bucket)
    assert (put["code"], "'write'" in put["reason"]) == ("AccessDenied", True)
    assert (post["operation"], post["code"]) == ("PostObject", "IncorrectNumberOfFilesInPostRequest")
    assert "secret" not in str(lines)


@pytest.mark.parametrize("header", ["x-amz-meta-{}: v", "a: ", "x-amz-date: 20261128T000000Z"])
async def test_ten_thousand_headers_are_refused_before_they_have_all_come(start, header):
    front = await start()
    head = f"PUT /{front.bucket}/k HTTP/1.1\r\nHost: x\r\nAuthorization: AWS4-HMAC-SHA256 x\r\n"
    many = "".join(f"{header.format(n)}\r\n" for n in range(10_000))
    # Without the end of the head: whoever waits for it never answers.
    reply = await front.raw((head + many).encode(), timeout_s=5)
    assert reply.data.startswith(b"HTTP/1.1 431 ")
    assert b"<Code>RequestHeaderSectionTooLarge</Code>" in reply.data


async def test_a_presigned_sub_resource_is_never_taken_for_a_read_of_the_object(start, client):
    front = await start()
    s3 = client(front)

    def calls():
        s3.put_object(Bucket=front.bucket, Key="k", Body=BODY)
        here = {"Bucket": front.bucket, "Key": "k"}
        for version in ("s3", "s3v4"):
            signer = client(front, signature_version=version)
            for operation in ("get_object_tagging", "get_object_acl", "get_object_retention"):
                link = signer.generate_presigned_url(operation, Params=here)
                assert BODY not in requests.get(link, timeout=10).content, operation
            # What is added behind the signature makes it another request.
            link = signer.generate_presigned_url("get_object", Params=here)
            assert requests.get(f"{link}&tagging=", timeout=10).status_code == 403

    await asyncio.to_thread(calls)
