"""An object that fits one part: one PUT, checked by the store, repeated while that helps.

Owns the loop around that PUT and the comparison of its answer. What a refusal means is `settling`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from workers.errors import StoreCorrupted, StoreError, StoreUnavailable
from workers.store.metadata import SHA256, minimal
from workers.store.wire.answers import EXISTS_CODES, checksum_header, error_code, failure, unquote_etag

if TYPE_CHECKING:
    from workers.store.model import Commit, ObjectMeta, StoreAnswer
    from workers.store.wire.checksums import Checked
    from workers.store.write.intent import Intent
    from workers.store.write.part import Part
    from workers.store.write.settling import Settling

log = structlog.get_logger(__name__)

_SHA256_HEADER: Final = f"x-amz-meta-{SHA256}"


async def put_whole(intent: Intent, part: Part, settling: Settling) -> Commit:
    """Write the object in one PUT, unless another one holds the key.

    Raises:
        StoreError: it is not there, or nobody can tell.
        KeyNotRepresentable: the store cannot hold this key beside another one (S17).
    """
    transport = intent.store.transport
    mode = intent.known.create_only
    part.trim()
    check = await part.checked(intent.known.checksums, known_sha256=settling.sha256)
    meta = intent.meta
    attempt = 0
    while True:
        # Before every try: a retry may come seconds after the first one.
        settled = await settling.before(mode)
        if settled is not None:
            return settled
        headers = _headers(intent, meta, check, part.filled, settling.sha256)
        condition = intent.condition(mode)
        if condition is not None:
            headers[condition[0]] = condition[1]
        settling.asking()
        try:
            answer = await transport.once(
                "PUT",
                intent.bucket,
                intent.key,
                headers=headers,
                body=part.body(idle_s=transport.idle_s),
                payload_sha256=check.payload_sha256,
            )
        except StoreUnavailable as error:
            failed: StoreError = error
        else:
            settling.answered(answer.status)
            if answer.status < 300:
                return await _verified(intent, answer, check, part.filled, settling)
            if answer.status == 404 and intent.replace_etag is not None:
                return settling.gone()  # what If-Match on a key that is gone answers
            code = error_code(answer.body)[0]
            if answer.status == 412 or code in EXISTS_CODES:
                return await settling.after_refusal()
            failed = failure(answer, what=f"PUT {intent.what}")
            transport.learn(failed, answer)
            if code == "MetadataTooLarge" and meta != minimal(meta):
                log.warning("metadata_refused", bucket=intent.bucket, key=intent.key)
                meta = minimal(meta)
                continue
        try:
            await transport.pause(failed, attempt)
        except StoreUnavailable:
            ours = await settling.ours()
            if ours is None:
                raise
            return settling.created(etag=ours.etag, size=ours.size)
        attempt += 1


def _headers(intent: Intent, meta: ObjectMeta, check: Checked, n_bytes: int, digest: str) -> dict[str, str]:
    headers = intent.creation_headers(meta)
    if meta.digest_fits:
        headers[_SHA256_HEADER] = digest
    if check.crc32c:
        headers["x-amz-checksum-crc32c"] = check.crc32c
    if check.content_md5:
        headers["content-md5"] = check.content_md5
    headers["content-length"] = str(n_bytes)
    return headers


async def _verified(
    intent: Intent, answer: StoreAnswer, check: Checked, n_bytes: int, settling: Settling
) -> Commit:
    """Compare what the store says it has with what was sent; undo the write when they differ."""
    etag = unquote_etag(answer.headers.get("ETag", ""))
    theirs = checksum_header(answer.headers, "crc32c") if check.crc32c else ""
    differs = check.md5_hex and len(etag) == 32 and etag.lower() != check.md5_hex
    if (differs and intent.etag_is_md5(answer)) or (theirs and theirs != check.crc32c):
        await settling.undo(answer.headers.get("x-amz-version-id", ""))
        raise StoreCorrupted(
            f"{intent.what}: the store's answer does not match the bytes", status=answer.status
        )
    return settling.created(etag=etag, size=n_bytes)
