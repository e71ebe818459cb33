"""What is known of a scan: its options, its phase, its exact counts, its checkpoint; in Redis.

Owns the records that the coordinator writes and everybody reads (`scan status`, the admin API, the page, the
gate), and the lease that lets one coordinator run a scan at a time. Outcomes of keys that went to the queue
are not here but in `workers.ledger.outcomes`: the two together make the `account`.

Key schema (ledger database)::

    ns:scans               hash    scan name -> JSON ScanState; those of shards are `scan.shards.records`'
    ns:verifications       hash    `verify:<scan>` -> JSON ScanState of its verification on the fleet
    ns:scans-index, ns:verifications-index    `scan_index`'s
    ns:scan-window:<name>  string  the batches that the checkpoint counts and the queue may not have yet; of
                                   a range of the way back those that are under way
    ns:scan-sent:<name>    string  number of the first batch that the queue may not have yet
    ns:scan-lease:<name>   string  coordinator's `host:pid:token`, 15 s, renewed
    ns:scan-servers        zset    `host:pid` of processes that run scans -> unix time of their last word
    ns:scan-order:<name>   string  `pause`, `resume` or `cancel`: what an operator asked for
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import orjson
from pydantic import TypeAdapter

from scheduler.scan.record.scan_index import ACTIVE, ScanIndex, score_of
from scheduler.scan.record.shard import Shard, Verification, Verified  # noqa: TC001  # pydantic reads them
from workers.ledger.names import blocks_key, named, names_key
from workers.plan import Batch, decode_batch, encode_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from workers.ledger.names import Named

LEASE_MS = 15_000
#: The hash of the records of verifications.
VERIFICATIONS = "verifications"
#: Scans that status and page show: those under way first, then those that were requested last.
MOST_SHOWN = 200
#: Share of keys that may be absent, unless `max_absent` says otherwise; more is no clean-up but a mistake.
MAX_ABSENT = 0.9
#: Seconds after which a process that said it runs scans is not counted on any more.
SERVER_S = 15.0

_WRITE = """
-- KEYS: scans, lease, window, names, blocks, index; ARGV: token, name, record, window or nothing, 1 when the
-- names so far are void, place in the index or nothing, 1 when there must be a record, then lines of names
local held = redis.call('get', KEYS[2])
if ARGV[1] == '' then
  if held then return 0 end
elseif held ~= ARGV[1] then
  return 0
end
if ARGV[7] == '1' and redis.call('hexists', KEYS[1], ARGV[2]) == 0 then return 0 end
redis.call('hset', KEYS[1], ARGV[2], ARGV[3])
if ARGV[4] ~= '' then redis.call('set', KEYS[3], ARGV[4]) end
if ARGV[5] == '1' then
  redis.call('del', KEYS[4])
  redis.call('hset', KEYS[5], 'void', redis.call('hget', KEYS[5], 'closed') or 0)
