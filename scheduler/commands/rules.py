"""`ferryman rules`: check, convert, apply, show, history, rollback."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scheduler.commands.command_line import (
    CommandFailed,
    config_option,
    echo_json,
    guarded,
    json_option,
    load,
    run_async,
    say,
)
from scheduler.commands.rule_files import (
    file_name,
    host_notes,
    only_set,
    open_repository,
    read_rules_file,
    settings_for,
)
from scheduler.rules.problems import DocumentError, NotExpressible
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.config.settings import Settings
    from scheduler.rules.formats import Form, Found
    from scheduler.rules.in_force.repository import RulesRepository
    from scheduler.rules.in_force.stored import Change
    from scheduler.rules.model import RuleSet

_FORMS = ("yaml", "json", "cos", "oss")
_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
_bucket = click.option("--bucket", metavar="B", help="Which bucket, where a document has several or none.")


@click.group("rules")
def command() -> None:
    """Check, put in force, show and roll back rules."""


@command.command()
@_file
@config_option
@json_option
@_bucket
@click.option("--no-resolve", is_flag=True, help="Do not look up host names.")
@click.option("--strict", is_flag=True, help="Warnings fail the check (exit 1).")
@guarded
def check(
    file: Path, config: Path | None, as_json: bool, bucket: str | None, no_resolve: bool, strict: bool
) -> None:
    """Read FILE (YAML, JSON, COS or OSS XML, or a whole config.yaml) and say what is wrong or doubtful."""
    settings = settings_for(file, config)
    found = _read(file, settings, bucket, as_json=as_json)
    warnings: list[dict[str, Any]] = []
    for name, (ruleset, notes) in found.items():
        warnings += [{"bucket": name, **note.to_json()} for note in notes]
        if not no_resolve:
            warnings += [
                {
                    "bucket": name,
                    "path": f"{ruleset.rules[note.index].name}: {note.field}",
                    "line": 0,
                    "kind": "warning",
                    "message": note.message,
                }
                for note in host_notes(ruleset, settings)
            ]
    if as_json:
        counts = {name: len(ruleset.rules) for name, (ruleset, _) in found.items()}
        echo_json({"ok": True, "file": file_name(file), "rules": counts, "warnings": warnings})
    else:
        for warning in warnings:
            line = f":{warning['line']}" if warning["line"] else ""
            say(f"warning: {file_name(file)}{line}: {warning['path']}: {warning['message']}")
        for name, (ruleset, _) in found.items():
            where = f"bucket {name}: " if name else ""
            own = sum(warning["bucket"] == name for warning in warnings)
            say(f"{where}{_count(len(ruleset.rules), 'rule')}, {_count(own, 'warning')}")
    if warnings and strict:
        raise SystemExit(1)


@command.command()
@_file
@config_option
@json_option
@click.option("--to", "form", type=click.Choice(_FORMS), required=True, help="The form to write.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File; default: stdout.")
@click.option("--lossy", is_flag=True, help="Write what can be said, and list on stderr what cannot.")
@_bucket
@guarded
def convert(
    file: Path,
    config: Path | None,
    as_json: bool,
    form: str,
    out: Path | None,
    lossy: bool,
    bucket: str | None,
) -> None:
    """Write the rules of FILE in another form; what that form cannot express is listed (exit 1)."""
    from scheduler.rules.formats import Form, losses

    ruleset = only_set(_read(file, settings_for(file, config), bucket, as_json=as_json))[0]
    lost = losses(ruleset, Form(form))
    if as_json:
        text = _text(ruleset, Form(form), lossy=True) if lossy or not lost else None
        if text is not None and out is not None:
            _write(text, out)
        written = {"out": str(out)} if out is not None else {"document": text}
        echo_json({"ok": text is not None, "form": form, "lost": lost, **written})
        if text is None:
            raise SystemExit(1)
        return
    if lost:
        lines = "\n".join(f"  {field}" for field in lost)
        if not lossy:
            raise CommandFailed(f"not expressible as {form}:\n{lines}\n--lossy writes the rest")
        say(f"left out, not expressible as {form}:\n{lines}", err=True)
    _write(_text(ruleset, Form(form), lossy=lossy), out)


@command.command("apply")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@config_option
@json_option
@_bucket
@guarded
def apply_rules(file: Path | None, config: Path | None, as_json: bool, bucket: str | None) -> None:
    """Put rules in force everywhere: those of the configuration, or FILE for a bucket that the API owns."""
    from scheduler.rules.in_force.apply import apply_file_rules

    settings = load(config)

    async def work() -> dict[str, Any]:
        async with open_repository(settings) as repository:
            if file is not None:
                return await _put(repository, settings, file, bucket)
            applied = await apply_file_rules(repository, settings, who=_who(), how="ferryman rules apply")
            return {
                "changed": list(applied.changed),
                "unchanged": list(applied.unchanged),
                "withdrawn": list(applied.withdrawn),
                "warnings": [str(warning) for warning in applied.warnings],
            }

    report = run_async(work())
    if as_json:
        echo_json(report)
        return
    for warning in report.pop("warnings", ()):
        say(f"warning: {warning}")
    for name, value in report.items():
        say(f"{name}: {', '.join(value) or '-' if isinstance(value, list) else value}")


@command.command()
@click.argument("bucket", required=False)
@config_option
@json_option
@click.option("--as", "form", type=click.Choice(_FORMS), default="yaml", help="The form; default: yaml.")
@click.option("--lossy", is_flag=True, help="Leave out what the form cannot express.")
@guarded
def show(bucket: str | None, config: Path | None, as_json: bool, form: str, lossy: bool) -> None:
    """Print the rules in force: of BUCKET, or an overview of all buckets."""
    from scheduler.rules.formats import Form
    from scheduler.rules.yaml.document import to_data

    settings = load(config)

    async def work() -> list[RuleSet]:
        async with open_repository(settings) as repository:
            names = repository.buckets() if bucket is None else (bucket,)
            return [found for name in names if (found := repository.snapshot(name)) is not None]

    rulesets = run_async(work())
    if bucket is not None and not rulesets:
        raise CommandFailed(f"bucket {bucket} has no rules")
    if as_json:
        echo_json([{**_summary(ruleset), **to_data(ruleset)} for ruleset in rulesets])
    elif bucket is not None:
        _write(_text(rulesets[0], Form(form), lossy=lossy), None)
    else:
        for ruleset in rulesets:
            say("  ".join(f"{name} {value}" for name, value in _summary(ruleset).items()))
        if not rulesets:
            say("no bucket has rules")


@command.command()
@click.argument("bucket")
@config_option
@json_option
@guarded
def history(bucket: str, config: Path | None, as_json: bool) -> None:
    """List the last versions of a bucket's rules, newest first: when, who, how."""
    settings = load(config)

    async def work() -> Sequence[Change]:
        async with open_repository(settings) as repository:
            return await repository.history(bucket)

    rows = [_change_data(change) for change in run_async(work())]
    if as_json:
        echo_json(rows)
        return
    for row in rows:
        rules = "deleted" if row["rules"] is None else _count(row["rules"], "rule")
        say(f"{row['version']:>8}  {row['at']}  {row['owner']:<4}  {rules:<9}  {row['who']}  {row['how']}")
    if not rows:
        say(f"bucket {bucket} never had rules")


