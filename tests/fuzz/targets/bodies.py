"""Bodies of S3 calls: `aws-chunked`, browser forms with their policies, documents of multi-deletes."""

# ruff: noqa: E501, ISC004 -- inputs and words of a format read best unbroken

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

from fuzz.target import Target, headers_of, latin_headers
from scheduler.front.auth import BodySignature
from scheduler.front.http.answer import ClientGone
from scheduler.front.s3.body import ClientBody
from scheduler.front.s3.call import Refused
from scheduler.front.s3.form.fields import filled_in, key_of, object_headers
from scheduler.front.s3.form.policy import read_policy
from scheduler.front.s3.form.reader import MAX_FIELDS_BYTES, FormReader
from scheduler.front.s3.headers import without_chunks
from scheduler.front.s3.multi_delete import deleted_keys, not_deleted
from scheduler.front.s3.payload import BodyRefused

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from scheduler.front.s3.body import Receive


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end what never waits for anything: a loop for each input would cost more than the input."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    finally:
        coroutine.close()
    raise AssertionError("it waits, and everything has come")


def _wire(pieces: list[bytes]) -> Receive:
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        body = left.pop(0) if left else b""
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    return receive


def _cut(data: bytes, at: int) -> list[bytes]:
    """In pieces, as the wire might: whole, or in two steps that differ."""
    return [data] if at == 0 else [data[place : place + at] for place in range(0, len(data), at)]


async def _read(headers: dict[str, str], signature: BodySignature, pieces: list[bytes]) -> bytes | str:
    try:
        body = ClientBody(headers, signature, _wire(pieces), stall_s=60)
        read = await body.whole()
        without_chunks(dict(headers), body.trailers)
    except BodyRefused as error:
        return error.error.code
    assert len(read) == body.length
    return read


def _chunked(data: bytes) -> None:
    head, _, wire = data.partition(b"\n\n")
    word, _, lines = head.partition(b"\n")
    headers = dict(latin_headers(lines))
    signature = BodySignature(
        payload=word.decode("latin-1"), key=b"k" * 32, stamp="20261121T035635Z",
        scope="20261121/us-east-1/s3/aws4_request", signature="0" * 64, signed_headers=frozenset({"host"}),
    )  # fmt: skip
    with _no_clock():
        whole = _run(_read(headers, signature, [wire]))
        # However the bytes come in, it is the same body, or no body.
        for at in (1, 7, 100):
            pieces = _run(_read(headers, signature, _cut(wire, at)))
            assert type(pieces) is type(whole), (whole, pieces)
            assert isinstance(whole, str) or pieces == whole


class _no_clock:  # noqa: N801 - used as a context
    """`asyncio.timeout` without a loop: nothing here ever waits."""

    def __enter__(self) -> None:
        self._timeout = asyncio.timeout
        asyncio.timeout = lambda _: _Nothing()  # type: ignore[assignment,return-value]

    def __exit__(self, *_: object) -> None:
        asyncio.timeout = self._timeout


class _Nothing:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


async def _form_of(content_type: str, pieces: list[bytes]) -> tuple[dict[str, str], bytes]:
    reader = FormReader(content_type, _wire(pieces), stall_s=60)
    fields = await reader.fields()
    assert sum(map(len, fields)) <= MAX_FIELDS_BYTES
    return fields, b"".join([piece async for piece in reader.file()])


