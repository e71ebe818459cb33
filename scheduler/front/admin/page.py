"""`/`: one plain page over the same data as `ferryman status --json`, rendered here, without a script.

Owns its looks. What is shown is `scheduler.status`'s; a field that is new there appears by itself.
"""

from __future__ import annotations

import html
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from scheduler.runtime import Services

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="5">
<title>Ferryman</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a2b33 }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem }
table { border-collapse: collapse; margin: .2rem 0 }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0;
  border-bottom: 1px solid #dde5e8 }
th { font-weight: 600; color: #48606b } td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
</style>
</head>
<body>
<h1>Ferryman</h1>
"""
#: Numbers with a fraction beyond this are Unix times (2001 and later): no duration here is as long.
_EARLIEST = 1e9
#: No script, no frame, nothing from elsewhere.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


def routes(services: Services) -> list[Route]:
    """The page at `/`."""

    async def page(_: Request) -> Response:
        from scheduler.status import collect

        return HTMLResponse(
            render(plain(await collect(services))),
            headers={"content-security-policy": _POLICY, "cache-control": "no-store"},
        )

    return [Route("/", page)]


def plain(value: Any) -> Any:
    """Records as dicts and lists of numbers and strings, as JSON shows them."""
    return orjson.loads(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS))


def render(status: dict[str, Any]) -> str:
    """The whole page: a heading for each part of the status, its fields as a table."""
    single = {name: value for name, value in status.items() if not isinstance(value, (dict, list))}
    parts = [_table(single)] if single else []
    for name, value in status.items():
        if isinstance(value, (dict, list)):
            parts.append(f"<h2>{_words(name)}</h2>\n{_value(value)}")
    shown = "\n".join(parts) or "<p>Nothing to show yet.</p>"
    return f"{_HEAD}{shown}\n</body>\n</html>\n"


def _value(value: Any) -> str:
    match value:
        case dict() if value:
            return _table(value)
        case list() if value and all(isinstance(entry, dict) for entry in value):
            names = list(dict.fromkeys(name for entry in value for name in entry))
            head = "".join(f"<th>{_words(name)}</th>" for name in names)
            rows = "".join(
                "<tr>" + "".join(f"<td>{_value(entry.get(name))}</td>" for name in names) + "</tr>\n"
                for entry in value
            )
            return f"<table><tr>{head}</tr>\n{rows}</table>"
        case list() if value:
            return ", ".join(_value(entry) for entry in value)
        case dict() | list() | None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}".replace(",", "\u202f")
        case float() if value > _EARLIEST:
            return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        case float():
            return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", "\u202f")
        case _:
            return html.escape(str(value))


def _table(fields: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{_words(name)}</th><td>{_value(value)}</td></tr>\n" for name, value in fields.items()
    )
    return f"<table>{rows}</table>"


def _words(name: str) -> str:
    return html.escape(name)
