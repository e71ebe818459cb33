"""HTTP/1.1 as the gateway speaks it: uvicorn's httptools protocol, made strict and bounded.

Owns what happens before a request reaches the application: the size and the deadline of its head, framing
that two parsers could read differently, and the answers to such requests in the form of an S3 error. Also
owns how a connection is cut in the middle of an answer. Knows no bucket and no rule.

uvicorn has no limit on headers and no deadline for them; llhttp refuses bad framing, and what it lets pass is
refused here.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
)

from scheduler.front.http import s3_error
from scheduler.front.http.cycle import Cycle, reset

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

#: Longest request target: a key of 1024 bytes, every byte escaped, and a signed query behind it.
MAX_TARGET_BYTES = 16 * 1024

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: CR, LF, NUL and other controls but TAB may not stand in a value; llhttp lets some of them pass.
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BAD_TARGET = re.compile(rb"[^\x21-\x7e]")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
#: Seconds that a client may go on sending a body after its answer, so that it gets to read the answer.
_UNREAD_BODY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLimits:
    """What the head of a request may take."""

    max_bytes: int = 32 * 1024
    max_target_bytes: int = MAX_TARGET_BYTES
    #: Seconds from the first byte (of the connection, or of a later request) to the end of the head.
    timeout_s: float = 10.0


def _escaped(data: bytes) -> bytes:
    """`data` with its first line in ASCII: some clients send a key without escaping it (3.1).

    llhttp refuses such a request line, though it names an object.
    """
    line, end, rest = data.partition(b"\n")
    return _NOT_ASCII.sub(lambda found: b"%%%02X" % found[0][0], line) + end + rest


class _Refused(Exception):
    """The head is not acceptable; the answer stands in `StrictProtocol.refusal`."""


class StrictProtocol(HttpToolsProtocol):
    """One connection. The application finds it under `scope["extensions"]["ferryman.connection"]`."""

    limits = HeadLimits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.refusal: s3_error.S3Error | None = None
        self._in_head = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        #: Loop time since when nothing was answered and nothing has come; None: something is under way.
        self._idle_since: float | None = None

    # ------------------------------------------------------------ connection
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm_head_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self.pipeline.clear()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the way back open for a client that has said all it wants and waits for the answer."""
        if not self._answering() or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False
        return True

    @property
    def gone(self) -> bool:
        """Whether nothing that is sent can still arrive."""
        return self.transport.is_closing()

    @property
    def write_paused(self) -> bool:
        """Whether the client reads slower than it is sent to."""
        return self.flow.write_paused

    def abort(self) -> None:
        """Cut the connection at once, with a reset: no client takes what it has for a whole answer (A12).

        Closing alone would end in a FIN, which is how a body without a length ends for an HTTP/1.0 client.
        """
        reset(self.transport)

    def _arm_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.timeout_s, self._head_late)

    def _disarm_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._answering():
            self._arm_head_timer()  # a pipelined head may wait as long as the answer before it takes
        elif self._head_bytes == 0:
            self.transport.close()  # nothing was asked
        else:
            self._refuse(s3_error.REQUEST_TIMEOUT)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # ------------------------------------------------------------ bytes in
    def data_received(self, data: bytes) -> None:
        self._idle_since = None
        if self.parser is None or self.refusal is not None:
            return
        began_in_head = self._in_head
        if began_in_head:
            if not self._head_bytes and not data.isascii():
                data = _escaped(data)
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Asked to change the protocol: not spoken here. What follows is not HTTP, so the connection ends.
            if self.cycle is not None:
                self.cycle.keep_alive = False
            return
        except httptools.HttpParserError:
            self._refuse(self.refusal or s3_error.BAD_REQUEST)
            return
        if not self._in_head:
            return
        if not began_in_head:
            self._head_bytes = max(self._head_bytes, 1)
        if self._head_bytes > self.limits.max_bytes:
            too_long = len(getattr(self, "url", b"")) >= self.limits.max_target_bytes
            self._refuse(s3_error.URI_TOO_LONG if too_long else s3_error.HEADERS_TOO_LARGE)
        elif self._head_bytes:
            self._arm_head_timer()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()
        self.scope["extensions"] = {"ferryman.connection": cast("dict[object, object]", self)}

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self.limits.max_target_bytes:
            self._stop(s3_error.URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        if _TOKEN.fullmatch(name) is None or _BAD_VALUE.search(value) is not None:
            self._stop(s3_error.BAD_REQUEST)
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._disarm_head_timer()
        version = self.parser.get_http_version()
        total = len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])
        if total > self.limits.max_bytes:
            self._stop(s3_error.HEADERS_TOO_LARGE)
        has_body = self._check_framing(version)
        method = self.parser.get_method().decode("ascii")
        scope = self.scope
        scope["method"] = method
        if version != "1.1":
            scope["http_version"] = version
        scope["raw_path"], scope["query_string"] = self._target(method)
        scope["path"] = scope["raw_path"].decode("ascii")
        keep_alive = version == "1.1" and self.parser.should_keep_alive() and not self.parser.should_upgrade()
        if has_body and method in {"GET", "HEAD"}:
            keep_alive = False  # its bytes are never read as a next request
        previous = self.cycle
        self.cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=bool(
                [0 for name, value in self.headers if name == b"expect" and value.lower() == b"100-continue"]
            ),
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        if previous is None or previous.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            return
        self.cycle.body += body
        if len(self.cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._in_head = True
        if self.cycle.response_complete:
            return
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Answer the next request of the connection, or wait for one.

        As uvicorn has it, but with one timer a connection, which is set anew when it rings, instead of one an
        answer.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._wait_for_next(self.timeout_keep_alive)

    def _wait_for_next(self, left_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(left_s, self._next_late)

    def _next_late(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return  # the answer that is under way sets it again
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._wait_for_next(left_s)
        else:
            self.timeout_keep_alive_handler()

    def shutdown(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    # ------------------------------------------------------------ judging a head
    def _target(self, method: str) -> tuple[bytes, bytes]:
        """Path and query as sent.

        The authority of an absolute form takes the place of Host; schemes other than ours, user info and an
        empty host are refused (RFC 9112, 3.2.2; RFC 9110, 4.2.4).
        """
        url = bytes(self.url)
        if _BAD_TARGET.search(url) is not None:
            self._stop(s3_error.BAD_REQUEST)
        if url.startswith(b"/"):
            path, _, query = url.partition(b"#")[0].partition(b"?")
            return path, query
        if url == b"*" or method == "CONNECT":
            return b"*", b""
        try:
            parsed = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            self._stop(s3_error.BAD_REQUEST)
        authority = url.partition(b"://")[2].partition(b"/")[0].partition(b"?")[0].partition(b"#")[0]
        if (parsed.schema or b"").lower() not in {b"http", b"https"} or not parsed.host or b"@" in authority:
            self._stop(s3_error.BAD_REQUEST)
        self.headers[:] = [pair for pair in self.headers if pair[0] != b"host"]
        self.headers.append((b"host", authority))
        return parsed.path or b"/", parsed.query or b""

    def _check_framing(self, version: str) -> bool:
        """Refuse a head that two parsers could read differently; whether the request has a body."""
        lengths: set[bytes] = set()
        codings = hosts = 0
        for name, value in self.headers:
            if name == b"content-length":
                if not value.isdigit() or lengths:
                    self._stop(s3_error.BAD_REQUEST)  # twice is refused even when both say the same
                lengths.add(value)
            elif name == b"transfer-encoding":
                codings += 1
                if value.strip().lower() != b"chunked":
                    self._stop(s3_error.BAD_REQUEST)
            elif name == b"host":
                hosts += 1
        if hosts > 1 or (hosts == 0 and version == "1.1") or codings > 1:
            self._stop(s3_error.BAD_REQUEST)
        if codings and (lengths or version != "1.1"):
            self._stop(s3_error.BAD_REQUEST)
        return bool(codings) or bool(lengths - {b"0"})

    def _stop(self, refusal: s3_error.S3Error) -> None:
        self.refusal = refusal
        raise _Refused

    def _refuse(self, error: s3_error.S3Error) -> None:
        """Answer and close; in the middle of an earlier answer only the connection is left to end."""
        self.refusal = error
        self._disarm_head_timer()
        if self.transport.is_closing():
            return
        if self._answering():
            self.cycle.keep_alive = False  # the answer that is on its way ends the connection
            self.flow.pause_reading()
            return
        status, headers, body = s3_error.error_answer(
            error, resource="/", request_id=s3_error.new_request_id(), headers=[(b"connection", b"close")]
        )
        lines = [STATUS_LINE[status]]
        for name, value in [*self.server_state.default_headers, *headers]:
            lines += [name, b": ", value, b"\r\n"]
        self.transport.write(b"".join([*lines, b"\r\n", body]))
        self._close_after_answer()

    def end_unread(self) -> None:
        """End the connection after an answer that came before the whole body of its request."""
        self.refusal = s3_error.BAD_REQUEST  # nothing more is read as a request
        self._disarm_head_timer()
        if not self.transport.is_closing():
            self._close_after_answer(_UNREAD_BODY_S)

    def _close_after_answer(self, run_off_s: float = 1.0) -> None:
        # Closing with unread input resets the connection, and the reset can overtake the answer:
        # half-close, and let what the client still sends run off for a moment.
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._head_timer = self.loop.call_later(run_off_s, self._close_now)
        else:
            self.transport.close()

    def _close_now(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()
