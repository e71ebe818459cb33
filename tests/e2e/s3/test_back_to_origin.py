"""What the store lacks comes from the origin for S3 clients too; what is deleted stays deleted."""

from __future__ import annotations

import asyncio

import botocore.exceptions
import pytest
import requests
from boto3.s3.transfer import TransferConfig
from redis.exceptions import ConnectionError as RedisConnectionError

from support.gateway import until

pytestmark = pytest.mark.real
BODY = b"from the origin" * 1000
#: More than a store of directories makes an empty marker of.
LONG = b"mine" * 300


def rule(chaos, **more):
    return {
        "name": "r",
        "type": "mirror",
        "request": {"protocol": "http"},
        "origin": {"hosts": [{"host": chaos.host}]},
        **more,
    }


def code_of(call, **more):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**more)
    return caught.value.response["Error"]["Code"]


async def test_a_download_that_asks_head_first_gets_the_origins_object(start, client, chaos, tmp_path):
    chaos.put("/dir/a b.bin", BODY, [("content-type", "text/x"), ("etag", '"v1"')])
    front = await start(rule(chaos))
    s3 = client(front)

    def calls():
        head = s3.head_object(Bucket=front.bucket, Key="dir/a b.bin")
        assert (head["ContentLength"], head["ContentType"]) == (len(BODY), "text/x")
        s3.download_file(front.bucket, "dir/a b.bin", str(tmp_path / "got"))

    await asyncio.to_thread(calls)
    assert (tmp_path / "got").read_bytes() == BODY
    assert await front.until_stored("dir/a b.bin") == BODY


async def test_a_download_in_ranges_outlives_the_objects_arrival_in_the_store(start, client, chaos, tmp_path):
    body = chaos.body("large", 9 * 1024 * 1024)
    chaos.put("/large", body, [("etag", '"of-the-origin"')])
    front = await start(rule(chaos))
    s3 = client(front)
    etag = (await asyncio.to_thread(s3.head_object, Bucket=front.bucket, Key="large"))["ETag"]
    assert etag == '"of-the-origin"'
    await front.get("/large")
    await front.until_stored("large")
    await front.idle()

    def calls():
        part = s3.get_object(Bucket=front.bucket, Key="large", Range="bytes=5-9", IfMatch=etag)
        assert part["Body"].read() == body[5:10]
        assert (
            code_of(s3.get_object, Bucket=front.bucket, Key="large", IfMatch='"other"')
            == "PreconditionFailed"
        )
        stored = s3.head_object(Bucket=front.bucket, Key="large")["ETag"]
        assert stored == s3.list_objects_v2(Bucket=front.bucket)["Contents"][0]["ETag"] != etag
        config = TransferConfig(multipart_threshold=1 << 20, multipart_chunksize=1 << 20)
        s3.download_file(front.bucket, "large", str(tmp_path / "got"), Config=config)
        assert (tmp_path / "got").read_bytes() == body

    await asyncio.to_thread(calls)


async def test_a_large_object_that_is_missing_is_downloaded_in_ranges(start, client, chaos, tmp_path):
    body = chaos.body("large", 9 * 1024 * 1024)
    chaos.put("/large", body, [("etag", '"of-the-origin"')])
    front = await start(rule(chaos))
    config = TransferConfig(multipart_threshold=1 << 20, multipart_chunksize=1 << 20)
    s3 = client(front)
    await asyncio.to_thread(s3.download_file, front.bucket, "large", str(tmp_path / "got"), Config=config)
    assert (tmp_path / "got").read_bytes() == body
    await front.idle()
    # Ranges are answered at once; the whole is stored by one pull, here or by a worker.
    assert await front.stored("large") == body or await front.queued() == 1


async def test_without_a_signature_head_is_what_the_rule_says(start, chaos):
    chaos.put("/k", BODY)
    front = await start(rule(chaos))
    assert (await front.head("/k")).status == 404
    assert chaos.count() == 0


async def test_an_absent_key_and_one_without_a_rule_are_no_such_key(start, client, chaos):
    front = await start(rule(chaos, prefix="img/"))
    s3 = client(front)

    def calls():
        assert code_of(s3.get_object, Bucket=front.bucket, Key="img/none") == "NoSuchKey"
        assert code_of(s3.head_object, Bucket=front.bucket, Key="img/none") == "404"
        assert code_of(s3.get_object, Bucket=front.bucket, Key="other") == "NoSuchKey"

    await asyncio.to_thread(calls)
    assert chaos.count("/other") == 0


