"""`/`: one plain page over the same data as `ferryman status --json`, rendered here, without a script.

Owns its looks. What is shown is `scheduler.status`'s; a field that is new there appears by itself, in the
form that the unit in its name asks for (`scheduler.config.quantity`).
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from scheduler.config.quantity import label, quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from scheduler.runtime import Services

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="5">
<title>Ferryman</title>
<style>
:root { color-scheme: light dark; --ink: #1a2b33; --soft: #48606b; --line: #dde5e8; --page: #fff;
  --bad: #a11d1d; --bad-page: #fdeeee }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe7ea; --soft: #93a8b2; --line: #33434b;
  --page: #12191d; --bad: #ff9b91; --bad-page: #3a1b1b } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1.2rem 1rem 3rem;
  color: var(--ink); background: var(--page) }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 1.6rem 0 .3rem }
p { margin: .2rem 0; color: var(--soft) }
.wide { overflow-x: auto }
table { border-collapse: collapse }
th, td { text-align: left; vertical-align: top; padding: .25rem 1rem .25rem 0;
  border-bottom: 1px solid var(--line) }
th { font-weight: 600; color: var(--soft); white-space: nowrap }
td { font-variant-numeric: tabular-nums } td.n, th.n { text-align: right; white-space: nowrap }
td.t { overflow-wrap: anywhere; min-width: 4rem } td.long { min-width: 16rem }
.bad { color: var(--bad); background: var(--bad-page); padding: .5rem .8rem; border-radius: .3rem;
  margin: .8rem 0; overflow-wrap: anywhere }
.bad b { margin-right: .4rem }
</style>
</head>
<body>
<h1>Ferryman</h1>
"""
#: Characters of a text that should not be squeezed.
_LONG = 24
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
    """The whole page: what is wrong first, then a heading for each part of the status."""
    problems: dict[str, str] = status.get("problems") or {}
    single = {
        name: value
        for name, value in status.items()
        if not isinstance(value, (dict, list)) and name not in problems
    }
    parts = [
        f'<div class="bad"><b>{html.escape(", ".join(names))}</b>not read: {html.escape(why)}</div>'
        for why, names in _by_reason(problems).items()
    ]
    if single:
        said = (f"{html.escape(label(name))} {quantity(name, value)}" for name, value in single.items())
        parts.insert(0, f"<p>{' · '.join(said)}</p>")
    for name, value in status.items():
        if isinstance(value, (dict, list)) and name != "problems" and name not in problems:
            parts.append(f"<h2>{html.escape(label(name))}</h2>\n{_section(name, value)}")
    shown = "\n".join(parts) or "<p>Nothing to show yet.</p>"
    return f"{_HEAD}{shown}\n</body>\n</html>\n"


def _by_reason(problems: dict[str, str]) -> dict[str, list[str]]:
    """A server that is away is one thing to say, however many parts miss it."""
    found: dict[str, list[str]] = {}
    for part, why in problems.items():
        found.setdefault(str(why), []).append(part)
    return found


def _section(name: str, value: dict[str, Any] | list[Any]) -> str:
    if not value:
        return "<p>none</p>"
    if isinstance(value, dict):
        return _pairs(value)
    if all(isinstance(entry, dict) for entry in value):
        return _records([_flat(entry) for entry in value])
    return f"<p>{_cell(name, value)}</p>"


def _flat(entry: dict[str, Any]) -> dict[str, Any]:
    """A record as one row: what is nested in it gets columns of its own."""
    row: dict[str, Any] = {}
    for name, value in entry.items():
        if isinstance(value, dict):
            row |= {key if key not in row else f"{name} {key}": inner for key, inner in value.items()}
        else:
            row[name] = value
    return row


def _pairs(fields: dict[str, Any]) -> str:
    """Names that are no fields of ours (buckets, reasons), each with its value."""
    rows = "".join(
        f'<tr><th>{html.escape(key)}</th><td class="n">{_cell(key, value)}</td></tr>\n'
        for key, value in fields.items()
    )
    return f'<div class="wide"><table>{rows}</table></div>'


def _records(rows: Sequence[dict[str, Any]]) -> str:
    """Rows under headings, without columns in which nobody has anything."""
    names = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if any(row.get(name) not in (None, "") for row in rows)
    ]
    kinds = {name: _kind([row.get(name) for row in rows]) for name in names}
    head = "".join(f'<th class="{kinds[name]}">{html.escape(label(name))}</th>' for name in names)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{kinds[name]}">{_cell(name, row.get(name))}</td>' for name in names)
        + "</tr>\n"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'


def _cell(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(quantity(name, entry) for entry in value) or "-"
    if isinstance(value, dict):
        return (
            ", ".join(f"{html.escape(label(key))} {_cell(key, inner)}" for key, inner in value.items()) or "-"
        )
    return quantity(name, value)


def _kind(values: Sequence[object]) -> str:
    """The class of a column: numbers are set to the right, long texts get room."""
    if any(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return "n"
    return "t long" if any(len(str(value)) > _LONG for value in values) else "t"