@command.command()
@click.argument("bucket")
@click.argument("version", type=int)
@config_option
@json_option
@guarded
def rollback(bucket: str, version: int, config: Path | None, as_json: bool) -> None:
    """Put an earlier version of a bucket's rules in force again, as a new version."""
    settings = load(config)

    async def work() -> dict[str, Any]:
        async with open_repository(settings) as repository:
            replaced = await repository.rollback(bucket, version, who=_who())
            return {"bucket": bucket, "version": replaced.version, "changed": replaced.changed}

    report = run_async(work())
    if as_json:
        echo_json(report)
    else:
        what = "in force" if report["changed"] else "in force already"
        say(f"bucket {bucket}: the rules of version {version} are {what} as version {report['version']}")


def _read(file: Path, settings: Settings | None, bucket: str | None, *, as_json: bool) -> Found:
    """The document, or its problems as JSON where JSON was asked for (exit 2)."""
    try:
        return read_rules_file(file, settings, bucket)
    except DocumentError as error:
        if not as_json:
            raise
        problems = [problem.to_json() for problem in error.problems]
        echo_json({"ok": False, "file": file_name(file), "problems": problems, "more": error.more})
        raise SystemExit(2) from error


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


async def _put(
    repository: RulesRepository, settings: Settings, file: Path, bucket: str | None
) -> dict[str, Any]:
    from scheduler.rules.in_force.apply import require_api_owned

    ruleset, warnings = only_set(read_rules_file(file, settings, bucket))
    name = bucket or ruleset.bucket
    if not name:
        raise ConfigError("--bucket is needed: the document does not name one")
    require_api_owned(settings, name)
    if name not in settings.buckets and settings.buckets:
        listed = ", ".join(sorted(settings.buckets))
        raise ConfigError(f"bucket {name!r} is not in the configuration; there: {listed}")
    replaced = await repository.replace(
        name,
        ruleset.rules,
        owner="api",
        who=_who(),
        how=f"ferryman rules apply {file.name}",
        source=ruleset.source,
        website=ruleset.website,
    )
    return {
        "bucket": name,
        "version": replaced.version,
        "changed": replaced.changed,
        "warnings": [str(warning) for warning in warnings],
    }


def _who() -> str:
    """Operator and machine, for the history."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return "operator"


def _text(ruleset: RuleSet, form: Form, *, lossy: bool) -> str:
    from scheduler.rules.formats import write_as

    try:
        return write_as(ruleset, form, lossy=lossy)
    except NotExpressible as error:
        raise CommandFailed(f"{error}\n--lossy writes the rest") from error


def _write(text: str, out: Path | None) -> None:
    if out is None:
        say(text, nl=not text.endswith("\n"))
    else:
        out.write_text(text, encoding="utf-8")


def _summary(ruleset: RuleSet) -> dict[str, Any]:
    return {
        "bucket": ruleset.bucket,
        "version": ruleset.version,
        "owner": ruleset.owner,
        "source": ruleset.source.value,
        "rules": len(ruleset.rules),
    }


def _change_data(change: Change) -> dict[str, Any]:
    from datetime import UTC, datetime

    return {
        "version": change.version,
        "at": datetime.fromtimestamp(change.at, tz=UTC).isoformat(timespec="seconds"),
        "owner": change.owner,
        "who": change.who,
        "how": change.how,
        "rules": None if change.ruleset is None else len(change.ruleset.rules),
    }
