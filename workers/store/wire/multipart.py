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
from workers.store.wire.signing import UNSIGNED, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.store.wire.transport import Transport


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
) -> tuple[str, bool]:
    """Begin an upload; its id, and whether an earlier answer was lost, so that there may be a second one.

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
        try:
            answer = await transport.once("POST", bucket, key, headers=dict(sent), query="uploads=")
            if answer.status < 300:
                upload_id = field(parse(answer, what=what), "UploadId")
                if upload_id:
                    return upload_id, lost
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
    bucket: str,
    key: str,
    upload_id: str,
    number: int,
    *,
    body: Any,
    n_bytes: int,
    headers: Mapping[str, str],
    crc32c: str = "",
    content_md5: str = "",
    payload_sha256: str = UNSIGNED,
) -> SentPart:
    """Send one part, by itself retried, and compare what the store answers with what was sent.

    Raises:
        StoreError: after the retries; StoreCorrupted when the store holds other bytes.
    """
    sent = dict(headers)
    sent["content-length"] = str(n_bytes)
    if crc32c:
        sent["x-amz-checksum-crc32c"] = crc32c
    if content_md5:
        sent["content-md5"] = content_md5
    answer = await transport.exchange(
        "PUT",
        bucket,
        key,
        headers=sent,
        query=[("partNumber", str(number)), ("uploadId", upload_id)],
        body=body,
        payload_sha256=payload_sha256,
    )
    etag = unquote_etag(answer.headers.get("ETag", ""))
    theirs = checksum_header(answer.headers, "crc32c")
    if crc32c and theirs and theirs != crc32c:
        raise StoreCorrupted(f"part {number} of {bucket}/{key}: CRC32C {theirs} instead of {crc32c}")
    if not etag:
        raise StoreUnavailable(
            f"part {number} of {bucket}/{key}: no ETag in the answer", status=answer.status
        )
    return SentPart(number=number, etag=etag, crc32c=crc32c)


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
    bucket: str,
    key: str,
    upload_id: str,
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
    what = f"COMPLETE {bucket}/{key}"
    answer = await transport.once(
        "POST",
        bucket,
        key,
        headers=sent,
        query=encode_query([("uploadId", upload_id)]),
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


async def abort(
    transport: Transport,
    bucket: str,
    key: str,
    upload_id: str,
    *,
    headers: Mapping[str, str],
) -> None:
    """Drop an upload and its parts; one that is gone already is no error."""
    await transport.exchange(
        "DELETE",
        bucket,
        key,
        headers=dict(headers),
        query=[("uploadId", upload_id)],
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