async def test_a_version_a_part_and_a_sub_resource_never_trigger(start, caller, chaos):
    chaos.put("/k", BODY)
    front = await start(rule(chaos))
    s3 = caller(front)
    for query in ("versionId=null", "partNumber=1", "tagging=", "attributes="):
        for method in ("GET", "HEAD"):
            reply = await s3.call(method, f"/{front.bucket}/k", query)
            assert reply.status >= 400, (method, query)
            assert BODY not in reply.body
    assert chaos.count() == 0


async def test_the_source_of_a_copy_is_pulled_first(start, client, chaos):
    chaos.put("/source", BODY)
    front = await start(rule(chaos))
    s3, bucket = client(front), front.bucket

    def calls():
        s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "source"})
        assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == BODY
        begun = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
        part = s3.upload_part_copy(
            Bucket=bucket,
            Key="parts",
            PartNumber=1,
            UploadId=begun,
            CopySource={"Bucket": bucket, "Key": "source"},
        )
        s3.complete_multipart_upload(
            Bucket=bucket,
            Key="parts",
            UploadId=begun,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]},
        )
        assert s3.get_object(Bucket=bucket, Key="parts")["Body"].read() == BODY
        missing = {"Bucket": bucket, "Key": "none"}
        assert code_of(s3.copy_object, Bucket=bucket, Key="x", CopySource=missing) == "NoSuchKey"

    await asyncio.to_thread(calls)
    assert await front.stored("source") == BODY
    assert chaos.count("/source") == 1


@pytest.mark.parametrize("shown", [False, True])
async def test_ferrymans_own_metadata_is_hidden_unless_asked_for_and_the_oss_tag_is_shown(
    start, client, chaos, shown
):
    chaos.put("/k", BODY, [("content-type", "text/x"), ("x-oss-meta-who", "me")])
    front = await start(rule(chaos), gateway={"show_own_metadata": shown})
    await front.get("/k")
    await front.until_stored("k")
    await front.idle()
    s3 = client(front)

    def calls():
        for call in (s3.get_object, s3.head_object):
            answer = call(Bucket=front.bucket, Key="k")
            own = [name for name in answer["Metadata"] if name.startswith("ferryman-")]
            assert bool(own) == shown
            headers = answer["ResponseMetadata"]["HTTPHeaders"]
            tag = headers.get("x-amz-meta-x-oss-tag" if shown else "x-oss-tag")
            assert tag, headers

    await asyncio.to_thread(calls)


async def test_a_link_that_names_headers_gets_them_from_the_origin_too(start, client, chaos):
    chaos.put("/k", BODY, [("content-type", "text/x")])
    front = await start(rule(chaos))
    s3 = client(front)
    wanted = {"ResponseContentType": "a/b", "ResponseContentDisposition": "attachment"}

    def calls():
        for call in (s3.head_object, s3.get_object, s3.get_object):
            answer = call(Bucket=front.bucket, Key="k", **wanted)
            assert (answer["ContentType"], answer["ContentDisposition"]) == ("a/b", "attachment")
            assert "Body" not in answer or answer["Body"].read() == BODY
        assert code_of(s3.get_object, Bucket=front.bucket, Key="none", **wanted) == "NoSuchKey"

    await asyncio.to_thread(calls)


async def test_a_write_that_must_not_replace_anything_does_not_replace_the_origins_object(
    start, client, chaos
):
    chaos.put("/k", BODY)
    front = await start(rule(chaos))
    s3, bucket = client(front), front.bucket

    def calls():
        assert (
            code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"mine", IfNoneMatch="*")
            == "PreconditionFailed"
        )
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY
        s3.put_object(Bucket=bucket, Key="none", Body=b"mine", IfNoneMatch="*")
        begun = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
        part = s3.upload_part(Bucket=bucket, Key="k", PartNumber=1, UploadId=begun, Body=b"mine")
        done = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        given = {"Bucket": bucket, "Key": "k", "UploadId": begun, "MultipartUpload": done, "IfNoneMatch": "*"}
        assert code_of(s3.complete_multipart_upload, **given) == "PreconditionFailed"

    await asyncio.to_thread(calls)


# ---------------------------------------------------------------- deletes


