"""`ferryman origins`: how every origin stands over the fleet, and what a single URL answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scheduler.commands.common import config_option, echo_json, json_option, load, run_async
from workers import log

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from scheduler.settings import Settings
    from workers.origin.overview import OriginOverview


@click.group(invoke_without_command=True)
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, config: Path | None, as_json: bool) -> None:
    r"""Show the health, budgets and latency of origins.

    \b
    Examples:
      ferryman origins
      ferryman origins --json
      ferryman origins probe https://old.example.com/img/a.png
    """
    log.configure(form="auto", level="error")
    ctx.obj = (config, as_json)
    if ctx.invoked_subcommand is None:
        found = run_async(_read(load(config)))
        if as_json:
            from scheduler.status import to_json

            echo_json({"origins": to_json(found)})
        else:
            show(found)


async def _read(settings: Settings) -> list[OriginOverview]:
    from workers.ledger import Ledger
    from workers.origin import overview
    from workers.origin.fleet import Fleet

    ledger = Ledger.open(settings.broker)
    try:
        return await overview.read(Fleet(ledger.redis, namespace=ledger.namespace, process="origins"))
    finally:
        await ledger.close()


def show(origins: list[OriginOverview]) -> None:
    """Print origins as a table; a line instead when no process knows any."""
    from rich.console import Console

    if not origins:
        click.echo("no origin was asked in the last minutes")
        return
    Console().print(table(origins))


def table(origins: list[OriginOverview]) -> RenderableType:
    """Origins as a table for a terminal."""
    from rich.table import Table

    found = Table(box=None, pad_edge=False, header_style="bold")
    found.add_column("origin", no_wrap=True)
    found.add_column("state", no_wrap=True)
    for name in ("in flight", "limit", "budget", "answers", "p50", "p90", "p99"):
        found.add_column(name, justify="right", no_wrap=True)
    for origin in origins:
        found.add_row(
            origin.host,
            _state(origin),
            str(origin.in_flight),
            "-" if origin.adaptive_limit is None else str(origin.adaptive_limit),
            budget_text(origin),
            str(origin.answers),
            *(_ms(value) for value in (origin.p50_s, origin.p90_s, origin.p99_s)),
        )
    return found


def _state(origin: OriginOverview) -> str:
    from workers.origin.health import State

    if origin.state is State.WELL:
        pause = f", asks for {origin.pause_s:.0f} s of rest" if origin.pause_s else ""
        return f"[green]well[/]{pause}"
    style = "red" if origin.state is State.OUT else "yellow"
    details = f"{origin.cause or 'failures'}, ejection {origin.ejections}"
    left = f" for {origin.out_s:.0f} s" if origin.out_s else ""
    return f"[{style}]{origin.state.value.replace('_', '-')}[/]{left} ({details})"


def budget_text(origin: OriginOverview) -> str:
    """The budget of the present hour, short."""
    if origin.closed:
        return "closed now"
    parts = []
    if origin.concurrency is not None:
        parts.append(f"{origin.concurrency} slots")
    if origin.requests_per_s is not None:
        parts.append(f"{origin.requests_per_s:g}/s")
    if origin.bytes_per_s is not None:
        parts.append(f"{origin.bytes_per_s / 1e6:g} MB/s")
    return ", ".join(parts) or "-"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"
