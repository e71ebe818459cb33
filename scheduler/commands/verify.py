"""`ferryman verify`: compare what was moved with the origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from scheduler.commands.command_line import (
    CommandFailed,
    config_option,
    echo_json,
    json_option,
    load,
    run_async,
    say,
)
from scheduler.commands.rules_in_force import note_other_rules
from scheduler.commands.shard_number import SHARDS

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.config.settings import Settings
    from scheduler.scan.verify.report import VerifyReport

_SHOWN = 20


@click.command("verify")
@click.argument("name")
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="Compare N random objects byte by byte."
)
@click.option("--full", is_flag=True, help="Compare every object byte by byte.")
@click.option(
    "--shards",
    type=SHARDS,
    metavar="N|auto",
    help="Look at so many ranges of keys side by side, on the fleet; default: as the scan was cut.",
)
@config_option
@json_option
def command(
    name: str,
    *,
    sample: int | None,
    full: bool,
    shards: int | Literal["auto"] | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Compare the bucket with the inventory of scan NAME, and objects with the origin.

    Without options every key is compared by size and digest, as far as the listing tells; no byte is read.
    """
    if sample is not None and full:
        raise CommandFailed("give one of --sample and --full", exit_code=2)
    how = {"sample": sample, "full": full, "shards": shards}
    report = run_async(_verify(load(config), name, how, quiet=as_json))
    if as_json:
        from scheduler.scan.verify.report import verify_to_json

        echo_json(verify_to_json(report))
    else:
        _print(report)
    if not report.clean:
        if not report.faults:
            raise CommandFailed(f"verification of {name} proves nothing: {report.unproved[0]}")
        raise CommandFailed(f"verification of {name} found {report.faults} faults")


async def _verify(settings: Settings, name: str, how: dict[str, Any], *, quiet: bool) -> VerifyReport:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from scheduler.runtime import open_services
    from scheduler.scan.record.state import ScanStates
    from scheduler.scan.verify.verify import Verifier

    columns = (
        SpinnerColumn(),
        TextColumn(
            "verify {task.description}: {task.fields[checked]} keys, {task.fields[compared]} byte by byte"
        ),
        TimeElapsedColumn(),
    )
    async with open_services(settings) as services:
        state = await ScanStates(services.redis, namespace=settings.broker.namespace).get(name)
        if state is None:
            raise CommandFailed(f"no scan {name!r}; `ferryman scan status` lists them", exit_code=2)
        await note_other_rules(services, state.options.bucket)
        with Progress(*columns, console=Console(stderr=True, quiet=quiet)) as progress:
            task = progress.add_task(name, checked=0, compared=0)

            def show(report: VerifyReport) -> None:
                progress.update(task, checked=report.checked, compared=report.compared)

            report = await Verifier(services, state, progress=show, **how).run()
            show(report)
        return report


def _print(report: VerifyReport) -> None:
    verdict = "clean" if report.clean else "NOT clean"
    say(f"verify {report.name}: {verdict}. {report.checked} keys compared with the listing.")
    if report.one_because:
        say(f"  as one range: {report.one_because}")
    elif report.ranges > 1:
        say(f"  in {report.ranges} ranges that join without gap or overlap")
    if report.waived:
        say(f"  {report.waived} missing keys are waived failures")
    if report.mode != "listing":
        say(f"  {report.compared} objects ({report.compared_bytes} bytes) compared byte by byte")
    if report.bad_per_million is not None:
        say(f"  at most {report.bad_per_million:.0f} bad objects per million, at 99 %")
    for sentence in report.unproved:
        say(f"  not proved: {sentence}")
    for finding, number in sorted(report.counts.items()):
        say(f"  {number} {finding}: {report.remedies[finding]}")
    for problem in report.problems[:_SHOWN]:
        say(f"    {problem.finding}: {problem.key!r} {problem.detail}".rstrip())
    if len(report.problems) > _SHOWN:
        say(f"    … and {len(report.problems) - _SHOWN} more: --json")
    if report.extra:
        names = ", ".join(map(repr, report.extra_keys[:3])) + (", …" if report.extra > 3 else "")
        say(f"  {report.extra} only in the bucket (moved by misses, or written by users): {names}")
