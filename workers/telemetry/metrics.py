"""Every metric that Ferryman has: names, labels, and the functions that count.

Owns the names (Prometheus conventions: base units, `_total`), the bound on labels, and the rendering. A
label's values come from configuration or from a short fixed list; of hosts and the like at most 100 are
told apart, the rest are `other`. What is counted for every object is first added up in memory, and
brought to prometheus_client once a second, because its histograms cost more than a short request
should.

Functions are called on the process's event loop. With `PROMETHEUS_MULTIPROC_DIR` set
(`metric_files.use`), any process of the machine renders the sum of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from workers.telemetry import metric_files
from workers.telemetry.metric_types import Bounded, Count, Spread, flush

if TYPE_CHECKING:
    from workers.plan import Lane

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
#: prometheus_client chose between memory and files when it was imported, just now; so do we.
_DIRECTORY: Final = metric_files.directory()

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LONG_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_BYTES = tuple(float(4**step * 1024) for step in range(13))

# Once a series, and of no use to anybody here.
disable_created_metrics()  # type: ignore[no-untyped-call]


# ---------------------------------------------------------------- names

_ORIGIN_REQUESTS = Count(
    "ferryman_origin_requests_total",
    "Answers of origins: the HTTP status, or the reason of a failure without one.",
    "origin",
    "status",
)
_ORIGIN_FIRST_BYTE = Spread(
    "ferryman_origin_first_byte_seconds",
    "Time to the first byte of an origin's good answer.",
    _SECONDS,
    "origin",
)
_TRANSFER_SECONDS = Spread(
    "ferryman_transfer_seconds", "Time of one item from its start to its outcome.", _LONG_SECONDS, "lane"
)
_TRANSFER_BYTES = Spread("ferryman_transfer_bytes", "Size of stored objects.", _BYTES, "lane")
_OUTCOMES = Count("ferryman_outcomes_total", "Finished items by rule and outcome.", "rule", "outcome")
_FAILURES = Count("ferryman_failures_total", "Items that became listed failures, by reason.", "reason")
_RETRIES = Count(
    "ferryman_retries_total", "Items that went back to the queue after a failure, by reason.", "reason"
)
_BACK = Count(
    "ferryman_back_total",
    "Keys made equal at their origin on the way back, by rule and what was done: `copied`, `tagged`, "
    "`deleted`, `unchanged`.",
    "rule",
    "kind",
)
_BACK_SECONDS = Spread(
    "ferryman_back_seconds", "Time of one key on the way back, from its taking to its end.", _LONG_SECONDS
)
_BACK_BYTES = Spread("ferryman_back_bytes", "Size of objects copied back to origins.", _BYTES)
_BACK_FAILURES = Count(
    "ferryman_back_failures_total",
    "Tries on the way back that failed, by reason; `listed`: no further one follows.",
    "reason",
    "listed",
)
_CLAIMS = Count("ferryman_claims_total", "Keys claimed for pulling, by result.", "result")
_EVENTS = Count("ferryman_miss_events_total", "Miss events taken, by source and result.", "source", "result")
_NEGATIVE = Count(
    "ferryman_negative_cache_hits_total",
    "Requests answered from the memory that a key is absent at its origin.",
)
_BUDGET_WAIT = Spread(
    "ferryman_budget_wait_seconds",
    "Waits for an origin's budget that ended with a slot.",
    _LONG_SECONDS,
    "lane",
)
_BUDGET_SPENT = Count(
    "ferryman_budget_exhausted_total", "Waits for an origin's budget that ended without.", "lane"
)
_EJECTIONS = Count("ferryman_ejections_total", "Ejections decided by this process, by origin.", "origin")
_CREATE_ONLY = Count(
    "ferryman_create_only_refusals_total", "Writes that the store refused because the key was there already."
)
_GATEWAY_REQUESTS = Count(
    "ferryman_gateway_requests_total",
    "Requests to the gateway by status and kind of answer.",
    "status",
    "kind",
)
_UNION_LISTS = Count(
    "ferryman_union_lists_total",
    "Pages of `list: union`: whole, refused (an origin could not be listed), degraded (the store's alone), "
    "store_failed.",
    "result",
)
_S3_REQUESTS = Count("ferryman_s3_requests_total", "Answers of the S3 front.", "operation", "status")
_GATEWAY_FIRST_BYTE = Spread(
    "ferryman_gateway_first_byte_seconds",
    "Time to the gateway's response head, by kind of answer.",
    _SECONDS,
    "kind",
)
_LOG_LINES = Count("ferryman_consumer_lines_total", "Log lines read, by log and result.", "log", "result")

_ORIGIN_EJECTED = Gauge(
    "ferryman_origin_ejected", "1 while an origin is out.", ["origin"], multiprocess_mode="livemax"
)
_QUEUE_DEPTH = Gauge(
    "ferryman_queue_depth", "Messages waiting, by queue.", ["queue"], multiprocess_mode="livemostrecent"
)
_QUEUE_AGE = Gauge(
    "ferryman_queue_oldest_age_seconds",
    "Age of the oldest waiting message, by queue.",
    ["queue"],
    multiprocess_mode="livemostrecent",
)
_LAG_BYTES = Gauge(
    "ferryman_consumer_lag_bytes", "Bytes of a log not yet read.", ["log"], multiprocess_mode="livemostrecent"
)
_LAG_SECONDS = Gauge(
    "ferryman_consumer_lag_seconds",
    "Time since a log was last read to its end.",
    ["log"],
    multiprocess_mode="livemostrecent",
)
_SCAN_KEYS = Gauge(
    "ferryman_scan_keys", "Keys of a scan by state.", ["scan", "state"], multiprocess_mode="livemostrecent"
)
_SCAN_SHARDS = Gauge(
    "ferryman_scan_shards",
    "Ranges of keys of a scan: done, running, waiting.",
    ["scan", "state"],
    multiprocess_mode="livemostrecent",
)
_SCAN_SLOWEST = Gauge(
    "ferryman_scan_slowest_shard_seconds",
    "Work on the range of a scan that has taken longest of those not done; 0 when all are.",
    ["scan"],
    multiprocess_mode="livemostrecent",
)
_SCAN_ETA = Gauge(
    "ferryman_scan_eta_seconds",
    "Time that a scan will likely still take; NaN while nobody can say.",
    ["scan"],
    multiprocess_mode="livemostrecent",
)
_LISTED_FAILURES = Gauge(
    "ferryman_listed_failures", "Keys in the failures list.", ["bucket"], multiprocess_mode="livemostrecent"
)
_BACK_PENDING = Gauge(
    "ferryman_back_pending_keys",
    "Keys whose last write the origin may lack, by bucket.",
    ["bucket"],
    multiprocess_mode="livemostrecent",
)
_BACK_LAG = Gauge(
    "ferryman_back_lag_seconds",
    "Age of the oldest write that the origin lacks, by bucket; 0 without one.",
    ["bucket"],
    multiprocess_mode="livemostrecent",
)
_WORKERS = Gauge(
    "ferryman_workers", "Worker processes with a fresh heartbeat.", multiprocess_mode="livemostrecent"
)
_origins, _buckets, _logs, _scans = Bounded(), Bounded(), Bounded(), Bounded()


# ---------------------------------------------------------------- origins


def origin_answered(origin: str, status: int | str, *, first_byte_s: float | None = None) -> None:
    """An origin answered with `status`, or failed with a reason; `first_byte_s` for good answers."""
    _ORIGIN_REQUESTS.add(origin, str(status))
    if first_byte_s is not None:
        _ORIGIN_FIRST_BYTE.observe(first_byte_s, origin)


def ejected(host: str) -> None:
    """This process has put an origin out."""
    _EJECTIONS.add(host)


def origins_out(out: frozenset[str], well_again: frozenset[str]) -> None:
    """Which origins are out now, and which no longer are."""
    for host in out:
        _ORIGIN_EJECTED.labels(_origins(host)).set(1)
    for host in well_again:
        _ORIGIN_EJECTED.labels(_origins(host)).set(0)


def budget_waited(lane: Lane, seconds: float) -> None:
    """Somebody waited for an origin's budget and got a slot."""
    _BUDGET_WAIT.observe(seconds, lane.value)


