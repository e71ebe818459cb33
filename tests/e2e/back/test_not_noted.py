"""A write that could not be noted for the way back is not in the store either: nobody would know of it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.exceptions import ClientError

from scheduler.front.s3 import write_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.real

BIG = b"b" * 200_000


def put(s3: Any, bucket: str, upload: str) -> None:
    del upload
    s3.put_object(Bucket=bucket, Key="new", Body=b"small")


def put_empty(s3: Any, bucket: str, upload: str) -> None:
    del upload
    s3.put_object(Bucket=bucket, Key="new", Body=b"")


def put_streamed(s3: Any, bucket: str, upload: str) -> None:
    del upload
    s3.put_object(Bucket=bucket, Key="new", Body=BIG)


def copy(s3: Any, bucket: str, upload: str) -> None:
    del upload
    s3.copy_object(Bucket=bucket, Key="new", CopySource={"Bucket": bucket, "Key": "there"})


def complete(s3: Any, bucket: str, upload: str) -> None:
    part = s3.list_parts(Bucket=bucket, Key="new", UploadId=upload)["Parts"][0]
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="new", UploadId=upload, MultipartUpload=parts)


def tag(s3: Any, bucket: str, upload: str) -> None:
    del upload
    s3.put_object_tagging(Bucket=bucket, Key="there", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})


def delete(s3: Any, bucket: str, upload: str) -> None:
    del upload
    s3.delete_object(Bucket=bucket, Key="there")


def delete_many(s3: Any, bucket: str, upload: str) -> None:
    del upload
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "there"}]})


def post_form(s3: Any, bucket: str, upload: str) -> None:
    del upload
    form = s3.generate_presigned_post(bucket, "new", ExpiresIn=60)
    answer = httpx.post(form["url"], data=form["fields"], files={"file": b"of a form"}, trust_env=False)
    if answer.status_code >= 300:
        raise ClientError({"Error": {"Code": str(answer.status_code), "Message": answer.text}}, "PostObject")


@pytest.mark.parametrize(
    "write", [put, put_empty, put_streamed, copy, complete, tag, delete, delete_many, post_form]
)
async def test_a_write_that_redis_could_not_be_told_of_is_503_and_changes_nothing(
    start, client, call, bucket, monkeypatch, write: Callable[[Any, str, str], None]
):
    front = await start(worker=False)
    store = front.services.store
    await store.put_small(bucket, "there", b"as it was", content_type="text/plain")
    s3 = client(front)
    upload = (await call(s3.create_multipart_upload, Bucket=bucket, Key="new"))["UploadId"]
    await call(s3.upload_part, Bucket=bucket, Key="new", UploadId=upload, PartNumber=1, Body=b"part")
    said = asyncio.Event()
    told = front.services.ledger.back.begin

    async def stands_still(*_: Any, **__: Any) -> None:
        said.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(front.services.ledger.back, "begin", stands_still)
    monkeypatch.setattr(write_back, "_PATIENCE_S", 0.3)
    with pytest.raises(ClientError, match=r"503|ServiceUnavailable"):
        await asyncio.to_thread(write, s3, bucket, upload)
    assert said.is_set()
    assert await front.stored("new") is None
    assert await front.stored("there") == b"as it was"
    tags = await call(s3.get_object_tagging, Bucket=bucket, Key="there")
    assert tags["TagSet"] == []
    # Once Redis answers again, the same call is done, and noted.
    monkeypatch.setattr(front.services.ledger.back, "begin", told)
    await asyncio.to_thread(write, s3, bucket, upload)
    assert (await front.services.ledger.back.state(bucket)).pending == 1


def put_slowly(s3: Any, bucket: str, upload: str) -> None:
    del upload
    url = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "new"}, ExpiresIn=60)

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(BIG), 50_000):
            yield BIG[at : at + 50_000]
            time.sleep(0.1)

    answer = httpx.put(url, content=pieces(), headers={"content-length": str(len(BIG))}, trust_env=False)
    if answer.status_code >= 300:
        raise ClientError({"Error": {"Code": str(answer.status_code), "Message": answer.text}}, "PutObject")


async def test_an_upload_that_was_noted_too_long_ago_is_noted_again_before_its_last_piece(
    start, client, call, bucket, monkeypatch
):
    """A front that stood still for so long in the middle of it has passed for dead."""
    front = await start(worker=False)
    s3, told, times = client(front), front.services.ledger.back.begin, []

    async def once(*words: Any, **named: Any) -> None:
        times.append(time.monotonic())
        if len(times) > 1:
            await asyncio.Event().wait()
        await told(*words, **named)

    monkeypatch.setattr(front.services.ledger.back, "begin", once)
    monkeypatch.setattr(write_back, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(write_back, "_SURE_S", 0.2)
    with pytest.raises(ClientError, match=r"503"):
        await asyncio.to_thread(put_slowly, s3, bucket, "")
    assert len(times) == 2
    assert await front.stored("new") is None
    monkeypatch.setattr(front.services.ledger.back, "begin", told)
    await asyncio.to_thread(put_slowly, s3, bucket, "")
    assert await front.stored("new") == BIG
    assert (await front.services.ledger.back.state(bucket)).pending == 1
