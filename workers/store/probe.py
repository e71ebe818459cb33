"""The start-up self-test: what this store really honours, found out by trying.

Owns the trial requests and what they prove. Everything happens under `.ferryman/probe/<token>/` and is
removed afterwards, whatever the result. Several processes may probe the same bucket at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import structlog

from workers.errors import StoreDenied, StoreError
from workers.store import multipart
from workers.store.addressing import OWN_PREFIX
from workers.store.answers import failure
from workers.store.checksums import crc32c_base64
from workers.store.guarantees import CreateOnly, KeyKind, StoreGuarantees
from workers.store.listing import list_objects
from workers.store.signing import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.store.client import ObjectStore
    from workers.store.model import StoreAnswer

log = structlog.get_logger(__name__)

PROBE_PREFIX = f"{OWN_PREFIX}probe/"

#: No checksum of any body that is sent here.
_WRONG_CRC32C = "AAAAAA=="
_WRONG_MD5 = "AAAAAAAAAAAAAAAAAAAAAA=="
_WRONG_SHA256 = "0" * 64

_FIRST, _SECOND = b"first", b"second"

_STRONG = (CreateOnly.IF_NONE_MATCH, CreateOnly.OSS, CreateOnly.COS)

#: Whether a conditional write was obeyed, did nothing, or hit the wrong one of the two cases.
_Verdict = Literal["obeyed", "ignored", "inverted"]


async def probe(store: ObjectStore, bucket: str) -> StoreGuarantees:
    """Try the store out; takes a few dozen small requests.

    Raises:
        StoreDenied: it does not even let us write under `.ferryman/probe/`.
        StoreUnavailable, StoreThrottled: it does not answer.
    """
    trial = _Trial(store, bucket, f"{PROBE_PREFIX}{uuid.uuid4().hex}/")
    try:
        await trial.writable()
        create_only, inverted = await trial.create_only()
        (checksums, if_match, tags, missing), (keys, listing, versioned, parts) = await asyncio.gather(
            asyncio.gather(
                trial.checksums(),
                trial.if_match(),
                trial.object_tags(),
                trial.missing_key_status(),
            ),
            asyncio.gather(
                trial.unrepresentable(),
                trial.listing(),
                trial.versioned(),
                trial.multipart(create_only),
            ),
        )
        found = StoreGuarantees(
            create_only=create_only,
            inverted=inverted,
            if_match=if_match,
            checksums=checksums,
            object_tags=tags and store.settings.object_tags,
            missing_key_status=missing,
            unrepresentable=keys,
            collation=listing.collation,
            start_after=listing.start_after,
            plus_is_space=listing.plus_is_space,
            versioned=versioned,
            multipart=parts.works,
            multipart_create_only=parts.create_only,
            part_checksums=parts.checksums,
            proven=True,
        )
    finally:
        await trial.clean_up()
    log.info(
        "store_probed",
        bucket=bucket,
        create_only=found.create_only,
        multipart_create_only=found.multipart_create_only,
        checksums=found.checksums,
        collation=found.collation,
        unrepresentable=sorted(found.unrepresentable),
    )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    collation: Literal["bytes", "path", "none"]
    start_after: bool
    plus_is_space: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    works: bool
    create_only: CreateOnly
    checksums: tuple[str, ...]


class _Trial:
    """The requests of one probe; remembers what to remove."""

    def __init__(self, store: ObjectStore, bucket: str, prefix: str) -> None:
        self._store = store
        self._bucket = bucket
        self._prefix = prefix
        self._written: set[str] = set()

    async def _put(
        self,
        name: str,
        body: bytes,
        headers: Iterable[tuple[str, str]] = (),
        *,
        payload_sha256: str | None = None,
    ) -> int:
        """Status of one PUT, whatever it is; 5xx and lost connections are tried again."""
        key = self._prefix + name
        self._written.add(key)
        answer = await self._ask(
            "PUT",
            key,
            headers={**self._store.create_headers, **dict(headers)},
            body=body,
            payload_sha256=payload_sha256 or sha256_hex(body),
        )
        return answer.status

    async def _ask(self, method: str, key: str, **request: Any) -> StoreAnswer:
        transport = self._store.transport
        return await transport.exchange(method, self._bucket, key, accept=_ANY_REFUSAL, **request)

    async def _body(self, name: str) -> bytes | None:
        try:
            async with await self._store.get(self._bucket, self._prefix + name) as response:
                return await response.read() if response.status == 200 else None
        except StoreError:
            return None

    # ------------------------------------------------------------------ writing

    async def writable(self) -> None:
        """A plain PUT works; all other findings rest on it."""
        key = self._prefix + "writable"
        self._written.add(key)
        answer = await self._ask(
            "PUT",
            key,
            headers=dict(self._store.create_headers),
            body=_FIRST,
            payload_sha256=sha256_hex(_FIRST),
        )
        if answer.status >= 300:
            raise failure(answer, what=f"PUT {self._bucket}/{key}")

    async def create_only(self) -> tuple[CreateOnly, bool]:
        """The strongest create-only header that works, and whether one is answered the wrong way round."""
        inverted = False
        for mode in _STRONG:
            verdict = await self._conditional(mode)
            inverted = inverted or verdict == "inverted"
            if verdict == "obeyed":
                return mode, inverted
        return CreateOnly.CHECK_THEN_WRITE, inverted

    async def _conditional(self, mode: CreateOnly) -> _Verdict:
        header = mode.header
        assert header is not None
        name = f"create-{mode}"
        fresh = await self._put(name, _FIRST, [header])
        if fresh >= 300:
            # Refused on a free key. Does it write on a taken one? Then it is the wrong way round.
            await self._put(name, _FIRST)
            taken = await self._put(name, _SECOND, [header])
            return "inverted" if taken < 300 else "ignored"
        taken = await self._put(name, _SECOND, [header])
        kept = await self._body(name) == _FIRST
        return "obeyed" if taken in {409, 412} and kept else "ignored"

    async def if_match(self) -> bool:
        """Whether If-Match on PUT protects another version and lets the named one be replaced."""
        await self._put("match", _FIRST)
        if await self._put("match", _SECOND, [("if-match", '"0123456789abcdef0123456789abcdef"')]) < 300:
            return False
        info = await self._store.head(self._bucket, self._prefix + "match")
        if info is None:
            return False
        done = await self._put("match", _SECOND, [("if-match", f'"{info.etag}"')])
        return done < 300 and await self._body("match") == _SECOND

    async def checksums(self) -> tuple[str, ...]:
        """Which checksums of a PUT are compared: a wrong one must be refused, a right one taken."""
        found: list[str] = []
        right = [("x-amz-checksum-crc32c", crc32c_base64([_FIRST]))]
        if (
            await self._put("crc", _FIRST, [("x-amz-checksum-crc32c", _WRONG_CRC32C)]) >= 300
            and await self._put("crc", _FIRST, right) < 300
        ):
            found.append("crc32c")
        if await self._put("sha", _FIRST, payload_sha256=_WRONG_SHA256) >= 300:
            found.append("sha256")
        if await self._put("md5", _FIRST, [("content-md5", _WRONG_MD5)]) >= 300:
            found.append("md5")
        return tuple(found)

    async def object_tags(self) -> bool:
        """Whether tags may be sent with a PUT."""
        return await self._put("tags", _FIRST, [("x-amz-tagging", "probe=1")]) < 300

    async def versioned(self) -> bool:
        """Whether the bucket keeps versions; no when it cannot be asked."""
        answer = await self._ask("GET", "", query=[("versioning", "")])
        return answer.status == 200 and b"<Status>Enabled<" in answer.body

    # ------------------------------------------------------------------ reading

    async def missing_key_status(self) -> int:
        """404, or 403 where we may not list."""
        try:
            found = await self._store.head(self._bucket, self._prefix + "never-written")
        except StoreDenied:
            return 403
        return 404 if found is None else 200

    async def unrepresentable(self) -> frozenset[KeyKind]:
        """Kinds of keys that this store cannot hold beside their neighbours (S17)."""
        found: set[KeyKind] = set()
        await self._put("n/a/b", b"plain")
        if await self._put("n/a//b", b"double") >= 300 or await self._bodies("n/a/b", "n/a//b") != [
            b"plain",
            b"double",
        ]:
            found.add("double_slash")
        if await self._put("n/a", b"above") >= 300 or await self._bodies("n/a", "n/a/b") != [
            b"above",
            b"plain",
        ]:
            found.add("below_object")
        if await self._put("m/", b"slash") >= 300 or await self._body("m/") != b"slash":
            found.add("trailing_slash")
        if await self._put("d/./x", b"dot") >= 300 or await self._body("d/./x") != b"dot":
            found.add("dot_segment")
        return frozenset(found)

    async def _bodies(self, *names: str) -> list[bytes | None]:
        return [await self._body(name) for name in names]

    async def listing(self) -> _Listing:
        """Order of a listing, `start-after`, and the spelling of a space."""
        names = ("k/a-1", "k/a/1", "k/a/2", "k/b c", "k/b+c")
        for name in names:
            await self._put(name, b"")
        base = f"{self._prefix}k/"
        by_bytes = [self._prefix + name for name in names]
        by_path = [self._prefix + name for name in ("k/a/1", "k/a/2", "k/a-1", "k/b c", "k/b+c")]
        seen: list[str] = []
        plus = True
        for plus in (True, False):
            seen = await self._keys(base, plus=plus)
            if sorted(seen) == sorted(by_bytes):
                break
        collation: Literal["bytes", "path", "none"] = "none"
        if seen == by_bytes:
            collation = "bytes"
        elif seen == by_path:
            collation = "path"
        middle = len(seen) // 2
        works = bool(seen) and await self._keys(base, plus=plus, after=seen[middle]) == seen[middle + 1 :]
        return _Listing(collation=collation, start_after=works, plus_is_space=plus)

    async def _keys(self, prefix: str, *, plus: bool, after: str | None = None) -> list[str]:
        found: list[str] = []
        try:
            async for page in list_objects(
                self._store.transport,
                self._bucket,
                prefix,
                continuation=None,
                start_after=after,
                headers=self._store.common_headers,
                plus_is_space=plus,
            ):
                found.extend(listed.key for listed in page.objects)
        except StoreDenied:
            return []
        return found

    # ------------------------------------------------------------------ multipart

    async def multipart(self, single: CreateOnly) -> _Parts:
        """Whether parts work, which checksums are compared on them, and whether completing is create-only."""
        key = self._prefix + "parts"
        self._written.add(key)
        try:
            checksums = await self._part_checksums(key)
            obeyed = await self._complete_is_create_only(key, single, crc32c="crc32c" in checksums)
        except StoreError as error:
            log.warning("store_without_multipart", bucket=self._bucket, error=str(error))
            return _Parts(works=False, create_only=CreateOnly.CHECK_THEN_WRITE, checksums=())
        mode = single if obeyed else CreateOnly.CHECK_THEN_WRITE
        return _Parts(works=True, create_only=mode, checksums=checksums)

    async def _part_checksums(self, key: str) -> tuple[str, ...]:
        store = self._store
        create = store.create_headers
        upload_id, _ = await multipart.create(store.transport, self._bucket, key, create, crc32c=True)
        found: list[str] = []
        try:
            for name, wrong in (
                ("crc32c", {"crc32c": _WRONG_CRC32C}),
                ("sha256", {"payload_sha256": _WRONG_SHA256}),
                ("md5", {"content_md5": _WRONG_MD5}),
            ):
                if await self._refuses_part(key, upload_id, wrong):
                    found.append(name)
        finally:
            await multipart.abort(store.transport, self._bucket, key, upload_id, headers=store.common_headers)
        return tuple(found)

    async def _refuses_part(self, key: str, upload_id: str, wrong: dict[str, str]) -> bool:
        store = self._store
        headers = dict(store.read_headers)
        if "crc32c" in wrong:
            headers["x-amz-checksum-crc32c"] = wrong["crc32c"]
        if "content_md5" in wrong:
            headers["content-md5"] = wrong["content_md5"]
        answer = await self._ask(
            "PUT",
            key,
            headers=headers,
            query=[("partNumber", "1"), ("uploadId", upload_id)],
            body=_FIRST,
            payload_sha256=wrong.get("payload_sha256", sha256_hex(_FIRST)),
        )
        return answer.status >= 300

    async def _complete_is_create_only(self, key: str, mode: CreateOnly, *, crc32c: bool) -> bool:
        """Complete once onto an object that is there (must be refused), then onto a free key (must work)."""
        store = self._store
        for taken in (True, False):
            upload_id, _ = await multipart.create(
                store.transport,
                self._bucket,
                key,
                store.create_headers,
                crc32c=crc32c,
            )
            try:
                part = await multipart.upload_part(
                    store.transport,
                    self._bucket,
                    key,
                    upload_id,
                    1,
                    body=_SECOND,
                    n_bytes=len(_SECOND),
                    headers=store.read_headers,
                    crc32c=crc32c_base64([_SECOND]) if crc32c else "",
                )
                if taken:
                    await self._put("parts", _FIRST)
                else:
                    await store.delete(self._bucket, key)
                headers = dict(store.read_headers)
                if mode.header is not None:
                    headers[mode.header[0]] = mode.header[1]
                answer = await multipart.complete(
                    store.transport,
                    self._bucket,
                    key,
                    upload_id,
                    [part],
                    headers=headers,
                )
                content = await self._body("parts")
                if taken and (answer.status < 300 or content != _FIRST):
                    return False
                if not taken and (answer.status >= 300 or content != _SECOND):
                    return False
            finally:
                await multipart.abort(
                    store.transport,
                    self._bucket,
                    key,
                    upload_id,
                    headers=store.common_headers,
                )
        return True

    async def clean_up(self) -> None:
        """Remove everything that was written; what cannot be removed is harmless and logged."""
        failed = 0
        for key in sorted(self._written, key=len, reverse=True):
            try:
                with contextlib.suppress(StoreDenied):
                    answer = await self._ask("DELETE", key, headers=self._store.common_headers)
                    failed += answer.status >= 500
            except StoreError:
                failed += 1
        if failed:
            log.warning("probe_objects_left", bucket=self._bucket, prefix=self._prefix, count=failed)


_ANY_REFUSAL = frozenset(range(300, 500)) - {429}