def budget_exhausted(lane: Lane) -> None:
    """Somebody waited for an origin's budget in vain."""
    _BUDGET_SPENT.add(lane.value)


# ---------------------------------------------------------------- items


def transferred(lane: str, *, seconds: float, size_bytes: int) -> None:
    """One item ended with an outcome; `size_bytes` 0 when nothing was stored."""
    _TRANSFER_SECONDS.observe(seconds, lane)
    if size_bytes:
        _TRANSFER_BYTES.observe(size_bytes, lane)


def outcome(rule: str, kind: str) -> None:
    """One item ended: `stored`, `already_present`, `absent_at_origin`, `skipped`."""
    _OUTCOMES.add(rule, kind)


def failed(reason: str, *, listed: bool) -> None:
    """One item failed; `listed` when no further attempt follows."""
    (_FAILURES if listed else _RETRIES).add(reason)


def create_only_refused() -> None:
    """The store had the key already and kept its object."""
    _CREATE_ONLY.add()


class WorkerObserver:
    """What a batch runner tells about its items (`workers.queue.runner.Observer`)."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane.value

    def finished(self, rule: str, outcome: str, size: int, duration_s: float) -> None:
        """One item ended with an outcome; `size` in bytes, 0 when nothing was stored."""
        _OUTCOMES.add(rule, outcome)
        _TRANSFER_SECONDS.observe(duration_s, self._lane)
        if size and outcome == "stored":
            _TRANSFER_BYTES.observe(size, self._lane)

    def failed(self, rule: str, reason: str, *, listed: bool) -> None:  # noqa: ARG002 -- the rule is in the ledger
        """One item failed; `listed` when no further attempt follows."""
        (_FAILURES if listed else _RETRIES).add(reason)


class BackCounts:
    """What the way back tells about its keys (`workers.back.settle.BackObserver`)."""

    def brought(self, rule: str, kind: str, size: int, duration_s: float) -> None:
        """One key is equal at its origin now; `size` in bytes, 0 when none were copied."""
        _BACK.add(rule, kind)
        _BACK_SECONDS.observe(duration_s)
        if size:
            _BACK_BYTES.observe(size)

    def failed(self, reason: str, *, listed: bool) -> None:
        """One try failed; `listed` when no further one follows."""
        _BACK_FAILURES.add(reason, "yes" if listed else "no")


# ---------------------------------------------------------------- misses


def claimed(result: str, n: int = 1) -> None:
    """Keys were claimed with this result: `claimed`, `duplicate`, `stored`, `absent`, `tombstone`.

    `unknown`: Redis did not answer, and a front went on without.
    """
    if n:
        _CLAIMS.add(result, n=n)


def events_taken(source: str, result: str, n: int = 1) -> None:
    """Miss events came from `source` (`log`, `http`) with this result: `accepted`, `duplicate`, …."""
    if n:
        _EVENTS.add(source, result, n=n)


def negative_cache_hit() -> None:
    """A request was answered from the memory that its key is absent."""
    _NEGATIVE.add()


def gateway_answered(status: int, kind: str, *, first_byte_s: float) -> None:
    """The gateway answered: `kind` is `hit`, `origin`, `redirect`, `absent`, …."""
    _GATEWAY_REQUESTS.add(str(status), kind)
    _GATEWAY_FIRST_BYTE.observe(first_byte_s, kind)


def s3_answered(operation: str, status: int) -> None:
    """The S3 front answered an operation; those without a name of their own are `Other`."""
    _S3_REQUESTS.add("Other" if operation.startswith("Other") else operation, str(status))


def union_listed(result: str) -> None:
    """A page of a merged list was answered, or was not."""
    _UNION_LISTS.add(result)


# ---------------------------------------------------------------- states


def queue_state(queue: str, *, depth: int, oldest_age_s: float) -> None:
    """How a queue stands."""
    _QUEUE_DEPTH.labels(queue).set(depth)
    _QUEUE_AGE.labels(queue).set(oldest_age_s)


def workers_alive(count: int) -> None:
    """How many worker processes have a fresh heartbeat."""
    _WORKERS.set(count)


def listed_failures(bucket: str, count: int) -> None:
    """How many keys of a bucket are in the failures list."""
    _LISTED_FAILURES.labels(_buckets(bucket)).set(count)


def back_state(bucket: str, *, pending: int, lag_s: float) -> None:
    """How far the origins of a bucket are behind."""
    label = _buckets(bucket)
    _BACK_PENDING.labels(label).set(pending)
    _BACK_LAG.labels(label).set(lag_s)


def consumer_state(log: str, *, lag_bytes: int, lag_s: float) -> None:
    """How far the consumer of a log is behind."""
    label = _logs(log)
    _LAG_BYTES.labels(label).set(lag_bytes)
    _LAG_SECONDS.labels(label).set(lag_s)


def log_lines(log: str, result: str, n: int) -> None:
    """Lines of a log were read with this result: `miss`, `other`, `unreadable`."""
    if n:
        _LOG_LINES.add(log, result, n=n)


def scan_state(scan: str, state: str, keys: int) -> None:
    """How many keys of a scan are in a state: `listed`, `missing`, `stored`, `failed`, …."""
    _SCAN_KEYS.labels(_scans(scan), state).set(keys)


def scan_shards(
    scan: str, *, done: int, running: int, waiting: int, slowest_s: float, eta_s: float | None
) -> None:
    """How the ranges of a scan stand."""
    label = _scans(scan)
    for state, number in (("done", done), ("running", running), ("waiting", waiting)):
        _SCAN_SHARDS.labels(label, state).set(number)
    _SCAN_SLOWEST.labels(label).set(slowest_s)
    _SCAN_ETA.labels(label).set(float("nan") if eta_s is None else eta_s)


# ---------------------------------------------------------------- reading


def render() -> bytes:
    """All metrics in the text format: of all processes of the machine where they share a directory."""
    flush()
    return collect()


def collect() -> bytes:
    """As `render`, without this process's last second; safe on another thread."""
    if _DIRECTORY is None:
        return generate_latest(REGISTRY)
    metric_files.fold_dead(_DIRECTORY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(_DIRECTORY))  # type: ignore[no-untyped-call]
    with metric_files.reading(_DIRECTORY):
        return generate_latest(registry)