async def test_what_is_deleted_stays_deleted_until_it_is_written_again(start, client, chaos):
    for name in ("a", "b", "c"):
        chaos.put(f"/{name}", BODY)
    front = await start(rule(chaos))
    s3, bucket, claims = client(front), front.bucket, front.services.ledger.claims
    assert (await front.get("/a")).body == BODY
    await front.until_stored("a")
    await front.idle()

    def deletes():
        s3.delete_object(Bucket=bucket, Key="a")
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "b"}, {"Key": "c"}]})
        for key in "abc":
            assert code_of(s3.get_object, Bucket=bucket, Key=key) == "NoSuchKey"
            assert requests.get(str(front.url(f"/{key}")), timeout=10).status_code == 404

    asked = chaos.count()
    await asyncio.to_thread(deletes)
    assert chaos.count() == asked
    assert [key for key, _, _ in await claims.tombstones(bucket)] == ["a", "b", "c"]

    def writes():
        s3.put_object(Bucket=bucket, Key="a", Body=b"new")
        s3.copy_object(Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "a"})
        begun = s3.create_multipart_upload(Bucket=bucket, Key="c")["UploadId"]
        part = s3.upload_part(Bucket=bucket, Key="c", PartNumber=1, UploadId=begun, Body=b"new")
        s3.complete_multipart_upload(
            Bucket=bucket,
            Key="c",
            UploadId=begun,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
        )

    await asyncio.to_thread(writes)
    assert await claims.tombstones(bucket) == []


async def test_a_write_that_fails_leaves_the_tombstone(start, caller, chaos):
    chaos.put("/k", BODY)
    front = await start(rule(chaos))
    s3, path = caller(front), f"/{front.bucket}/k"
    assert (await s3.call("DELETE", path)).status == 204
    assert (await s3.call("PUT", path, body=b"x", payload="0" * 64)).status == 400
    assert await front.services.ledger.claims.tombstone(front.bucket, "k")
    assert (await front.get("/k")).status == 404


async def test_a_delete_that_the_store_refuses_is_taken_back(start, caller, chaos):
    chaos.put("/k", BODY)
    front = await start(rule(chaos))
    claims = front.services.ledger.claims
    s3, path = caller(front), f"/{front.bucket}/k"
    await claims.add_tombstones(front.bucket, ["old"], ttl_s=1000, reason="operator")
    store = front.services.store
    settings = store.transport._credentials._current
    object.__setattr__(settings, "secret_access_key", "wrong")  # from now on the store refuses
    assert (await s3.call("DELETE", path)).status == 403
    assert (await s3.call("DELETE", f"/{front.bucket}/old")).status == 403
    assert [(key, reason) for key, reason, _ in await claims.tombstones(front.bucket)] == [
        ("old", "operator")
    ]


async def test_a_delete_that_the_store_did_and_answered_with_a_failure_stays_deleted(
    start, caller, chaos, monkeypatch
):
    """Of a 5xx nobody knows what came: whoever took the tombstone back would bring the key back."""
    chaos.put("/k", BODY)
    front = await start(rule(chaos))
    s3, path = caller(front), f"/{front.bucket}/k"
    assert (await s3.call("PUT", path, body=b"mine")).status == 200
    real = type(front.services.store).pass_on

    async def fails_behind_it(self, method, *given, **more):
        passed = await real(self, method, *given, **more)
        if method == "DELETE":
            passed.status = 500
        return passed

    with monkeypatch.context() as patch:
        patch.setattr(type(front.services.store), "pass_on", fails_behind_it)
        assert (await s3.call("DELETE", path)).status == 500
    assert await front.stored("k") is None, "the store has done it"
    assert (await s3.call("GET", path)).status == 404
    assert (await s3.call("PUT", path, body=b"again")).status == 200
    assert await front.services.ledger.claims.tombstone(front.bucket, "k") is None


async def test_no_tombstone_for_a_key_that_no_rule_could_bring_back(start, caller, chaos):
    front = await start(rule(chaos, prefix="img/"))
    s3 = caller(front)
    for key in ("img/a", "other"):
        assert (await s3.call("DELETE", f"/{front.bucket}/{key}")).status == 204
    found = await front.services.ledger.claims.tombstones(front.bucket)
    assert [key for key, _, _ in found] == ["img/a"]


async def test_nothing_is_deleted_while_a_pull_lasts_too_long(start, caller, chaos):
    chaos.put("/k", BODY)
    chaos.script("/k", "slow_body,step=3000,interval=0.3")
    front = await start(rule(chaos), gateway={"herd_wait_s": 0.2})
    pulling = asyncio.create_task(front.get("/k"))
    claims = front.services.ledger.claims
    await until(lambda: claims.is_running(front.bucket, "k"))
    reply = await caller(front).call("DELETE", f"/{front.bucket}/k")
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "SlowDown", "1")
    assert await claims.tombstone(front.bucket, "k") is None
    assert (await pulling).body == BODY


async def test_nothing_is_deleted_while_no_tombstone_can_be_put(start, caller, chaos, monkeypatch):
    front = await start(rule(chaos))
    s3, path = caller(front), f"/{front.bucket}/k"
    assert (await s3.call("PUT", path, body=b"mine")).status == 200

    async def away(*_, **__):
        raise RedisConnectionError("away")

    monkeypatch.setattr(front.services.ledger.claims, "bury", away)
    reply = await s3.call("DELETE", path)
    assert (reply.status, reply.code) == (503, "SlowDown")
    assert await front.stored("k") == b"mine"


