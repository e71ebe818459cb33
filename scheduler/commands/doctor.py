"""`ferryman doctor`: whether everything is as it should be, and what to do where it is not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from scheduler.commands.command_line import (
    EXIT_FAILED,
    EXIT_USAGE,
    CommandFailed,
    config_option,
    echo_json,
    json_option,
    load,
    run_async,
    say,
)
from workers.telemetry import log
from workers.telemetry.log import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scheduler.doctor.model import Finding


#: The check that fails when there are no settings to check.
UNREADABLE = "settings"


@click.command()
@config_option
@json_option
@click.option(
    "--url", "urls", multiple=True, metavar="URL", help="An object at an origin to look at closely."
)
@click.option("--quiet", is_flag=True, help="Show warnings and failures only.")
def command(config: Path | None, as_json: bool, urls: tuple[str, ...], quiet: bool) -> None:
    """Check configuration, limits, Redis, store, gateway, rules, loops and origins.

    Writes only under `.ferryman/probe/` in the buckets, and `ferryman-doctor-probe/` through the gateway as
    an S3 client; cleans up. Exit code 1 when something failed.
    """
    log.configure(form="auto", level="error")
    found = _examined(config, urls)
    if as_json:
        from scheduler.status import to_json

        echo_json({"findings": to_json(found)})
    else:
        _show(found, quiet=quiet)
    if any(finding.check == UNREADABLE and finding.level == "failed" for finding in found):
        sys.exit(EXIT_USAGE)
    if any(finding.level == "failed" for finding in found):
        sys.exit(EXIT_FAILED)


def _examined(config: Path | None, urls: Sequence[str]) -> list[Finding]:
    from scheduler.doctor.model import Finding, Level

    try:
        settings = load(config, resolve=False, beside=True)
    except CommandFailed as error:
        return [
            Finding(
                subject="configuration",
                check=UNREADABLE,
                level=Level.FAILED,
                message=error.message,
                remedy="correct it there; nothing else can be checked before",
            )
        ]
    from scheduler.doctor.examine import examine

    return run_async(examine(settings, urls=urls))


def _show(found: Sequence[Finding], *, quiet: bool) -> None:
    colours = {"ok": "green", "warning": "yellow", "failed": "red"}
    subject = ""
    for finding in found:
        if quiet and finding.level == "ok":
            continue
        if finding.subject != subject:
            subject = finding.subject
            click.secho(f"\n{subject}", bold=True)
        of = f" {finding.of}" if finding.of else ""
        level = click.style(f"{finding.level.value:<8}", fg=colours[finding.level.value])
        click.echo(f"  {level}{printable(f'{finding.check}{of}: {finding.message}')}")
        if finding.remedy:
            say(f"          → {finding.remedy}")
    counts = {level: sum(finding.level == level for finding in found) for level in colours}
    say("\n" + ", ".join(f"{count} {level}" for level, count in counts.items()))
