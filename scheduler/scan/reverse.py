"""A scan the other way round: the store is the inventory, the origin the destination.

Owns what the way back is asked to bring: keys that the origin lacks, that the store has newer, and those that
were deleted through the gateway and are still there. Both listings are sorted outside memory, because a rule
may name keys otherwise at its origin. A run that is broken off begins anew: noting a key twice is harmless.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, defaultdict, deque
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

from scheduler.dispatch.dispatcher import key_problem
from scheduler.machine.embedded import store_identity
from scheduler.rules.keys import is_reserved
from scheduler.rules.write_back import routes
from scheduler.scan.compare.compare import Groups
from scheduler.scan.compare.listing import sorted_blocks
from scheduler.scan.compare.sorting import Sorter
from scheduler.scan.compare.wanted import added
from scheduler.scan.held import TICK_S, LeaseLost
from scheduler.scan.inventory.entry import Collation, Entry
from scheduler.scan.run import Coordinator
from workers.back_routes import route_for
from workers.errors import ConfigError
from workers.ledger.back import DELETED, TOLD, WRITTEN
from workers.ledger.claims import DELETED as BURIED
from workers.ledger.names import Named
from workers.store.listing import list_objects
from workers.store.metadata import KEY_SHA256
from workers.store.model import StoreAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from workers.back.wire import OriginWire
    from workers.back_routes import BackRoute
    from workers.store.model import ListedObject
    from workers.store.wire.transport import Transport

#: Keys of one step, keys of one batch, and batches whose end is waited for at once.
_STEP: Final = 2_000
_BATCH: Final = 200
_OUTSTANDING: Final = 50
_LOOKS_AT_ONCE: Final = 32
_MD5: Final = re.compile(r"[0-9a-f]{32}")
#: Names of vendors' endpoints whose first label is the bucket.
_BUCKET_FIRST: Final = re.compile(
    r"[a-z0-9][a-z0-9.-]*\.(?:s3[.-][a-z0-9.-]+|cos\.[a-z0-9-]+\.myqcloud\.com|oss-[a-z0-9-]+\.aliyuncs\.com"
    r"|storage\.googleapis\.com)"
)

Pair = tuple[str, "ListedObject | None", "ListedObject | None"]


class ReverseCoordinator(Coordinator):
    """Runs one reverse scan to its end."""

    async def _phases(self) -> None:
        state, services = self.state, self._services
        await services.ledger.outcomes.forget_scan(state.run)
        await services.ledger.outcomes.stop_scan(state.run, "pause" if state.paused else None)
        await services.rules.refresh()
        ruleset = services.rules.snapshot(state.options.bucket)
        found = routes(ruleset) if ruleset is not None else ()
        if all(route.mode == "off" for route in found):
            raise ConfigError(f"no rule of {state.options.bucket!r} writes back (origin.write_back)")
        self._groups = Groups()
        self._batches: deque[tuple[int, list[str]]] = deque()
        await self._put(
            replace(
                state,
                phase="inventory",
                started_at=state.started_at or time.time(),
                store=store_identity(services.settings),
                groups={},
                read=0,
                extra=0,
                checkpoint=None,
            ),
            names_void=True,
        )
        ours = await self._sorted("ours", self._ours(found))
        theirs = await self._sorted("theirs", self._theirs(found))
        await self._put(replace(self.state, phase="compare"))
        pairs = joined(ours, theirs)
        number = 0
        while step := await asyncio.to_thread(take, pairs, _STEP):
            await self._obey()
            number = await self._judge(step, number)
            while len(self._batches) > _OUTSTANDING:
                await self._settled()
        await self._put(replace(self.state, phase="move"))
        while self._batches:
            await self._obey()
            await self._settled()
        for path in (ours, theirs):
            path.unlink(missing_ok=True)
        await self._finish("done")

    # ------------------------------------------------------------------ both sides

    async def _sorted(self, name: str, listed: AsyncIterator[list[Entry]]) -> Path:
        """Both sides sorted by bytes, in a file each."""
        path = self._directory / f"{self.state.run}.{name}"
        sorter = await asyncio.to_thread(Sorter, path, Collation.BYTES)
        try:
            async for entries in listed:
                await self._obey()
                await asyncio.to_thread(sorter.add, entries)
                await self._put(replace(self.state, pages=self.state.pages + 1))
            return (await asyncio.to_thread(sorter.finish)).path
        except BaseException:
            sorter.abort()
            raise

    async def _ours(self, found: Sequence[BackRoute]) -> AsyncIterator[list[Entry]]:
        options = self.state.options
        async for page in self._services.store.list(options.bucket, options.prefix):
            yield [_entry(one.key, one) for one in page.objects if self._is_mine(one.key, found)]

    async def _theirs(self, found: Sequence[BackRoute]) -> AsyncIterator[list[Entry]]:
        for route in found:
            if route.mode == "off":
                continue
            root, inside = bucket_of(route)
            listing = _Listing(self._services.origin_writer.wire, root)
            async for page in list_objects(
                cast("Transport", listing),
                "",
                inside + route.front,
                continuation=None,
                start_after=None,
                headers={},
                plus_is_space=True,
            ):
                entries = []
                for one in page.objects:
                    key = here(route, one.key[len(inside) :])
                    if key is not None and self._is_mine(key, found) and route_for(found, key) == route:
                        entries.append(_entry(key, one))
                yield entries

    def _is_mine(self, key: str, found: Sequence[BackRoute]) -> bool:
        return (
            key.startswith(self.state.options.prefix)
            and not is_reserved(key)
            and key_problem(key) is None
            and route_for(found, key) is not None
        )

    # ------------------------------------------------------------------ what is to be brought

    async def _judge(self, step: list[Pair], number: int) -> int:
        """Count a step, and note what is to be brought; the number of the next batch."""
        counts: Counter[tuple[str, str]] = Counter()
        names: list[Named] = []
        wanted: dict[tuple[str, str], list[str]] = defaultdict(list)
        extra = 0
        looks = await self._looks(step)
        for key, ours, theirs in step:
            group = self._groups.of(key)
            if ours is None:
                if looks[key]:
                    counts[group, "found"] += 1
                    wanted[group, DELETED].append(key)
                else:
                    extra += 1
                continue
            counts[group, "found"] += 1
            if not self._selection.wants(Entry(key, ours.size, None, ours.last_modified or None)):
                counts[group, "excluded"] += 1
                names.append(Named("excluded", key))
            elif theirs is None:
                wanted[group, WRITTEN].append(key)
            elif same(ours, theirs) or looks[key]:
                counts[group, "present"] += 1
            elif ours.last_modified > theirs.last_modified:
                wanted[group, TOLD].append(key)
            else:
                counts[group, "differs"] += 1
                names.append(Named("differs", key, "newer_at_origin"))
        for (group, _), keys in wanted.items():
            counts[group, "sent"] += len(keys)
        self.state = self._stamped(
            replace(
                self.state,
                groups=added(self.state.groups, counts),
                extra=self.state.extra + extra,
                read=self.state.read + sum(1 for _, ours, _ in step if ours is not None),
            )
        )
        if not await self._states.checkpoint(self.state, [], self._token, names):
            raise LeaseLost(self.state.name)
        if not self.state.options.dry_run:
            for (group, how), keys in wanted.items():
                for at in range(0, len(keys), _BATCH):
                    await self._note(number, group, keys[at : at + _BATCH], how)
                    number += 1
        return number

    async def _looks(self, step: list[Pair]) -> dict[str, bool]:
        """Of keys that only the origin has: was it deleted by a client? Of different ones: was it pulled?"""
        gate = asyncio.Semaphore(_LOOKS_AT_ONCE)
        bucket, services = self.state.options.bucket, self._services

        async def look(key: str, *, ours: bool) -> bool:
            async with gate:
                if not ours:
                    mark = await services.ledger.claims.tombstone(bucket, key)
                    return mark is not None and (mark.startswith(BURIED) or mark == "deleted")
                info = await services.store.head(bucket, key)
                mine = sha256(key.encode()).hexdigest()
                return info is not None and info.user_meta.get(KEY_SHA256) == mine

        asked = [
            (key, ours is not None)
            for key, ours, theirs in step
            if ours is None or (theirs is not None and not same(ours, theirs))
        ]
        answers = await asyncio.gather(*(look(key, ours=ours) for key, ours in asked))
        return defaultdict(bool, {key: answer for (key, _), answer in zip(asked, answers, strict=True)})

    async def _note(self, number: int, group: str, keys: list[str], how: str) -> None:
        run, ledger = self.state.run, self._services.ledger
        await ledger.outcomes.open_batch(run, number, size=len(keys), group=group)
        await ledger.back.note(self.state.options.bucket, keys, how)
        self._batches.append((number, keys))

    async def _settled(self) -> None:
        """See what became of the oldest batch; a batch that is not at its end waits for the next look."""
        number, keys = self._batches.popleft()
        ledger = self._services.ledger
        states = await ledger.back.progress(self.state.options.bucket, keys)
        words = {"done": "stored", "failed": "failed"}
        places = [(at, words[state], 0) for at, state in enumerate(states) if state in words]
        await ledger.outcomes.set_places(self.state.run, number, places)
        if "pending" in states:
            self._batches.append((number, keys))
            await asyncio.sleep(TICK_S / 5)
        await self._put(self.state)


class _Listing:
    """What a listing asks of a transport, at an origin."""

    def __init__(self, wire: OriginWire, route: BackRoute) -> None:
        self._wire = wire
        self._route = route

    async def exchange(self, method: str, _bucket: str, *, headers: Any, query: Any) -> StoreAnswer:
        """One signed request about the bucket."""
        del headers
        answer = await self._wire.ask(self._route, method, "", query=query)
        return StoreAnswer(status=answer.status, headers=answer.headers, body=answer.body)

    async def pause(self, _error: Exception, attempt: int) -> None:
        """Before the next try of a page that could not be read."""
        await asyncio.sleep(0.2 * 2**attempt)


def bucket_of(route: BackRoute) -> tuple[BackRoute, str]:
    """The same route with the bucket itself as its base, and where its keys begin in the bucket. Pure."""
    origin = route.origin
    inside = unquote(origin.base_path)[1:]
    if _BUCKET_FIRST.fullmatch(origin.host.partition(":")[0]):
        return replace(route, origin=replace(origin, base_path="/")), inside
    bucket, _, below = inside.partition("/")
    if not bucket:
        message = f"{origin.host}{origin.base_path}: the URL of the origin names no bucket to be listed"
        raise ConfigError(message)
    return replace(route, origin=replace(origin, base_path=f"/{bucket}")), below


def here(route: BackRoute, path: str) -> str | None:
    """Our key of what lies at a path of the origin; None when it is none of the route's. Pure."""
    if not (path.startswith(route.front) and path.endswith(route.end)):
        return None
    middle = path[len(route.front) : len(path) - len(route.end)]
    if len(route.front) + len(route.end) > len(path):
        return None
    return f"{route.cut_front}{middle}{route.cut_end}"


def same(ours: ListedObject, theirs: ListedObject) -> bool:
    """Whether two listed objects have the same bytes, as far as listings tell. Pure."""
    if ours.size != theirs.size:
        return False
    if _MD5.fullmatch(ours.etag) and _MD5.fullmatch(theirs.etag):
        return ours.etag == theirs.etag
    return ours.last_modified <= theirs.last_modified


def joined(ours: Path, theirs: Path) -> Iterator[Pair]:
    """Every key of either side with what each has. Blocking."""
    left, right = _flat(ours), _flat(theirs)
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.key < other.key):
            assert one is not None
            yield one.key, one, None
            one = next(left, None)
        elif one is None or other.key < one.key:
            yield other.key, None, other
            other = next(right, None)
        else:
            yield one.key, one, other
            one, other = next(left, None), next(right, None)


def take(pairs: Iterator[Pair], most: int) -> list[Pair]:
    """The next pairs; none at the end."""
    return list(islice(pairs, most))


def _flat(path: Path) -> Iterator[ListedObject]:
    for block in sorted_blocks(path):
        yield from block.items


def _entry(key: str, listed: ListedObject) -> Entry:
    return Entry(key, listed.size, listed.etag, listed.last_modified)
