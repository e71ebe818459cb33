"""`ferryman origins`: how every origin stands over the fleet, and what a single URL answers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from scheduler.commands.command_line import (
    EXIT_FAILED,
    config_option,
    console,
    echo_json,
    json_option,
    load,
    run_async,
    say,
)
from workers.errors import ConfigError
from workers.telemetry import log

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from scheduler.config.settings import Settings
    from workers.origin.control.overview import OriginOverview
    from workers.origin.fetch.inspect import OriginReport


@click.group(invoke_without_command=True)
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, config: Path | None, as_json: bool) -> None:
    """Show the health, budgets and latency of origins."""
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
    from workers.ledger.ledger import Ledger
    from workers.origin.control import overview
    from workers.origin.control.fleet import Fleet

    ledger = Ledger.open(settings.broker)
    try:
        return await overview.read(Fleet(ledger.redis, namespace=ledger.namespace, process="origins"))
    finally:
        await ledger.close()


@command.command()
@click.argument("url")
@config_option
@json_option
@click.option("--credential", metavar="NAME", help="Credential of origin.credentials to sign with.")
@click.pass_context
def probe(ctx: click.Context, config: Path | None, as_json: bool, url: str, credential: str | None) -> None:
    """Ask URL in several ways and tell what it offers: ranges, validators, digests, soft 404.

    The requests count in the origin's budget. Exit code 1 when it cannot be reached.
    """
    above: tuple[Path | None, bool] = ctx.obj
    settings = load(config or above[0])
    report = run_async(_probe(settings, url, credential))
    if as_json or above[1]:
        from scheduler.status import to_json

        echo_json(to_json(report))
    else:
        _show_report(report)
    if not report.reachable:
        ctx.exit(EXIT_FAILED)


async def _probe(settings: Settings, url: str, credential: str | None) -> OriginReport:
    from scheduler.machine.processes import installation_id
    from workers.ledger.ledger import Ledger
    from workers.origin.control.control import OriginControl
    from workers.origin.fetch.inspect import inspect_origin
    from workers.origin.wire.client import OriginClient

    async with contextlib.AsyncExitStack() as stack:
        ledger = Ledger.open(settings.broker)
        stack.push_async_callback(ledger.close)
        client = await stack.enter_async_context(
            OriginClient(
                settings.origin,
                instance=installation_id(settings),
                public_hosts=settings.gateway.public_hosts,
                listeners=settings.own_listeners(),
            )
        )
        control = await stack.enter_async_context(
            OriginControl(settings.origin, redis=ledger.redis, namespace=ledger.namespace, name="probe")
        )
        try:
            # Whoever types a host here may name a private one, as in the configuration file (B11).
            return await inspect_origin(client, control, url, trusted=True, credential=credential)
        except ValueError as error:
            raise ConfigError(f"{url}: {error}; a URL with http:// or https:// is expected") from error


def _show_report(report: OriginReport) -> None:
    rows = [
        ("url", report.url),
        ("lands at", f"{report.landed} after {report.hops} redirects" if report.hops else ""),
        ("status", "" if report.status is None else str(report.status)),
        ("server", report.server),
        (
            "http",
            f"{report.http_version}{', ' + report.tls if report.tls else ''}" if report.reachable else "",
        ),
        ("content type", report.content_type),
        ("length", f"{report.length:,} bytes" if report.length is not None else report.framing),
        ("first byte", _ms(report.first_byte_s) if report.first_byte_s is not None else ""),
        ("ranges", report.ranges),
        ("validator", report.validator or ""),
        ("digests", ", ".join(report.digests)),
        ("HEAD", "" if report.head is None else "as GET" if report.head else "differs from GET"),
        ("missing key", "" if report.missing_status is None else str(report.missing_status)),
    ]
    for name, value in rows:
        if value:
            say(f"{name:<14}{value}")
    for problem in report.problems:
        click.secho(f"note          {problem}", fg="yellow")


def show(origins: list[OriginOverview]) -> None:
    """Print origins as a table; a line instead when no process knows any."""
    if not origins:
        say("no origin was asked in the last minutes")
        return
    console().print(table(origins))


def table(origins: list[OriginOverview], *, brief: bool = False) -> RenderableType:
    """Origins as a table for a terminal; `brief`, as a section of the status, leaves out why one is out."""
    from rich.table import Table
    from rich.text import Text

    found = Table(box=None, pad_edge=False, header_style="dim" if brief else "bold")
    found.add_column(Text("Origins", style="bold cyan") if brief else "origin", no_wrap=True)
    found.add_column("state")
    for name in ("now/limit", "budget", "answers", "p50/90/99 ms"):
        found.add_column(name, justify="right", no_wrap=name != "budget")
    for origin in origins:
        times = (origin.p50_s, origin.p90_s, origin.p99_s)
        limit = "" if origin.adaptive_limit is None else f"/{origin.adaptive_limit}"
        found.add_row(
            origin.host,
            _state(origin, brief=brief),
            f"{origin.in_flight}{limit}",
            budget_text(origin),
            str(origin.answers),
            "/".join(f"{(value or 0) * 1000:.0f}" for value in times) if origin.answers else "-",
        )
    return found


def _state(origin: OriginOverview, *, brief: bool) -> str:
    from workers.origin.control.health import State

    if origin.state is State.WELL:
        pause = f", rests {origin.pause_s:.0f} s" if origin.pause_s else ""
        return f"[green]well[/]{pause}"
    style = "red" if origin.state is State.OUT else "yellow"
    left = f" {origin.out_s:.0f} s" if origin.out_s else ""
    often = f"{origin.cause or 'failures'}, {origin.ejections} in a row"
    why = "" if brief else f" ({often})"
    return f"[{style}]{origin.state.value.replace('_', '-')}[/]{left}{why}"


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