end
if ARGV[6] ~= '' then redis.call('zadd', KEYS[6], ARGV[6], ARGV[2]) end
for i = 8, #ARGV do redis.call('rpush', KEYS[4], ARGV[i]) end
return 1
"""

#: What a scan may be called.
NAME: Final = r"[a-z0-9][a-z0-9._-]{0,62}"
Phase = Literal["requested", "inventory", "compare", "move", "done", "failed", "cancelled"]
Order = Literal["pause", "resume", "cancel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """What was asked for; it does not change while a run lasts."""

    bucket: str
    #: Source name to its argument, for example `{"manifest": "urls.csv"}`.
    inventory: dict[str, Any]
    prefix: str = ""
    #: Regular expressions on the key: kept when any `include` (if there are some) and no `exclude` matches.
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    #: Bytes; entries without a size pass.
    min_size: int | None = None
    max_size: int | None = None
    #: Unix seconds; entries without a time pass.
    changed_after: float | None = None
    changed_before: float | None = None
    #: The same in days before the run was requested, so that repeating a command means the same run.
    max_age_days: float | None = None
    min_age_days: float | None = None
    compare: tuple[Literal["size", "digest", "mtime"], ...] = ("size",)
    replace: bool = False
    dry_run: bool = False
    #: Stop after that many missing keys.
    limit: int | None = None
    #: Missing keys sent to the queue a second.
    rate: float | None = None
    #: Hours in which keys are sent, such as `22:00-06:00 mon-fri`, by the coordinator's clock; none: always.
    windows: tuple[str, ...] = ()
    #: End the run when that many keys have failed.
    stop_after_failures: int | None = None
    #: End the run when more than this share of its keys is absent at the origin; 1: never.
    max_absent: float = MAX_ABSENT
    #: An inventory without any key is meant, and may open the gate.
    allow_empty: bool = False
    #: The other way: what the store has and the origin lacks is brought back (`scheduler.scan.reverse_run`).
    reverse: bool = False
    #: Ranges of keys that are compared side by side in the fleet; `auto`: as many as that and the keys want.
    shards: int | Literal["auto"] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The coordinator's part of the account of one group of keys."""

    #: Entries of the inventory, each key once.
    found: int = 0
    present: int = 0
    #: Present, but not as the inventory says; not counted in `present`.
    differs: int = 0
    excluded: int = 0
    #: Keys that can not be asked for; they stand in the failures.
    refused: int = 0
    #: Sent to the queue (in a dry run: would be).
    sent: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a new coordinator goes on. Everything up to `key` is counted and its batches are in the queue."""

    key: str
    #: Continuation token of the listing page that `key` stands in, when the store gave one.
    continuation: str | None = None
    #: Number of the next batch.
    batch: int = 0
    #: There is nothing to compare behind it: both sides were read to their end, or the limit was reached.
    compared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanState:
    """A scan, or a shard of one, as it stands."""

    name: str
    #: Identity of this run: accounting of an earlier run of the same name is another one's.
    run: str
    options: ScanOptions
    phase: Phase = "requested"
    paused: bool = False
    requested_at: float = 0.0
    started_at: float = 0.0
    updated_at: float = 0.0
    finished_at: float = 0.0
    #: Seconds of work, by a clock that nobody sets: without pauses and without time between coordinators.
    active_s: float = 0.0
    #: Why the phase is `failed`.
    error: str = ""
    #: Keys that had failed when a failed run was taken up again: `stop_after_failures` counts from there.
    forgiven: int = 0
    #: What the coordinator waits for, when it is not work; empty else.
    waiting: str = ""
    #: Entries read from the source so far, and whether it is complete.
    read: int = 0
    inventory_file: str = ""
    inventory_complete: bool = False
    #: Which of the files that have stood there was read; empty where it is no file here.
    inventory_version: str = ""
    #: Pages, folders or sitemaps of the source that were read so far, places that could not be, and links
    #: that lead out of it.
    pages: int = 0
    unread: int = 0
    outside: int = 0
    #: Number and digest of the sorted entries, and what was counted while they were read.
    inventory_keys: int | None = None
    inventory_digest: str = ""
    inventory_groups: dict[str, Counts] = field(default_factory=dict)
    #: Which store the counts speak of.
    store: str = ""
    #: Order of the sorted inventory and of the checkpoint's key; `bytes` or `path`.
    collation: str = ""
    #: The store's listing came in another order than it was judged to: it is sorted here.
    listing_sorted: bool = False
    #: Why nobody may go on with this run; empty else.
    spoilt: str = ""
    #: Keys the inventory named more than once.
    duplicates: int = 0
    #: Keys of the bucket that the inventory lacks (moved by misses, or written by users).
    extra: int = 0
    checkpoint: Checkpoint | None = None
    groups: dict[str, Counts] = field(default_factory=dict)
    #: Of a scan that was cut: into how many ranges at first; its counts are then the sum of theirs.
    shards: int = 0
    #: Why it runs as one although more was asked for; empty else.
    one_shard: str = ""
    #: Each shard lists its range of the source, which is a bucket: there is no sorted inventory.
    source_listed: bool = False
    #: Of a shard: which.
    shard: Shard | None = None
    #: Of a verification: what was asked for, and what is found so far (of a shard: in its range).
    verification: Verification | None = None
    verified: Verified | None = None


_STATE: TypeAdapter[ScanState] = TypeAdapter(ScanState)


def dump(state: ScanState) -> bytes:
    """A record as it is kept."""
    return _STATE.dump_json(state)


def not_to_be_continued(state: ScanState, store: str) -> str:
    """Why a run cannot be gone on with on this store; empty when it can. PURE."""
    if state.spoilt:
        return state.spoilt
    if state.store and state.store != store:
        return f"it was begun on the store {state.store}, and the store is {store} now"
    if state.checkpoint is not None and not state.checkpoint.compared and not state.collation:
        return "its checkpoint is of an earlier version of Ferryman and does not say in which order it counts"
    return ""


class ScanPage(NamedTuple):
    """Some scans; `cursor` gives those that follow (empty: none do), `total` is all there are."""

    scans: list[ScanState]
    cursor: str
    total: int


class ScanStates:
    """The records of every scan, or with `records` those of another hash."""

    #: Whether there is an index of them.
    _indexed = True
    #: Who holds a record never makes it: one that is gone was forgotten, and is not written again.
    _made_elsewhere = False

    def __init__(self, redis: Redis, *, namespace: str, records: str = "scans") -> None:
        self._redis = redis
        self._ns = namespace
        self._records = f"{namespace}:{records}"
        self._index = ScanIndex(redis, records=self._records)
        self._swap = redis.register_script(
            "if redis.call('get', KEYS[1]) == ARGV[1] then "
            "if ARGV[2] == '0' then return redis.call('del', KEYS[1]) end "
            "return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
        )
        self._write = redis.register_script(_WRITE)

    async def get(self, name: str) -> ScanState | None:
        """The scan of that name, or None."""
        found = await self._redis.hget(self._records, name)
        return None if found is None else _STATE.validate_json(found)

    async def all(self) -> list[ScanState]:
        """Every scan, by name."""
        rows = await self._redis.hgetall(self._records)
        return sorted((_STATE.validate_json(row) for row in rows.values()), key=lambda state: state.name)

    async def live(self) -> list[ScanState]:
        """Those that are under way, by name; what has ended costs nothing."""
        return [state for state in await self._named(await self._index.live()) if state.phase in ACTIVE]

    async def recent(self, most: int = MOST_SHOWN) -> list[ScanState]:
        """Those that are under way and those that were requested last, at most so many, by name."""
        return await self._named((await self._index.page(most)).names)

    async def page(self, most: int = MOST_SHOWN, cursor: str = "") -> ScanPage:
        """Those that are under way, then those that were requested last: some, and how to have the next.

        Raises:
            WrongCursor: it is none that a page gave.
        """
        names, after, total = await self._index.page(most, cursor)
        found = {state.name: state for state in await self._named(names)}
        return ScanPage([found[name] for name in names if name in found], after, total)

    async def _named(self, names: list[str]) -> list[ScanState]:
        rows = await self._redis.hmget(self._records, names) if names else []
        return [_STATE.validate_json(row) for _, row in sorted(zip(names, rows, strict=True)) if row]

    async def put(self, state: ScanState) -> None:
        """Write a scan's record."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._records, state.name, dump(state))
            pipe.zadd(self._index.key, {state.name: float(score_of(state.phase, state.requested_at))})
            await pipe.execute()

    async def put_held(self, state: ScanState, token: str, *, names_void: bool = False) -> bool:
        """Write a record as its coordinator, or with `""` while it has none; False when that is over.

        `names_void`: the keys that were named so far are not counted any more.
        """
        return await self._write_held(state, token, void=names_void)

    async def checkpoint(
        self, state: ScanState, window: Sequence[Batch], token: str, names: Sequence[Named] = ()
    ) -> bool:
        """Write the record, the batches and the names that it counts; all, or none (False) without the lease.

        Only then are the batches opened and enqueued: a coordinator that dies in between leaves exactly these
        to its successor, under the same numbers, whatever the listing shows by then.
        """
        wire = orjson.dumps([encode_batch(batch) for batch in window])
        return await self.checkpoint_with(state, wire, token, names)

    async def checkpoint_with(
        self, state: ScanState, window: bytes, token: str, names: Sequence[Named] = ()
    ) -> bool:
        """The same of what is no batch for the queue; `kept_window` gives it to whoever goes on."""
        return await self._write_held(state, token, window, names=names)

    async def _write_held(
        self,
        state: ScanState,
        token: str,
        window: bytes = b"",
        *,
        void: bool = False,
        names: Sequence[Named] = (),
    ) -> bool:
        keys = [self._records]
        keys += [f"{self._ns}:{key}" for key in (f"scan-lease:{state.name}", f"scan-window:{state.name}")]
        keys += [names_key(self._ns, state.run), blocks_key(self._ns, state.run), self._index.key]
        args: list[str | bytes | int] = [
            token,
            state.name,
            dump(state),
            window,
            int(void),
            score_of(state.phase, state.requested_at) if self._indexed else "",
            int(self._made_elsewhere),
            *map(named, names),
        ]
        return bool(await self._write(keys, args))

    async def window(self, name: str) -> list[Batch]:
        """The batches of the last checkpoint."""
        found = await self.kept_window(name)
        return [] if found is None else [decode_batch(wire) for wire in orjson.loads(found)]

    async def kept_window(self, name: str) -> str | None:
        """What stands beside the last checkpoint, as it was written."""
        found = await self._redis.get(f"{self._ns}:scan-window:{name}")
        return None if found is None else str(found)

    async def sent(self, name: str) -> int:
        """Number of the first batch that the queue may not have yet."""
        return int(await self._redis.get(f"{self._ns}:scan-sent:{name}") or 0)

    async def mark_sent(self, name: str, batch: int) -> None:
        """The queue has this batch, and all before it."""
        await self._redis.set(f"{self._ns}:scan-sent:{name}", batch + 1)

    async def serve(self, server: str) -> None:
        """Say that this process (`host:pid`) runs scans; it is to be said every few seconds."""
        now = time.time()
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(f"{self._ns}:scan-servers", {server: now})
            pipe.zremrangebyscore(f"{self._ns}:scan-servers", 0, now - 60)
            await pipe.execute()

    async def servers(self) -> list[str]:
        """Processes (`host:pid`) that run scans and said so lately."""
        found = await self._redis.zrangebyscore(f"{self._ns}:scan-servers", time.time() - SERVER_S, "inf")
        return [str(server) for server in found]

    async def forget_run(self, name: str) -> None:
        """Drop what an earlier run left beside its record: its last window, and an order it did not see."""
        names = ("scan-window", "scan-sent", "scan-order")
        await self._redis.delete(*(f"{self._ns}:{what}:{name}" for what in names))

    async def order(self, name: str, order: Order) -> None:
        """Ask the coordinator to pause, resume or cancel; it looks every second."""
        await self._redis.set(f"{self._ns}:scan-order:{name}", order, ex=86_400)

    async def ordered(self, name: str) -> Order | None:
        """What was asked and is not carried out yet."""
        found = await self._redis.get(f"{self._ns}:scan-order:{name}")
        match found:
            case "pause" | "resume" | "cancel":
                return found
            case _:
                return None

    async def obeyed(self, name: str, order: Order) -> None:
        """The order is carried out; a later one stays."""
        await self._swap([f"{self._ns}:scan-order:{name}"], [order, 0])

    async def acquire(self, name: str, token: str) -> bool:
        """Become the coordinator; False while another one lives."""
        return bool(await self._redis.set(f"{self._ns}:scan-lease:{name}", token, nx=True, px=LEASE_MS))

    async def coordinator(self, name: str) -> str:
        """`host:pid` of whoever coordinates the scan now; empty when nobody does."""
        token = await self._redis.get(f"{self._ns}:scan-lease:{name}")
        return str(token).rpartition(":")[0] if token else ""

    async def renew(self, name: str, token: str) -> bool:
        """Stay the coordinator; False when the lease was lost to another one."""
        return bool(await self._swap([f"{self._ns}:scan-lease:{name}"], [token, LEASE_MS]))

    async def release(self, name: str, token: str) -> None:
        """Be the coordinator no more."""
        await self._swap([f"{self._ns}:scan-lease:{name}"], [token, 0])
