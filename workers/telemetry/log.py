"""How every process logs: structlog, a console for a person, JSON when nobody is looking.

Owns the processor chain, the routing of stdlib loggers (dramatiq, uvicorn, aiohttp, botocore) through it, and
the rule that no secret and no query string leaves the process in a log. Context (`request_id`, `job_id`) is
bound with `structlog.contextvars` by whoever begins the work. Does not decide what is worth logging.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

#: How a process that was started by another one learns its format and level.
ENV_FORMAT = "FERRYMAN_LOG__FORMAT"
ENV_LEVEL = "FERRYMAN_LOG__LEVEL"

Format = Literal["auto", "console", "json"]

_SECRET_NAMES = re.compile(
    r"secret|token|password|authorization|cookie|signature|credential|api_?key",
    re.IGNORECASE,
)
#: What follows `?` in anything that looks like a URL; and user:password@ in front of a host.
_QUERY = re.compile(r"((?:https?|rediss?|unix)://[^\s?\"'<>]*)\?[^\s\"'<>]*")
_USERINFO = re.compile(r"((?:https?|rediss?)://)[^/\s@\"'<>]*@")
#: The same of a path alone, as it stands in a request line: `GET /a?b HTTP/1.1`.
_TARGET = re.compile(r"((?:^|[\s\"'=(])/[^\s?\"'<>]*)\?[^\s\"'<>]*")
_MASK = "***"
#: Keys of our own whose values are never secrets, whatever they are called.
_NEVER_SECRET = frozenset({"event", "level", "timestamp"})
#: Names that were looked at and are none of secrets: a line has about ten, and there are so many at most.
_harmless: set[str] = set()
_MOST_HARMLESS = 1000
#: What `configure` was told last, with `auto` decided.
_chosen: dict[str, str] = {}

#: Loggers that repeat what we log ourselves, or that speak for every connection.
_QUIET = {
    "uvicorn.access": logging.CRITICAL,
    "uvicorn.error": logging.WARNING,
    "botocore": logging.WARNING,
    "boto3": logging.WARNING,
    "urllib3": logging.WARNING,
    "asyncio": logging.WARNING,
    "aiohttp.access": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    # Starts and stops are told by whoever supervises.
    "dramatiq": logging.WARNING,
}


def configure(*, form: Format = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Set up logging of this process, once or again; `stream` defaults to stderr, `auto` asks whether it is a
    terminal. `environment` tells the processes that this one starts.
    """
    stream = cast("TextIO", Unbroken(sys.stderr if stream is None else stream))
    if form == "auto":
        form = "console" if stream.isatty() else "json"
    _chosen.update({ENV_FORMAT: form, ENV_LEVEL: level})
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # Plain tracebacks: the pretty ones print local variables, and those hold secrets.
        structlog.processors.format_exc_info,
        mask,
    ]
    if form == "json":
        render: Any = structlog.processors.JSONRenderer(serializer=_dumps)
    else:
        shared = [*shared, _printable_values]
        render = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            pad_event_to=24,
            exception_formatter=structlog.dev.plain_traceback,
        )
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.PositionalArgumentsFormatter(),
                *shared,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        ),
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(number, logging.INFO))
    for name, floor in _QUIET.items():
        logger = logging.getLogger(name)
        logger.setLevel(max(floor, number))
        logger.handlers.clear()
        logger.propagate = True


class Unbroken(io.TextIOBase):
    """A stream that takes what it can: a full disk, or a reader that is gone, must fail no work.

    Whoever logs is often about to handle a failure; an error from there would take its place.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        #: Writes that failed.
        self.lost = 0

    def write(self, text: str) -> int:
        """All of the text, or nothing."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # ValueError: it was closed
            self.lost += 1
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self.lost += 1

    def isatty(self) -> bool:
        return self._stream.isatty()


def environment() -> dict[str, str]:
    """What a process that is started from here needs in its environment to log in the same way."""
    return dict(_chosen)


def configure_from_env(env: Mapping[str, str] | None = None) -> None:
    """Set up logging as the process that started this one said; auto and info when it said nothing."""
    env = os.environ if env is None else env
    form = env.get(ENV_FORMAT, "auto")
    level = env.get(ENV_LEVEL, "info")
    configure(
        form="json" if form == "json" else "console" if form == "console" else "auto",
        level=level if level in {"debug", "info", "warning", "error"} else "info",
    )


def mask(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Processor: hide values of secret names, queries of URLs and request lines, and passwords in URLs."""
    for name, value in event.items():
        if name not in _harmless and isinstance(value, str) and _is_secret(name):
            event[name] = _MASK
        elif isinstance(value, str):
            if "?" in value or "://" in value:
                event[name] = scrub(value)
        else:
            event[name] = _masked(value)
    return event


def _is_secret(name: str) -> bool:
    if name in _NEVER_SECRET or not _SECRET_NAMES.search(name):
        if len(_harmless) < _MOST_HARMLESS:
            _harmless.add(name)
        return False
    return True


def _masked(value: Any) -> Any:
    match value:
        case str():
            return scrub(value) if "?" in value or "://" in value else value
        case bytes():
            return scrub(value.decode("utf-8", "replace"))
        case BaseException():
            return scrub(f"{type(value).__name__}: {value}")
        case dict():
            return {
                key: _MASK if isinstance(inner, str) and _SECRET_NAMES.search(str(key)) else _masked(inner)
                for key, inner in value.items()
            }
        case list() | tuple():
            return [_masked(inner) for inner in value]
        case _:
            return value


def scrub(text: str) -> str:
    """Text without the queries and passwords of the URLs, and the queries of the request lines, in it."""
    return _USERINFO.sub(r"\1***@", _TARGET.sub(r"\1", _QUERY.sub(r"\1", text)))


def _dumps(value: Any, **_: Any) -> str:
    return json_text(value, option=orjson.OPT_NON_STR_KEYS)


#: What a terminal would obey instead of show: controls but tab and line feed, and overrides of direction.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
#: Of these, what JSON may hold raw: outside of its strings there is none.
_OBEYED_IN_JSON = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """A text for a terminal: what it would obey in the keys and messages of strangers is escaped."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """As `printable`, for a name in a row of a list: tab and line feed are escaped, too."""
    return printable(text).replace("\t", "\\t").replace("\n", "\\n")


def json_text(value: Any, *, option: int = 0) -> str:
    """A JSON document that a terminal may show: what it would obey stands as an escape, which means the same.

    `option` as `orjson.dumps` takes it; what JSON has no form for is written as its text.
    """
    text = orjson.dumps(value, default=str, option=option).decode("utf-8", "replace")
    if text.isascii() and "\x7f" not in text:
        return text
    return _OBEYED_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _printable_values(_: Any, __: str, event: Any) -> Any:
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}
