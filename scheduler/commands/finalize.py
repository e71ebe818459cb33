"""`ferryman finalize`: check the gate, write the report, retire the rules."""

from __future__ import annotations

import getpass
import socket
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

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
from scheduler.scan.gate.period import quiet_period_s

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.config.settings import Settings
    from scheduler.runtime import Services


class Period(click.ParamType[float]):
    """A time such as 90s, 30m, 24h or 7d, in seconds."""

    name = "period"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds of the text."""
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return quiet_period_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("finalize")
@click.argument("name")
@click.option("--check", is_flag=True, help="Only look: print every condition with its evidence.")
@click.option("--quiet", type=Period(), default="24h", show_default=True, help="Period without any miss.")
@click.option("--keep-rule", is_flag=True, help="Prove and report, but keep the rules (partial traffic).")
@click.option("--rollback", is_flag=True, help="Bring retired rules back.")
@click.option("--override", metavar="REASON", default="", help="Pass a shut gate; it is reported.")
@click.option(
    "--share",
    type=click.FloatRange(0, 1),
    help="First only answer this share of missing keys with 404, to see who complains; 0 ends it.",
)
@click.option(
    "--forget", metavar="WATCHER", help="A front or consumer that is gone for good; then only look."
)
@config_option
@json_option
def command(
    name: str,
    *,
    check: bool,
    quiet: float,
    keep_rule: bool,
    rollback: bool,
    override: str,
    share: float | None,
    forget: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Retire the rules that scan NAME has made needless, when the gate allows it."""
    ways = (check, rollback, keep_rule, bool(override), share is not None, forget is not None)
    if sum(ways) > 1 and not (sum(ways) == 2 and ((keep_rule and override) or (check and forget))):
        raise CommandFailed(
            "--check, --rollback, --keep-rule, --override, --share and --forget exclude each other "
            "(but --keep-rule goes with --override, --check with --forget)",
            exit_code=2,
        )
    settings = load(config)
    if share is not None:
        bucket = run_async(_dry(settings, name, share))
        if as_json:
            echo_json({"bucket": bucket, "share": share})
        else:
            say(f"bucket {bucket}: {share:.2%} of missing keys are answered with 404 from now on")
        return
    result = run_async(_finalize(settings, name, check, quiet, keep_rule, rollback, override, forget))
    if as_json:
        echo_json(result)
    else:
        _print(result)
    if not result.get("open", True) and not override:
        raise CommandFailed(f"the gate is shut: {result['shut']} of its conditions do not hold")


async def _dry(settings: Settings, name: str, share: float) -> str:
    from scheduler.runtime import open_services
    from scheduler.scan.record.state import ScanStates

    async with open_services(settings) as services:
        state = await ScanStates(services.redis, namespace=settings.broker.namespace).get(name)
        if state is None:
            raise CommandFailed(f"no scan {name!r}; `ferryman scan status` lists them", exit_code=2)
        await services.rules.retired.set_share(state.options.bucket, share)
        return state.options.bucket


async def _forget(services: Services, watcher: str) -> None:
    watchers = sorted(await services.ledger.minutes.watchers())
    if watcher not in watchers:
        known = ", ".join(watchers) or "none"
        raise CommandFailed(f"--forget {watcher}: no such watcher; known: {known}", exit_code=2)
    await services.ledger.minutes.retire(watcher)


async def _finalize(
    settings: Settings,
    name: str,
    check: bool,
    quiet: float,
    keep_rule: bool,
    rollback: bool,
    override: str,
    forget: str | None,
) -> dict[str, Any]:
    from scheduler.runtime import open_services
    from scheduler.scan.gate import finalize as finalizing
    from scheduler.scan.gate.gate import look
    from scheduler.scan.record.state import ScanStates

    who = f"{getpass.getuser()}@{socket.gethostname()}"
    async with open_services(settings) as services:
        state = await ScanStates(services.redis, namespace=settings.broker.namespace).get(name)
        if state is None:
            raise CommandFailed(f"no scan {name!r}; `ferryman scan status` lists them", exit_code=2)
        await note_other_rules(services, state.options.bucket)
        if forget is not None:
            await _forget(services, forget)
            check = True  # whoever tidies up does not mean to retire anything yet
        if rollback:
            return {"rolled_back": await finalizing.rollback(services, state, who=who)}
        if check:
            verdict = await look(services, state, quiet_s=quiet)
            retired: tuple[str, ...] = ()
            reports: tuple[str, ...] = ()
        else:
            done = await finalizing.finalize(
                services, state, quiet_s=quiet, who=who, keep_rule=keep_rule, override=override
            )
            verdict, retired, reports = done.verdict, done.retired, done.reports
    return {
        "open": verdict.open,
        "shut": sum(not (one.ok or one.warning) for one in verdict.conditions),
        "conditions": [asdict(one) for one in verdict.conditions],
        "rules": [rule.name for rule in verdict.rules],
        "retired": list(retired),
        "reports": list(reports),
    }


def _print(result: dict[str, Any]) -> None:
    if "rolled_back" in result:
        say(f"back in force: {', '.join(result['rolled_back'])}")
        return
    for one in result["conditions"]:
        mark = "ok     " if one["ok"] else "warning" if one["warning"] else "FAILED "
        say(f"  {mark}  {one['name']:<24} {one['evidence']}")
        if not one["ok"]:
            say(f"           {'':<24} → {one['remedy']}")
    say("the gate is open" if result["open"] else "the gate is shut")
    if result["retired"]:
        say(f"retired: {', '.join(result['retired'])}; back with --rollback")
    for report in result["reports"]:
        say(f"report: {report}")
