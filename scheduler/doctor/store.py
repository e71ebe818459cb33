"""What the store lets us do and what it really guarantees, by trying."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING

from scheduler.doctor.model import Subject
from workers.errors import StoreDenied, StoreError
from workers.store.client import ObjectStore
from workers.store.guarantees import CreateOnly
from workers.store.known_stores import recognised
from workers.store.probe.probe import probe
from workers.store.wire.addressing import PROBE_PREFIX
from workers.store.write.parts import one_put_bytes

if TYPE_CHECKING:
    from scheduler.config.settings import Settings
    from scheduler.doctor.model import Finding
    from workers.settings import LimitSettings, StoreSettings
    from workers.store.guarantees import StoreGuarantees

#: Seconds of clock difference that are worth knowing, and that stores refuse signatures near.
SKEW_WARNING_S = 60.0
SKEW_FAILED_S = 600.0
MIB = 2**20
CLOCK_KEY = f"{PROBE_PREFIX}clock"
_RIGHTS = "allow s3:GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload"
_KEYS = (
    "credentials",
    "check store.access_key_id and store.secret_access_key, or the environment and profile",
)
#: Refusals whose code says what is wrong.
_CAUSES = {
    "RequestTimeTooSkewed": ("clock", "set both clocks by NTP: the store refuses what seems too old or new"),
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "InvalidToken": _KEYS,
    "ExpiredToken": _KEYS,
}


async def check(settings: Settings) -> list[Finding]:
    """The findings about every configured bucket."""
    found = Subject("store")
    async with ObjectStore(settings.store, settings.limits) as store:
        for bucket in settings.buckets:
            try:
                await _permissions(found, store, bucket)
                guarantees = await probe(store, bucket)
                await _known(found, store, bucket, guarantees)
                _judge(found, bucket, guarantees, settings.store, settings.limits)
                await _clock(found, store, bucket)
            except StoreError as error:
                check, remedy = _cause(error)
                refused = "the store refuses: " if isinstance(error, StoreDenied) else ""
                found.failed(check, f"{refused}{error}", remedy, of=bucket)
    return found.findings


def _cause(error: StoreError) -> tuple[str, str]:
    """Which check a refusal belongs to, and what to do."""
    if error.code in _CAUSES:
        return _CAUSES[error.code]
    if isinstance(error, StoreDenied):
        return "permissions", _RIGHTS
    if error.code == "NoSuchBucket" or error.status == 404:
        return "answers", "start a front with store.create_buckets on, or create the bucket"
    return "answers", "check store.endpoint and the network"


async def _permissions(found: Subject, store: ObjectStore, bucket: str) -> None:
    """Write, read, list and delete one object; what is not allowed is named.

    Raises:
        StoreDenied: not even writing is allowed.
        StoreError: the store does not answer.
    """
    key = f"{PROBE_PREFIX}doctor-{uuid.uuid4().hex}"
    await store.put_small(bucket, key, b"doctor", content_type="text/plain")

    async def read() -> bool:
        async with await store.get(bucket, key) as response:
            return response.status == 200 and await response.read() == b"doctor"

    async def listed() -> bool:
        return key in [one.key async for page in store.list(bucket, key) for one in page.objects]

    async def deleted() -> bool:
        await store.delete(bucket, key)
        return True

    missing = []
    for action, works in (("GetObject", read), ("ListBucket", listed), ("DeleteObject", deleted)):
        try:
            if not await works():
                missing.append(f"s3:{action} (no error, and no effect)")
        except StoreDenied as error:
            missing.append(f"s3:{action} ({error.code or error.status})")
    if missing:
        found.failed("permissions", f"not allowed: {', '.join(missing)}", _RIGHTS, of=bucket)
    else:
        found.ok("permissions", "objects can be written, read, listed and deleted", of=bucket)


async def _known(found: Subject, store: ObjectStore, bucket: str, guarantees: StoreGuarantees) -> None:
    """The row of docs/stores.md that the store's answers look like; what was found here is what counts."""
    answer = await store.transport.exchange(
        "HEAD", bucket, headers=store.common_headers, accept=frozenset({403, 404})
    )
    known = recognised(answer.headers)
    if known is None:
        message = "not one of the stores that docs/stores.md knows: what was found by trying is all there is"
        found.ok("known", message, of=bucket)
        return
    row = f"looks like {known.name}, which was run as {known.version}"
    told = [f"{one.point.replace('_', ' ')}: {one.what} ({one.keys})" for one in known.deviations]
    wanted = [f"{key}: {value}" for key, value, _ in known.settings]
    said = [row, *told, *([f"it wants {', '.join(wanted)}"] if wanted else [])]
    found.ok("known", "; ".join(said).replace("`", ""), of=bucket)
    differs = known.differences(guarantees)
    if differs:
        found.warning(
            "known",
            f"it is not quite the {known.name} of docs/stores.md: {'; '.join(differs)}",
            "what was found here counts; read what follows, and try a scan of a small prefix first",
            of=bucket,
        )


