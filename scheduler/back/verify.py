"""Is the origin equal to the store? Both read, byte by byte, for a sample of the keys or for all of them.

Owns the choice of keys and the comparison. Keys that are still on their way are counted, not judged; what was
deleted through the gateway must be gone at the origin as well.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from scheduler.rules.keys import is_reserved
from scheduler.rules.write_back import writes_back
from workers.back.bring import carried, read_tags, tags_of
from workers.errors import StoreUnavailable
from workers.ledger.claims import DELETED
from workers.store.metadata import KEY_SHA256
from workers.store.wire.answers import object_info

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from scheduler.runtime import Services
    from workers.back.writer import Tags
    from workers.back_routes import BackRoute
    from workers.store.model import ObjectInfo

#: Keys that are compared at once.
_AT_ONCE: Final = 16
#: Differences that are told by name; all are counted.
_NAMED: Final = 1000


@dataclass(slots=True, kw_only=True)
class BackReport:
    """What a comparison showed."""

    bucket: str
    #: Keys of the store that a rule writes back.
    keys: int = 0
    compared: int = 0
    equal: int = 0
    #: On their way, so that they may differ.
    pending: int = 0
    #: Deleted through the gateway and looked for at the origin.
    deleted: int = 0
    different: int = 0
    #: Key and what is wrong: `missing`, `bytes`, `metadata`, `tags`, `not_deleted`; at most 1,000.
    differences: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether everything that was compared is equal, and something was."""
        return self.different == 0 and (self.compared + self.deleted > 0 or self.keys == 0)


async def verify_back(services: Services, bucket: str, *, sample: int | None) -> BackReport:
    """Compare `sample` keys of the bucket, or all of them, with their origin.

    Raises:
        TransferError: a side could not be read.
    """
    report = BackReport(bucket=bucket)
    if services.store.known(bucket) is None:
        await services.store.guarantees(bucket)
    keys = await _sampled(services, bucket, sample, report)
    gone = [
        key
        for key, mark, _ in await services.ledger.claims.tombstones(bucket, limit=sample or 1_000_000)
        if mark.startswith(DELETED) or mark == "deleted"
    ]
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(key: str, *, deleted: bool) -> None:
        async with gate:
            await _compare(services, bucket, key, report, deleted=deleted)

    wanted = [(key, False) for key in keys] + [(key, True) for key in gone]
    for at in range(0, len(wanted), 1000):
        try:
            async with asyncio.TaskGroup() as group:
                for key, deleted in wanted[at : at + 1000]:
                    group.create_task(one(key, deleted=deleted))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from several
    return report


async def _sampled(services: Services, bucket: str, sample: int | None, report: BackReport) -> list[str]:
    """Keys of the store that are written back: all, or as many by chance, each as likely as every other."""
    rng = random.SystemRandom()
    chosen: list[str] = []
    async for key in _keys(services, bucket):
        report.keys += 1
        if sample is None or len(chosen) < sample:
            chosen.append(key)
        else:
            at = rng.randrange(report.keys)
            if at < sample:
                chosen[at] = key
    return chosen


async def _keys(services: Services, bucket: str) -> AsyncIterator[str]:
    ruleset = services.rules.snapshot(bucket)
    async for page in services.store.list(bucket):
        for listed in page.objects:
            if not is_reserved(listed.key) and writes_back(ruleset, listed.key) is not None:
                yield listed.key


async def _compare(services: Services, bucket: str, key: str, report: BackReport, *, deleted: bool) -> None:
    route = writes_back(services.rules.snapshot(bucket), key)
    if route is None:
        return
    wrong = await _wrong(services, bucket, key, route, deleted=deleted)
    if wrong is None and deleted:
        report.deleted += 1
        return
    if wrong and await services.ledger.back.is_pending(bucket, key):
        report.pending += 1
        return
    report.compared += 1
    if not wrong:
        report.equal += 1
        return
    report.different += 1
    if len(report.differences) < _NAMED:
        report.differences.append((key, wrong))


async def _wrong(services: Services, bucket: str, key: str, route: BackRoute, *, deleted: bool) -> str | None:
    """What is not equal; empty for nothing, None for a deleted key that is gone on both sides."""
    ours = await _ours(services, bucket, key)
    if ours is None:
        theirs = await services.origin_writer.head(route, key)
        return "not_deleted" if theirs is not None else (None if deleted else "")
    info, digest = ours
    found = await services.origin_writer.wire.digest(route, route.path(key))
    if found is None:
        return "missing"
    answer, theirs_digest = found
    if theirs_digest != digest:
        return "bytes"
    if info.user_meta.get(KEY_SHA256) == sha256(key.encode()).hexdigest():
        return ""  # pulled: its headers are the origin's, as far as a store can keep them
    if not _same_headers(carried(info), carried(object_info(key, answer.headers.items()))):
        return "metadata"
    tags = await read_tags(services.store, bucket, key)
    return "" if tags == await _their_tags(services, route, key) else "tags"


async def _ours(services: Services, bucket: str, key: str) -> tuple[ObjectInfo, str] | None:
    async with await services.store.get(bucket, key) as found:
        if found.status == 404:
            return None
        if found.info is None:
            raise StoreUnavailable(f"GET {bucket}/{key}: {found.status}", status=found.status)
        digest = sha256()
        async for chunk in found.chunks():
            digest.update(chunk)
        return found.info, digest.hexdigest()


async def _their_tags(services: Services, route: BackRoute, key: str) -> Tags:
    answer = await services.origin_writer.wire.ask(
        route, "GET", route.path(key), query=[("tagging", "")], accept=frozenset({404})
    )
    return () if answer.status == 404 else tags_of(answer.body, what=f"TAGS {route.origin.host}")


def _same_headers(ours: dict[str, str], theirs: dict[str, str]) -> bool:
    """Whether metadata is the same; a content type that nobody gave is each store's own default."""
    defaults: Sequence[str] = ("binary/octet-stream", "application/octet-stream")
    for headers in (ours, theirs):
        if headers.get("content-type") in defaults:
            del headers["content-type"]
    return ours == theirs