def _form(data: bytes) -> None:
    head, _, wire = data.partition(b"\n\n")
    with _no_clock():
        found = _run(_form_of(head.decode("latin-1"), [wire]))
        # A hundred pieces at most: where they end differs from input to input, as their lengths do.
        assert _run(_form_of(head.decode("latin-1"), _cut(wire, max(5, len(wire) // 100)))) == found
    fields = filled_in(found[0], "a.txt")
    key_of(fields)
    for value in object_headers(fields).values():
        assert not {"\r", "\n"} & {*value}


def _policy(data: bytes) -> None:
    text = data if data[:1].isalnum() else base64.b64encode(data)
    policy = read_policy(text.decode("latin-1"))
    try:
        policy.require({"key": "a", "acl": "private", "policy": "x"}, bucket="site", now=1795233395.0)
    except Refused as error:
        assert error.error.status == 403  # noqa: PT017 - no other refusal is right here


def _fields(data: bytes) -> None:
    fields = {name.lower(): value for name, value in latin_headers(data)}
    key_of(fields)
    for name, value in object_headers(fields).items():
        assert name.isascii()
        assert not {"\r", "\n", "\0"} & {*value}
    object_headers({name: value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name, value in
                    headers_of(data)})  # fmt: skip


def _multi_delete(data: bytes) -> None:
    for key in deleted_keys(data) or ():
        key.encode()
    not_deleted(200, ["a"], data)


_CHUNK = b"5;chunk-signature=" + b"0" * 64 + b"\r\nhello\r\n0;chunk-signature=" + b"0" * 64 + b"\r\n\r\n"
_PARTS = (
    b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\nuploads/${filename}\r\n'
    b'--x\r\nContent-Disposition: form-data; name="policy"\r\n\r\ne30=\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="C:\\\\a.txt"\r\nContent-Type: text/plain\r\n\r\n'
    b"hello\r\n--x--\r\n"
)

TARGETS = (
    Target(
        name="chunked",
        read=_chunked,
        seeds=(
            b"STREAMING-UNSIGNED-PAYLOAD-TRAILER\nx-amz-decoded-content-length: 5\nx-amz-trailer: x-amz-checksum-crc32\n\n"
            b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n",
            b"STREAMING-UNSIGNED-PAYLOAD-TRAILER\nx-amz-decoded-content-length: 10\n\n5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n",
            b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD\nx-amz-decoded-content-length: 5\n\n" + _CHUNK,
            b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER\nx-amz-decoded-content-length: 5\nx-amz-trailer: x-amz-checksum-sha1"
            b"\n\n" + _CHUNK[:-2] + b"x-amz-checksum-sha1:aaaa\r\nx-amz-trailer-signature:" + b"0" * 64 + b"\r\n\r\n",
            b"UNSIGNED-PAYLOAD\ncontent-length: 5\ncontent-md5: XUFAKrxLKna5cZ2REBfFkg==\n\nhello",
        ),
        words=(b";chunk-signature=", b"x-amz-decoded-content-length: ", b"x-amz-trailer-signature:", b"0\r\n", b"ffffffffffff\r\n"),
    ),
    Target(
        name="forms",
        read=_form,
        seeds=(b"multipart/form-data; boundary=x\n\n" + _PARTS, b'multipart/form-data; boundary="x"\n\n' + _PARTS),
        words=(
            b"--x", b"--x--", b"Content-Transfer-Encoding: base64\r\n", b"Content-Encoding: gzip\r\n", b'name="file"',
            b"Content-Disposition: form-data; ", b"filename*=UTF-8''a", b"boundary=", b"Content-Transfer-Encoding: quoted-printable\r\n",
            b"Content-Encoding: deflate\r\n", b"Content-Type: multipart/mixed; boundary=y\r\n", b"Content-Length: 3\r\n", b"name*0=a",
        ),
        refuses=(Refused, ClientGone),
    ),
    Target(
        name="policies",
        read=_policy,
        seeds=(
            b' {"expiration": "2027-01-31T12:00:00.000Z", "conditions": [{"bucket": "site"}, ["starts-with", "$key", ""], '
            b'["content-length-range", 0, 100], ["eq", "$acl", "private"]]}',
        ),
        words=(b"expiration", b"conditions", b"starts-with", b"content-length-range", b'["eq", "$', b"\\$", b"9" * 300),
        refuses=(Refused,),
    ),
    Target(
        name="form-fields",
        read=_fields,
        seeds=(
            b"key: a/b\ncontent-type: text/plain\nx-amz-meta-a: b\nacl: private\n"
            b"tagging: <Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
        ),
        words=(b"tagging: ", b"<Tag>", b"<Key>", b"<!DOCTYPE a [", b"<!ENTITY a 'b'>", b"&a;", b"x-amz-meta-"),
        refuses=(Refused,),
    ),
    Target(
        name="multi-delete",
        read=_multi_delete,
        seeds=(
            b"<Delete><Object><Key>a</Key><VersionId>1</VersionId></Object><Object><Key>b&amp;c</Key></Object></Delete>",
            b'<?xml version="1.0"?><DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Error><Key>a</Key>'
            b"<Code>InternalError</Code></Error></DeleteResult>",
        ),
        words=(b"<Object>", b"<Key>", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"<!--", b"<?x?>", b"<![CDATA[", b"encoding='utf-16'"),
    ),
)  # fmt: skip
