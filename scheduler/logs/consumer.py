"""One consumer for many logs: read, find misses, deliver, move the checkpoint.

Owns the loop and its order: the checkpoint of a chunk moves only after the sink has all of it; while one
chunk is being delivered the next one is read, never more. A chunk is read in blocks, and between two of them
the delivery goes on; the checkpoint is written in a thread, because a disk may take its time. Knows neither
dispatcher nor Redis: delivery is a `Sink`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import structlog

from scheduler.dispatch.sink import Stopped
from scheduler.logs.collect import Collector, Recent, Tally
from scheduler.logs.formats.detect import detect
from scheduler.logs.formats.prefilter import count_lines
from scheduler.logs.formats.record import parse
from scheduler.logs.saving import Saver
from scheduler.logs.sources import FileSet, FileStream, Source, StdinStream, SyslogStream, is_socket
from scheduler.logs.syslog import strip_header
from workers.errors import ConfigError
from workers.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from scheduler.dispatch.sink import Sink
    from scheduler.logs.checkpoint import Checkpoint
    from scheduler.logs.filters import MissFilter
    from scheduler.logs.formats.record import LineFormat
    from scheduler.misses.event import MissEvent
    from scheduler.misses.refusals import Deletion

log = structlog.get_logger(__name__)

#: Bytes delivered at once: enough for deduplication and for round trips to Redis to pay, and few to be read
#: again after a crash.
CHUNK_BYTES = 8 << 20
#: Bytes read at once: they stay in the processor's cache while they are gone through, and two milliseconds
#: later the delivery of the chunk before has its turn.
BLOCK_BYTES = 512 << 10
#: Seconds between looks when there is nothing to read.
POLL_S = 0.2
#: Seconds between warnings about the same stream.
_WARN_S = 60.0
#: Seconds between looks at a head that no format fits.
_LEARN_S = 2.0
#: First lines of which one must be of the named format.
_PROBED_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """One log as the operator asked for it."""

    #: A path, a pattern, `-`, `unix:/path` or `udp:host:port`.
    path: str
    #: None: told from the first lines.
    format: LineFormat | None
    filter: MissFilter
    #: Go on where the checkpoint left a file.
    resume: bool = True
    #: Where a file begins that is there already and has no checkpoint; one that appears later: its start.
    fresh: Literal["start", "end"] = "end"


@dataclass(slots=True, kw_only=True)
class _Stream:
    """One stream and what is known about it."""

    source: Source
    spec: InputSpec
    tally: Tally = field(default_factory=Tally)
    outcomes: Counter[str] = field(default_factory=Counter)
    collector: Collector | None = None
    caught_up_at: float = 0.0
    gap_bytes: int = 0
    gaps: int = 0
    warned_at: float = float("-inf")
    warned_broken: int = 0
    #: What metrics were told: lines, misses and broken ones.
    told: tuple[int, int, int] = (0, 0, 0)
    learn_at: float = 0.0


@dataclass(slots=True, kw_only=True)
class _Chunk:
    """Blocks of one stream that are delivered together."""

    tokens: list[object] = field(default_factory=list)
    events: list[MissEvent] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Delivery:
    stream: _Stream
    chunk: _Chunk
    task: asyncio.Task[Mapping[str, int]]


class Consumer:
    """Reads until stopped, or once to the end."""

    def __init__(
        self,
        specs: Sequence[InputSpec],
        *,
        sink: Sink,
        checkpoint: Checkpoint,
        once: bool = False,
        strict: bool = False,
        packed: bool = False,
        chunk_bytes: int = CHUNK_BYTES,
        dedupe_window_s: float = 4.0,
    ) -> None:
        """`once` ends at the end of every input; `strict` makes a format that does not fit an error;
        `packed` reads .gz files that a pattern names.

        Raises:
            ConfigError: an input cannot be opened.
        """
        self._sink = sink
        self._checkpoint = checkpoint
        self._once = once
        self._strict = strict
        self._chunk_bytes = chunk_bytes
        self._window_s = dedupe_window_s
        #: By what tells a request: those of another place or format are others.
        self._recent: dict[tuple[int, int], tuple[LineFormat, Recent]] = {}
        self._streams: list[_Stream] = []
        self._sets: list[tuple[InputSpec, FileSet]] = []
        self._pending: _Delivery | None = None
        self._saver = Saver(checkpoint)
        self.totals: Counter[str] = Counter()
        claimed: set[Path] = set()
        for spec in specs:
            if spec.path == "-":
                self._add(spec, StdinStream())
            elif is_socket(spec.path):
                self._add(spec, SyslogStream(spec.path))
            else:
                files = FileSet(
                    spec.path,
                    checkpoint=checkpoint,
                    resume=spec.resume,
                    fresh=spec.fresh,
                    packed=packed,
                    claimed=claimed,
                )
                self._sets.append((spec, files))
                for stream in files.look(time.monotonic()):
                    self._add(spec, stream)

    async def run(self, stop: asyncio.Event) -> None:
        """Read until `stop` is set, or, with `once`, until the end of every input.

        Raises:
            ConfigError: with `strict`, an input is not of its format.
        """
        try:
            while not stop.is_set():
                if await self._round():
                    await asyncio.sleep(0)
                    continue
                await self._settle()
                self._saver.now_and_then()
                if self._once and self._finished():
                    break
                try:
                    await asyncio.wait_for(stop.wait(), POLL_S)
                except TimeoutError:
                    continue
            await self._settle()
        except Stopped:
            log.info("consumer_stopped_while_waiting")
        finally:
            if self._pending is not None:
                self._pending.task.cancel()
            self._saver.finish()
            for stream in self._streams:
                stream.source.close()

    async def _round(self) -> bool:
        """One chunk of every stream that has one; whether there was any."""
        now = time.monotonic()
        for spec, files in self._sets:
            for found in files.look(now):
                self._add(spec, found)
        busy = False
        for stream in self._streams:
            if stream.collector is None and isinstance(stream.source, FileStream):
                stream.source.tail.watch(time.monotonic())
                if not self._learn(stream):
                    continue
            chunk = await self._read(stream)
            if not chunk.tokens:
                continue
            busy = True
            self._warn_broken(stream)
            _tell_metrics(stream)
            await self._settle()
            if chunk.events or chunk.deletions:
                task = asyncio.ensure_future(self._sink.deliver(chunk.events, chunk.deletions))
                self._pending = _Delivery(stream=stream, chunk=chunk, task=task)
                await asyncio.sleep(0)  # let it send before the next chunk is parsed
            else:
                self._accepted(stream, chunk)
        return busy

    async def _read(self, stream: _Stream) -> _Chunk:
        """The blocks of one stream that are there, up to one chunk."""
        chunk = _Chunk()
        limit = min(BLOCK_BYTES, self._chunk_bytes)
        for _ in range(self._chunk_bytes // limit):
            got = stream.source.poll(limit, now=time.monotonic(), final=self._once)
            self._note_gaps(stream)
            if got is None:
                if not chunk.tokens and stream.source.lag_bytes() == 0:
                    stream.caught_up_at = time.time()
                break
            _, block, token = got
            chunk.tokens.append(token)
            if stream.collector is None and not self._learn(stream):
                lines = count_lines(block)
                stream.tally.lines += lines
                stream.tally.broken += lines
                continue
            assert stream.collector is not None
            harvest = stream.collector.read(block, now=time.monotonic())
            chunk.events += harvest.events
            chunk.deletions += harvest.deletions
            self.totals["lines"] += harvest.lines
            self.totals["misses"] += harvest.misses
            self.totals["repeats"] += harvest.repeats
            self.totals["refused"] += harvest.refused
            if len(block) < limit // 2:
                break  # that was the end for now: what was found is not kept waiting for what comes next
            await asyncio.sleep(0)
        return chunk

    async def _settle(self) -> None:
        """Wait for the chunk that is being delivered, then move its checkpoint."""
        pending = self._pending
        if pending is None:
            return
        counts = await asyncio.shield(pending.task)
        self._pending = None
        pending.stream.outcomes.update(counts)
        self.totals.update(counts)
        self._accepted(pending.stream, pending.chunk)
        self._saver.soon()

    def _accepted(self, stream: _Stream, chunk: _Chunk) -> None:
        for token in chunk.tokens:
            stream.source.accept(token)
        if isinstance(stream.source, FileStream):
            name = stream.collector.format.name if stream.collector is not None else ""
            tail = stream.source.tail
            self._checkpoint.put(stream.source.path, tail.marks, seen_at=tail.seen_at, format_name=name)

    def _finished(self) -> bool:
        """Whether everything that can be read once was read."""
        return self._pending is None and all(
            not isinstance(stream.source, StdinStream) or stream.source.finished for stream in self._streams
        )

    def _add(self, spec: InputSpec, source: Source) -> None:
        self._streams.append(_Stream(source=source, spec=spec, caught_up_at=time.time()))
        if isinstance(source, FileStream):
            self._checkpoint.put(source.path, source.tail.marks, seen_at=source.tail.seen_at)

    def _learn(self, stream: _Stream) -> bool:
        """Give the stream its format, when its first lines tell it."""
        source = stream.source
        assert isinstance(source, (FileStream, StdinStream, SyslogStream))
        head = source.head()
        if not head.strip() or time.monotonic() < stream.learn_at:
            return False
        line_format = stream.spec.format
        if line_format is None:
            found = detect(head)
            if found is None:
                stream.learn_at = time.monotonic() + _LEARN_S
                self._unknown(stream, head)
                return False
            line_format = found.format
            log.info(
                "log_format_detected",
                path=source.name, format=line_format.name, lines=found.lines, matched=found.matched,
            )  # fmt: skip
        else:
            self._probe(stream, line_format, head)
        place = (id(stream.spec.filter), id(line_format))
        _, recent = self._recent.setdefault(place, (line_format, Recent(self._window_s)))
        collector = Collector(line_format, stream.spec.filter, tally=stream.tally, recent=recent)
        if line_format.heading and isinstance(source, FileStream):
            any(map(collector.follow, source.tail.lines_before(line_format.heading)))  # up to the first
        stream.collector = collector
        return True

    def _unknown(self, stream: _Stream, head: bytes) -> None:
        first = head.split(b"\n", 1)[0][:120].decode("utf-8", "backslashreplace")
        message = (
            f"{stream.source.name}:1: no known log format fits its first lines; found {first!r}; "
            "name it with --format (a name, or the log_format/LogFormat pasted as it is)"
        )
        if self._strict or isinstance(stream.source, StdinStream):
            raise ConfigError(message)
        self._warn(stream, "log_format_unknown", message)

    def _probe(self, stream: _Stream, line_format: LineFormat, head: bytes) -> None:
        whole = head[: head.rfind(b"\n") + 1] or head
        lines = [line for line in whole.split(b"\n")[:_PROBED_LINES] if line.strip()]
        data = [line for line in lines if not line_format.is_comment(line)]
        if not data or any(parse(line_format, strip_header(line)) is not None for line in data):
            return
        if any(line_format.match(strip_header(line)) is not None for line in data):
            return
        first = data[0][:120].decode("utf-8", "backslashreplace")
        likely = detect(head)
        hint = f"; it looks like {likely.format.name!r}" if likely is not None else ""
        message = f"{stream.source.name}:1: not in format {line_format.name!r}{hint}; found {first!r}"
        if self._strict:
            raise ConfigError(message)
        self._warn(stream, "log_format_mismatch", message)

    def _warn(self, stream: _Stream, event: str, message: str) -> None:
        now = time.monotonic()
        if now - stream.warned_at >= _WARN_S:
            stream.warned_at = now
            log.warning(event, path=stream.source.name, message=message)

    def _warn_broken(self, stream: _Stream) -> None:
        if stream.tally.broken > stream.warned_broken and stream.tally.samples:
            now = time.monotonic()
            if now - stream.warned_at >= _WARN_S:
                stream.warned_at = now
                fresh = stream.tally.broken - stream.warned_broken
                stream.warned_broken = stream.tally.broken
                log.warning(
                    "log_lines_broken",
                    path=stream.source.name, lines=fresh, sample=stream.tally.samples[-1].line,
                )  # fmt: skip

    def _note_gaps(self, stream: _Stream) -> None:
        for gap in stream.source.take_gaps():
            stream.gaps += 1
            stream.gap_bytes += gap.bytes
            self.totals["gaps"] += 1
            self.totals["gap_bytes"] += gap.bytes

    def status(self) -> dict[str, Any]:
        """What `ferryman status`, metrics and `--json` show."""
        now = time.time()
        files = []
        for stream in self._streams:
            lag = stream.source.lag_bytes()
            tally = stream.tally
            files.append({
                "path": stream.source.name,
                "format": stream.collector.format.name if stream.collector is not None else None,
                "lag_bytes": lag,
                "lag_s": round(now - stream.caught_up_at, 3) if lag else 0.0,
                "lines": tally.lines,
                "bytes": tally.bytes,
                "misses": tally.misses,
                "repeats": tally.repeats,
                "deletions": tally.deletions,
                "broken": tally.broken,
                "overlong": stream.source.tail.overlong if isinstance(stream.source, FileStream) else 0,
                "refused": dict(tally.refused),
                "ignored": dict(tally.ignored),
                "outcomes": dict(stream.outcomes),
                "gaps": stream.gaps,
                "gap_bytes": stream.gap_bytes,
                "samples": [{"reason": one.reason, "line": one.line} for one in tally.samples],
            })  # fmt: skip
        return {"waiting_for": getattr(self._sink, "waiting_for", ""), "files": files}


def _tell_metrics(stream: _Stream) -> None:
    """Count the lines that were read since the last time."""
    tally = stream.tally
    told = (tally.lines, tally.misses, tally.broken)
    lines, misses, broken = (new - old for new, old in zip(told, stream.told, strict=True))
    stream.told = told
    name = stream.source.name
    metrics.log_lines(name, "miss", misses)
    metrics.log_lines(name, "unreadable", broken)
    metrics.log_lines(name, "other", max(0, lines - misses - broken))
