"""What a store does with multipart uploads, found out by trying (SEMANTICS.md S11, S13).

Owns the judgement of parts and of their completion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from workers.errors import StoreError, StoreThrottled, StoreUnavailable
from workers.store.guarantees import CreateOnly
from workers.store.probe.trial import FIRST, SECOND
from workers.store.probe.writes import WRONG_CRC32C, WRONG_MD5, WRONG_SHA256
from workers.store.wire import multipart
from workers.store.wire.checksums import Checked, crc32c_base64
from workers.store.wire.signing import sha256_hex

if TYPE_CHECKING:
    from workers.store.probe.trial import Trial
    from workers.store.wire.multipart import Begun

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Whether parts work, how their completion is guarded, and which checksums are compared on them."""

    works: bool
    create_only: CreateOnly
    checksums: tuple[str, ...]


async def multipart_uploads(trial: Trial, single: CreateOnly) -> Parts:
    """Whether parts work, which checksums are compared on them, and whether completing is create-only."""
    key = trial.prefix + "parts"
    trial.written.add(key)
    try:
        checksums = await _part_checksums(trial, key)
        obeyed = await _complete_is_create_only(trial, key, single, crc32c="crc32c" in checksums)
    except (StoreUnavailable, StoreThrottled) as error:
        # A store may refuse it like that; one that does not answer says nothing of parts.
        if error.status is None or isinstance(error, StoreThrottled):
            raise
        await trial.writable()
        return _without(trial, error)
    except StoreError as error:
        return _without(trial, error)
    mode = single if obeyed else CreateOnly.CHECK_THEN_WRITE
    return Parts(works=True, create_only=mode, checksums=checksums)


def _without(trial: Trial, error: StoreError) -> Parts:
    log.warning("store_without_multipart", bucket=trial.bucket, error=str(error))
    return Parts(works=False, create_only=CreateOnly.CHECK_THEN_WRITE, checksums=())


async def _part_checksums(trial: Trial, key: str) -> tuple[str, ...]:
    store = trial.store
    create = store.create_headers
    begun, _ = await multipart.create(store.transport, trial.bucket, key, create, crc32c=True)
    found: list[str] = []
    try:
        for name, wrong in (
            ("crc32c", {"crc32c": WRONG_CRC32C}),
            ("sha256", {"payload_sha256": WRONG_SHA256}),
            ("md5", {"content_md5": WRONG_MD5}),
        ):
            if await _refuses_part(trial, begun, wrong):
                found.append(name)
    finally:
        await multipart.abort(store.transport, begun, headers=store.common_headers)
    return tuple(found)


async def _refuses_part(trial: Trial, begun: Begun, wrong: dict[str, str]) -> bool:
    store = trial.store
    headers = dict(store.read_headers)
    if "crc32c" in wrong:
        headers["x-amz-checksum-crc32c"] = wrong["crc32c"]
    if "content_md5" in wrong:
        headers["content-md5"] = wrong["content_md5"]
    answer = await trial.ask(
        "PUT",
        begun.key,
        headers=headers,
        query=[("partNumber", "1"), ("uploadId", begun.id)],
        body=FIRST,
        payload_sha256=wrong.get("payload_sha256", sha256_hex(FIRST)),
    )
    return answer.status >= 300


async def _complete_is_create_only(trial: Trial, key: str, mode: CreateOnly, *, crc32c: bool) -> bool:
    """Complete once onto an object that is there (must be refused), then onto a free key (must work)."""
    store = trial.store
    for taken in (True, False):
        begun, _ = await multipart.create(
            store.transport, trial.bucket, key, store.create_headers, crc32c=crc32c
        )
        try:
            part = await multipart.upload_part(
                store.transport,
                begun,
                1,
                body=SECOND,
                n_bytes=len(SECOND),
                headers=store.read_headers,
                checked=Checked(crc32c=crc32c_base64([SECOND]) if crc32c else ""),
            )
            if taken:
                await trial.put("parts", FIRST)
            else:
                await store.delete(trial.bucket, key)
            headers = dict(store.read_headers)
            if mode.header is not None:
                headers[mode.header[0]] = mode.header[1]
            answer = await multipart.complete(store.transport, begun, [part], headers=headers)
            content = await trial.body("parts")
            if taken and (answer.status < 300 or content != FIRST):
                return False
            if not taken and (answer.status >= 300 or content != SECOND):
                return False
        finally:
            await multipart.abort(store.transport, begun, headers=store.common_headers)
    return True
