r"""Apache httpd: common, combined, and any `LogFormat` pasted as it stands in the configuration. PURE."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scheduler.logs.formats.template import Field, compile_template
from scheduler.logs.formats.values import unescape_c
from workers.errors import ConfigError

if TYPE_CHECKING:
    from scheduler.logs.formats.regex_format import RegexFormat

COMMON_TEMPLATE = '%h %l %u %t "%r" %>s %b'
COMBINED_TEMPLATE = f'{COMMON_TEMPLATE} "%{{Referer}}i" "%{{User-Agent}}i"'

_MEANINGS = {
    "r": "request", "m": "method", "U": "upath", "q": "query", "s": "status", "V": "host", "L": "id",
}  # fmt: skip
_HEADER_MEANINGS = {"host": "host", "referer": "referer", "user-agent": "agent"}
#: Directives whose values have no space in them; header and environment values may.
_COMPACT = set("haABbDHIkLmOpPqRsSTvVXl")
_LINE = re.compile(r"""\s*(?:LogFormat|CustomLog\s+\S+)\s+"((?:[^"\\]|\\.)*)"(?:\s+(\S+))?\s*""", re.DOTALL)


def looks_like_log_format(text: str) -> bool:
    """Whether the operator pasted a template instead of naming a format."""
    return "%" in text


def from_log_format(text: str, *, name: str = "apache LogFormat") -> RegexFormat:
    """Compile a template, or the whole `LogFormat "…" nickname` line.

    Raises:
        ConfigError: there is no `%s`, or nothing that says what was asked for.
    """
    line = _LINE.fullmatch(text)
    if line is not None:
        text = re.sub(r"\\(.)", r"\1", line[1])
        if line[2]:
            name = f"apache {line[2]}"
    parts: list[bytes | Field] = []
    literal = ""
    at = 0
    for found in _iterate(text):
        literal += text[at : found.start()]
        at = found.end()
        if found[0] == "%%":
            literal += "%"
            continue
        field, opening, closing = _field(found[1], found[2])
        literal += opening
        if literal:
            parts.append(literal.encode())
        parts.append(field)
        literal = closing
    literal += text[at:].rstrip("\n")
    if literal:
        parts.append(literal.encode())
    if not any(isinstance(part, Field) for part in parts):
        raise ConfigError(f"log format {name!r}: no %directive in {text[:80]!r}")
    return compile_template(name, parts, unescape=unescape_c, quotes_escaped=True)


def _iterate(text: str) -> list[re.Match[str]]:
    """Directives in order; `^ti`, `^to` are the only ones of two letters."""
    out: list[re.Match[str]] = []
    one = re.compile(r"%(?:%|!?[\d,]*[<>]?(?:\{([^}]*)\})?(\^t[io]|[A-Za-z]))")
    at = 0
    while (found := one.search(text, at)) is not None:
        out.append(found)
        at = found.end()
    return out


def _field(argument: str | None, letter: str) -> tuple[Field, str, str]:
    """(field, literal the directive itself writes before it, and after it)."""
    if letter == "t":
        if argument is None:
            return Field(meaning="time"), "[", "]"
        if argument in {"sec", "msec", "usec", "%s", "begin:sec", "end:sec", "begin:msec", "end:msec"}:
            return Field(meaning="time"), "", ""
        return Field(meaning="time" if "%d/%b/%Y" in argument else "", spaced=" " in argument), "", ""
    if letter == "i" and argument is not None:
        return Field(meaning=_HEADER_MEANINGS.get(argument.lower(), ""), spaced=True), "", ""
    meaning = _MEANINGS.get(letter, "")
    if letter == "q":
        return Field(meaning=meaning, shape=rb"(?:\?[^ \"]*+)?"), "", ""
    return Field(meaning=meaning, spaced=letter not in _COMPACT), "", ""


COMMON = from_log_format(COMMON_TEMPLATE, name="apache-common")
COMBINED = from_log_format(COMBINED_TEMPLATE, name="apache")
