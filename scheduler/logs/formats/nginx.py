"""nginx: the combined format, and any `log_format` pasted as it stands in nginx.conf. PURE."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scheduler.logs.formats.template import Field, compile_template
from scheduler.logs.formats.values import unescape_c, unescape_json, unescape_none
from workers.errors import ConfigError

if TYPE_CHECKING:
    from scheduler.logs.formats.regex_format import RegexFormat

COMBINED_TEMPLATE = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
    '"$http_referer" "$http_user_agent"'
)

#: nginx variable to group. What is not listed is skipped over.
_MEANINGS = {
    "request": "request", "request_method": "method", "request_uri": "target", "uri": "upath",
    "document_uri": "upath", "args": "query", "query_string": "query", "status": "status",
    "time_local": "time", "time_iso8601": "time", "msec": "time", "host": "host", "http_host": "host",
    "scheme": "scheme", "http_referer": "referer", "http_user_agent": "agent", "request_id": "id",
}  # fmt: skip
#: Values without a space in them, whatever the client sends.
_COMPACT = re.compile(
    r"status|request_method|request_uri|scheme|args|query_string|msec|time_iso8601|request_id|host|server_\w+"
    r"|remote_(addr|port)|\w*bytes\w*|\w*length|request_time|connection\w*|pid|pipe|binary_\w+|ssl_\w+|https"
)
_DIRECTIVE = re.compile(r"\s*log_format\s+(\S+)\s+(?:escape=(default|json|none)\s+)?(.*?);?\s*", re.DOTALL)
_ESCAPE_PARAMETER = re.compile(r"\s*escape=(default|json|none)\s+(.*)", re.DOTALL)
_QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(\S+)""", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(is_args\$args|\w+))")
#: One value a server asked: `0.001, 0.002 : 0.003`.
_UPSTREAM = rb"[^ ,]*+(?:(?:, | : )[^ ,]++)*+"
#: `$is_args$args`: nothing of the first, and `-` for the second, where there is no query.
_QUERY = rb"(?:\?[^ \"]*+|-)?"
_CONF_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def looks_like_log_format(text: str) -> bool:
    """Whether the operator pasted a template instead of naming a format."""
    return "$" in text


def from_log_format(text: str, *, name: str = "nginx log_format") -> RegexFormat:
    """Compile a template, or the whole `log_format name [escape=…] '…' '…';` directive.

    Raises:
        ConfigError: there is no `$status`, or nothing that says what was asked for.
    """
    escape = "default"
    directive = _DIRECTIVE.fullmatch(text)
    if directive is not None:
        name = f"nginx {directive[1]}"
        escape = directive[2] or "default"
        text = _unquote(directive[3])
    else:
        parameter = _ESCAPE_PARAMETER.fullmatch(text)
        if parameter is not None:
            escape, text = parameter[1], parameter[2]
        if text.strip().startswith("'") or (text.strip().startswith('"') and text.strip().endswith('"')):
            quoted = list(_QUOTED.finditer(text.strip().removesuffix(";")))
            if quoted and all(found[3] is None for found in quoted):
                text = _unquote(text.strip().removesuffix(";"))
    unescape = {"default": unescape_c, "json": unescape_json, "none": unescape_none}[escape]
    return compile_template(name, _parts(text, name), unescape=unescape, quotes_escaped=escape == "json")


def _unquote(text: str) -> str:
    """The strings of a directive, joined as nginx joins them."""
    out: list[str] = []
    for found in _QUOTED.finditer(text):
        value = next(group for group in found.groups() if group is not None)
        out.append(re.sub(r"\\(.)", lambda m: _CONF_ESCAPES.get(m[1], m[1]), value, flags=re.DOTALL))
    return "".join(out)


def _parts(text: str, name: str) -> list[bytes | Field]:
    parts: list[bytes | Field] = []
    at = 0
    for found in _VARIABLE.finditer(text):
        if found.start() > at:
            parts.append(text[at : found.start()].encode())
        variable = found[1] or found[2]
        if variable == "is_args$args":
            parts.append(Field(meaning="query", shape=_QUERY))
        elif variable.startswith("upstream_"):
            parts.append(Field(shape=_UPSTREAM))
        else:
            parts.append(Field(meaning=_MEANINGS.get(variable, ""), spaced=not _COMPACT.fullmatch(variable)))
        at = found.end()
    if at < len(text):
        parts.append(text[at:].rstrip("\n").encode())
    if at == 0:
        raise ConfigError(f"log format {name!r}: no $variable in {text[:80]!r}")
    return parts


COMBINED = from_log_format(COMBINED_TEMPLATE, name="nginx")
