"""The requests of a multipart upload: create, part, complete, abort.

Owns their wire form and what their answers mean. Knows nothing of where the bytes come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import md5
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from workers.errors import StoreCorrupted, StoreError, StoreUnavailable
from workers.store.model import StoreAnswer
from workers.store.wire.addressing import encode_query
from workers.store.wire.answers import checksum_header, failure, field, parse, unquote_etag
from workers.store.wire.signing import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from workers.store.wire.checksums import Checked
    from workers.store.wire.transport import Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An upload that was begun, as its further requests name it."""

    bucket: str
    key: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SentPart:
    """A part that the store has."""

    number: int
    #: As the store gave it, without quotes.
    etag: str
    #: Base64; empty when the store compares none on parts.
    crc32c: str


async def create(
    transport: Transport,
    bucket: str,
    key: str,
    headers: Mapping[str, str],
    *,
    crc32c: bool,
    announce: Callable[[], Awaitable[None]] | None = None,
) -> tuple[Begun, bool]:
    """Begin an upload; and whether an earlier answer was lost, so that there may be a second one.

    `announce` is awaited before each try; what it raises forbids the try.

    Raises:
        StoreError: after the retries; an upload may have been begun all the same.
    """
    what = f"CREATE {bucket}/{key}"
    sent = dict(headers)
    if crc32c:
        sent["x-amz-checksum-algorithm"] = "CRC32C"
    attempt = 0
    lost = False
    while True:
        if announce is not None:
            await announce()
        try:
            answer = await transport.once("POST", bucket, key, headers=dict(sent), query="uploads=")
            if answer.status < 300:
                upload_id = field(parse(answer, what=what), "UploadId")
                if upload_id:
                    return Begun(bucket=bucket, key=key, id=upload_id), lost
                raise StoreUnavailable(f"{what}: no upload id in the answer", status=answer.status)
            failed: StoreError = failure(answer, what=what)
            transport.learn(failed, answer)
            # A 500 may come after the upload was begun; a 503 that says "later" comes before.
            lost = lost or isinstance(failed, StoreUnavailable)
        except StoreUnavailable as error:
            failed = error
            lost = True
        await transport.pause(failed, attempt)
        attempt += 1


async def upload_part(
    transport: Transport,
    begun: Begun,
    number: int,
    *,
    body: Any,
    n_bytes: int,
    headers: Mapping[str, str],
    checked: Checked,
) -> SentPart:
    """Send one part, by itself retried, and compare what the store answers with what was sent.

    Raises:
        StoreError: after the retries; StoreCorrupted when the store holds other bytes.
    """
    sent = dict(headers)
    sent["content-length"] = str(n_bytes)
    if checked.crc32c:
        sent["x-amz-checksum-crc32c"] = checked.crc32c
    if checked.content_md5:
        sent["content-md5"] = checked.content_md5
    answer = await transport.exchange(
        "PUT",
        begun.bucket,
        begun.key,
        headers=sent,
        query=[("partNumber", str(number)), ("uploadId", begun.id)],
        body=body,
        payload_sha256=checked.payload_sha256,
    )
    etag = unquote_etag(answer.headers.get("ETag", ""))
    theirs = checksum_header(answer.headers, "crc32c")
    what = f"part {number} of {begun.bucket}/{begun.key}"
    if checked.crc32c and theirs and theirs != checked.crc32c:
        raise StoreCorrupted(f"{what}: CRC32C {theirs} instead of {checked.crc32c}")
    if not etag:
        raise StoreUnavailable(f"{what}: no ETag in the answer", status=answer.status)
    return SentPart(number=number, etag=etag, crc32c=checked.crc32c)


def complete_body(parts: Sequence[SentPart]) -> bytes:
    """The XML that names the parts, in order."""
    lines = ['<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">']
    for part in sorted(parts, key=lambda one: one.number):
        crc = f"<ChecksumCRC32C>{part.crc32c}</ChecksumCRC32C>" if part.crc32c else ""
        lines.append(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{escape(part.etag)}&quot;</ETag>{crc}</Part>",
        )
    lines.append("</CompleteMultipartUpload>")
    return "".join(lines).encode()


async def complete(
    transport: Transport,
    begun: Begun,
    parts: Sequence[SentPart],
    *,
    headers: Mapping[str, str],
) -> StoreAnswer:
    """Ask once to make the object of its parts.

    The answer's status is below 300, or 404 (no such upload: perhaps an answer of ours was lost), 409 or 412.
    An error document in a 200, which S3 sends when it fails late, is given the status it means.

    Raises:
        StoreError: any other refusal; the connection broke. Not retried here, because only the caller can
        look
            whether the object is there by now.
    """
    body = complete_body(parts)
    sent = {**headers, "content-type": "application/xml"}
    what = f"COMPLETE {begun.bucket}/{begun.key}"
    answer = await transport.once(
        "POST",
        begun.bucket,
        begun.key,
        headers=sent,
        query=encode_query([("uploadId", begun.id)]),
        body=body,
        payload_sha256=sha256_hex(body),
    )
    if answer.status < 300:
        root = parse(answer, what=what)
        code = field(root, "Code")
        if not code:
            return answer
        answer = StoreAnswer(status=_LATE.get(code, 500), headers=answer.headers, body=answer.body)
    if answer.status in {404, 409, 412}:
        return answer
    failed: StoreError = failure(answer, what=what)
    transport.learn(failed, answer)
    raise failed


_LATE = {
    "PreconditionFailed": 412,
    "ConditionalRequestConflict": 409,
    "NoSuchUpload": 404,
    "SlowDown": 503,
    "InvalidPart": 400,
    "BadDigest": 400,
    "AccessDenied": 403,
}


async def abort(transport: Transport, begun: Begun, *, headers: Mapping[str, str]) -> None:
    """Drop an upload and its parts; one that is gone already is no error."""
    await transport.exchange(
        "DELETE",
        begun.bucket,
        begun.key,
        headers=dict(headers),
        query=[("uploadId", begun.id)],
        accept=frozenset({404}),
    )


def expected_etag(parts: Sequence[SentPart]) -> str | None:
    """The ETag that S3 gives to these parts put together, or None when their ETags are no MD5s."""
    digest = md5()
    for part in sorted(parts, key=lambda one: one.number):
        if len(part.etag) != 32:
            return None
        try:
            digest.update(bytes.fromhex(part.etag))
        except ValueError:
            return None
    return f"{digest.hexdigest()}-{len(parts)}"