async def test_a_key_that_the_store_takes_for_another_has_its_own_bytes(start, client, chaos):
    """Guarantee 9, over a SeaweedFS: a backslash is a slash to it, and `//` is one."""
    odd = {"a\\b": b"back" * 9, "a//b": b"double" * 9, "d/": b"a page of a folder"}
    chaos.put("/a\\b", odd["a\\b"])
    chaos.put("/a//b", odd["a//b"])
    chaos.put("/d/", odd["d/"])
    front = await start(rule(chaos))
    s3 = client(front)

    def calls():
        s3.put_object(Bucket=front.bucket, Key="a/b", Body=b"plain")
        s3.put_object(Bucket=front.bucket, Key="d/below", Body=b"below")
        for key, body in odd.items():
            assert s3.head_object(Bucket=front.bucket, Key=key)["ContentLength"] == len(body), key
            assert s3.get_object(Bucket=front.bucket, Key=key)["Body"].read() == body, key
            assert code_of(s3.put_object, Bucket=front.bucket, Key=key, Body=LONG) == "InvalidArgument"
        for key in ("a\\b", "a//b"):
            assert code_of(s3.delete_object, Bucket=front.bucket, Key=key) == "InvalidArgument"
            many = {"Objects": [{"Key": "a/c"}, {"Key": key}]}
            assert code_of(s3.delete_objects, Bucket=front.bucket, Delete=many) == "InvalidArgument"
        assert code_of(s3.get_object, Bucket=front.bucket, Key="a\\\\b") == "NoSuchKey"
        assert s3.get_object(Bucket=front.bucket, Key="a/b")["Body"].read() == b"plain"
        s3.put_object(Bucket=front.bucket, Key="marker/", Body=b"")
        assert s3.head_object(Bucket=front.bucket, Key="marker/")["ContentLength"] == 0
        s3.put_object(Bucket=front.bucket, Key="a/long", Body=LONG)
        copied = {"Bucket": front.bucket, "Key": "copy/", "CopySource": f"{front.bucket}/a/long"}
        assert code_of(s3.copy_object, **copied) == "InvalidArgument"
        s3.delete_object(Bucket=front.bucket, Key="marker/")
        # As the store itself, which makes a marker of a short body: clients try it (juicefs objbench).
        s3.put_object(Bucket=front.bucket, Key="marker/", Body=b"1")
        assert s3.get_object(Bucket=front.bucket, Key="marker/")["Body"].read() == b""

    await asyncio.to_thread(calls)


async def test_a_store_that_dawdles_over_such_a_key_is_503_and_no_object_of_another_key(
    start, caller, chaos, monkeypatch
):
    """Whether the store has this very key or would give another one's object is not known in time."""
    front = await start(rule(chaos, when={"prefix": "a"}), gateway={"lookup_s": 0.2})
    await front.services.store.put_small(front.bucket, "a/b", b"of another key", content_type="text/plain")
    await front.services.store.put_small(front.bucket, "b/c", b"of another key", content_type="text/plain")
    looked: list[str] = []

    async def dawdle(_bucket: str, key: str) -> None:
        looked.append(key)
        await asyncio.sleep(60)

    monkeypatch.setattr(front.services.store, "head", dawdle)
    s3 = caller(front)
    source = {"x-amz-copy-source": f"/{front.bucket}/b%5Cc"}
    for method, path, query, headers in (
        ("GET", "/a%5Cb", "", {}),
        ("HEAD", "/a%5Cb", "", {}),
        ("GET", "/a%5Cb", "tagging=", {}),
        ("PUT", "/copy", "", source),
    ):
        before = len(looked)
        reply = await s3.call(method, f"/{front.bucket}{path}", query, headers=headers)
        assert (reply.status, reply.headers.get("retry-after")) == (503, "2"), (method, query, reply)
        assert b"of another key" not in reply.body
        assert looked[before:], method
    assert not chaos.count("/a\\b")
    assert await front.stored("copy") is None


async def test_a_marker_of_a_directory_is_empty_however_its_body_is_framed(start, caller, chaos):
    """JuiceFS puts it with a checksum behind the body: not empty on the wire."""
    front = await start(rule(chaos))
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-decoded-content-length": "0",
    }
    reply = await caller(front).call(
        "PUT",
        f"/{front.bucket}/marker/",
        body=b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
        payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        headers=headers,
    )
    assert reply.status == 200, reply.body
    assert await front.stored("marker/") == b""
