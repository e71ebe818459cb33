"""The finalization report as one HTML page. PURE.

Owns its looks; what it says is `scheduler.scan.gate.finalize`'s. Everything that comes from outside is
escaped.
"""

from __future__ import annotations

import html
from typing import Any

import orjson


def page(report: dict[str, Any]) -> str:
    """The report as one HTML page."""

    def row(*cells: object) -> str:
        return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"

    conditions = "".join(
        row(
            "holds" if one["ok"] else "warning" if one["warning"] else "DOES NOT HOLD",
            one["name"],
            one["evidence"],
        )
        for one in report["conditions"]
    )
    terms = list(next(iter(report["account"].values()), {}))
    account_rows = "".join(
        row(group, *(numbers[term] for term in terms)) for group, numbers in report["account"].items()
    )
    waivers = "".join(row(one["key"], one["reason"], one["by"]) for one in report["waivers"])
    store = "".join(f"<li>{html.escape(line)}</li>" for line in report["store"])
    head = "".join(f"<th>{html.escape(term)}</th>" for term in ["prefix", *terms])
    configuration = html.escape(orjson.dumps(report["configuration"], option=orjson.OPT_INDENT_2).decode())
    override = f"<p><b>Override:</b> {html.escape(report['override'])}</p>" if report["override"] else ""
    title = html.escape(f"Migration of {report['bucket']}: {report['decision']}")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;margin:1rem 0}}
td,th{{border:1px solid #bbb;padding:.25rem .6rem;text-align:left}}
pre{{background:#f4f4f4;padding:1rem;overflow:auto}}</style></head><body>
<h1>{title}</h1>
<p>{html.escape(report["at"])}, by {html.escape(report["who"])}. Scan {html.escape(report["scan"])},
run {html.escape(report["run"])}. Rules: {html.escape(", ".join(report["rules"]))}
(version {report["rules_version"]}).</p>{override}
<h2>Gate</h2><table><tr><th></th><th>condition</th><th>evidence</th></tr>{conditions}</table>
<h2>Account</h2><table><tr>{head}</tr>{account_rows}</table>
<h2>Waivers</h2><table><tr><th>key</th><th>reason</th><th>by</th></tr>{waivers}</table>
<h2>Store</h2><ul>{store}</ul>
<h2>Configuration</h2><pre>{configuration}</pre>
<p>SHA-256 of the JSON report without its signatures: {report["sha256"]}</p>
</body></html>
"""