def _judge(
    found: Subject, bucket: str, store: StoreGuarantees, settings: StoreSettings, limits: LimitSettings
) -> None:
    if store.missing_key_status == 404:
        found.ok("missing_key", "a key that is not there answers 404", of=bucket)
    else:
        remedy = "grant s3:ListBucket on the bucket, else no miss is ever seen"
        found.failed(
            "missing_key", f"a key that is not there answers {store.missing_key_status}", remedy, of=bucket
        )
    _create_only(found, bucket, store, settings, limits)
    if store.checksums:
        found.ok("checksums", f"uploads are compared by {', '.join(store.checksums)}", of=bucket)
    else:
        remedy = "watch `ferryman verify`: it reads back what the store has"
        found.warning("checksums", "the store compares no checksum of an upload", remedy, of=bucket)
    if not store.multipart:
        remedy = "objects that do not fit one PUT fail: raise store.part_size_bytes, or use another store"
        found.warning("multipart", "there are no multipart uploads", remedy, of=bucket)
    else:
        found.ok("multipart", "multipart uploads work", of=bucket)
    if store.collation == "none":
        remedy = "nothing: scans sort the listing on disk; keep room in data_dir"
        found.warning("listing", "listings come in no known order", remedy, of=bucket)
    else:
        found.ok("listing", f"listings come by {store.collation}", of=bucket)
    if store.unrepresentable:
        kinds = ", ".join(sorted(kind.replace("_", " ") for kind in store.unrepresentable))
        remedy = "such keys become the listed failure key_not_representable; look for them in a dry scan"
        found.warning("keys", f"some keys cannot be held distinctly: {kinds}", remedy, of=bucket)
    else:
        found.ok("keys", "every kind of key is held distinctly", of=bucket)


def _create_only(
    found: Subject, bucket: str, store: StoreGuarantees, settings: StoreSettings, limits: LimitSettings
) -> None:
    if store.race_free:
        found.ok("create_only", f"create-only writes are obeyed ({store.create_only})", of=bucket)
        return
    if store.create_only is CreateOnly.CHECK_THEN_WRITE:
        found.warning(
            "create_only",
            "no write is create-only here: a look directly before each leaves a race of milliseconds, in "
            "which an object that somebody else writes is overwritten",
            "keep other writers away while it is filled, or use a store that obeys If-None-Match",
            of=bucket,
        )
        return
    reach = one_put_bytes(
        settings.part_size_bytes, memory_bytes=limits.memory_bytes, spool_bytes=limits.spool_bytes
    )
    found.warning(
        "create_only",
        f"one PUT is create-only ({store.create_only}), completing a multipart upload is not: objects up to "
        f"{reach / MIB:.0f} MiB go in one PUT and are safe; a larger one has a look directly before its "
        "completion, and overwrites what somebody else writes in the milliseconds after it",
        "set store.part_size_bytes above the largest object (5 GiB at most), and limits.spool_bytes to "
        "several times of it; or keep other writers away from larger objects",
        of=bucket,
    )


async def _clock(found: Subject, store: ObjectStore, bucket: str) -> None:
    before = time.time()
    await store.put_small(bucket, CLOCK_KEY, b"", content_type="application/octet-stream")
    info = await store.head(bucket, CLOCK_KEY)
    with contextlib.suppress(StoreDenied):  # the permissions say so already
        await store.delete(bucket, CLOCK_KEY)
    if info is None:
        found.failed(
            "read_after_write", "an object that was written is not there", "use a consistent store", of=bucket
        )
        return
    skew_s = max(0.0, info.last_modified - time.time(), before - info.last_modified - 1.0)
    message = f"the store's clock differs by {skew_s:.0f} s"
    if skew_s > SKEW_FAILED_S:
        found.failed("clock", message, "set both clocks by NTP: signatures are refused", of=bucket)
    elif skew_s > SKEW_WARNING_S:
        found.warning("clock", message, "set both clocks by NTP", of=bucket)
    else:
        found.ok("clock", message if skew_s >= 1 else "the store's clock agrees", of=bucket)
