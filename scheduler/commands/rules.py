"""`ferryman rules`: check, convert, apply, show, history, rollback."""

from __future__ import annotations

import contextlib
import getpass
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scheduler.commands.common import (
    CommandFailed,
    config_option,
    echo_json,
    guarded,
    json_option,
    load,
    run_async,
)
from scheduler.rules.problems import DocumentError, NotExpressible, ReadOptions
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from scheduler.rules.formats import Form, Found
    from scheduler.rules.lint import LintNote
    from scheduler.rules.model import Owner, RuleSet
    from scheduler.rules.repository import RulesRepository
    from scheduler.rules.stored import Change
    from scheduler.settings import Settings

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
    settings = _settings_for(file, config)
    try:
        found = read_rules_file(file, settings, bucket)
    except DocumentError as error:
        if as_json:
            echo_json({"ok": False, "problems": [_problem_data(problem) for problem in error.problems]})
            raise SystemExit(2) from error
        raise
    warnings: list[dict[str, Any]] = []
    for name, (ruleset, notes) in found.items():
        warnings += [{"bucket": name, **_problem_data(note)} for note in notes]
        if not no_resolve:
            warnings += [
                {
                    "bucket": name,
                    "path": f"{_rule_name(ruleset, note)}: {note.field}",
                    "message": note.message,
                }
                for note in _host_notes(ruleset, settings)
            ]
    if as_json:
        counts = {name: len(ruleset.rules) for name, (ruleset, _) in found.items()}
        echo_json({"ok": True, "rules": counts, "warnings": warnings})
    else:
        for warning in warnings:
            line = f"line {warning['line']}: " if warning.get("line") else ""
            click.echo(f"warning: {line}{warning['path']}: {warning['message']}")
        for name, (ruleset, _) in found.items():
            where = f"bucket {name}: " if name else ""
            click.echo(f"{where}{len(ruleset.rules)} rules, {len(warnings)} warnings")
    if warnings and strict:
        raise SystemExit(1)


@command.command()
@_file
@config_option
@click.option("--to", "form", type=click.Choice(_FORMS), required=True, help="The form to write.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File; default: stdout.")
@click.option("--lossy", is_flag=True, help="Write what can be said, and list on stderr what cannot.")
@_bucket
@guarded
def convert(
    file: Path, config: Path | None, form: str, out: Path | None, lossy: bool, bucket: str | None
) -> None:
    """Write the rules of FILE in another form; what that form cannot express is listed (exit 1)."""
    from scheduler.rules.formats import Form, losses

    found = read_rules_file(file, _settings_for(file, config), bucket)
    ruleset = _only(found, bucket)[0]
    lost = losses(ruleset, Form(form))
    if lost:
        lines = "\n".join(f"  {field}" for field in lost)
        if not lossy:
            raise CommandFailed(f"not expressible as {form}:\n{lines}\n--lossy writes the rest")
        click.echo(f"left out, not expressible as {form}:\n{lines}", err=True)
    _write(_text(ruleset, Form(form), lossy=lossy), out)


@command.command("apply")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@config_option
@json_option
@_bucket
@guarded
def apply_rules(file: Path | None, config: Path | None, as_json: bool, bucket: str | None) -> None:
    """Put rules in force everywhere: those of the configuration, or FILE for a bucket that the API owns."""
    from scheduler.rules.apply import apply_file_rules

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
        click.echo(f"warning: {warning}")
    for name, value in report.items():
        click.echo(f"{name}: {', '.join(value) or '-' if isinstance(value, list) else value}")


@command.command()
@click.argument("bucket", required=False)
@config_option
@json_option
@click.option("--as", "form", type=click.Choice(_FORMS), default="yaml", help="The form; default: yaml.")
@click.option("--lossy", is_flag=True, help="Leave out what the form cannot express.")
@guarded
def show(bucket: str | None, config: Path | None, as_json: bool, form: str, lossy: bool) -> None:
    """Print the rules in force: of BUCKET, or an overview of all buckets."""
    from scheduler.rules.document import to_data
    from scheduler.rules.formats import Form

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
            click.echo("  ".join(f"{name} {value}" for name, value in _summary(ruleset).items()))
        if not rulesets:
            click.echo("no bucket has rules")


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
        rules = "deleted" if row["rules"] is None else f"{row['rules']} rules"
        click.echo(
            f"{row['version']:>8}  {row['at']}  {row['owner']:<4}  {rules:<9}  {row['who']}  {row['how']}"
        )
    if not rows:
        click.echo(f"bucket {bucket} never had rules")


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
        click.echo(
            f"bucket {bucket}: the rules of version {version} are {what} as version {report['version']}"
        )


# -------------------------------------------------------------------- shared with `ferryman explain`


def read_rules_file(file: Path, settings: Settings | None, bucket: str | None) -> Found:
    """Rule sets of a document of any form, by bucket; `-` is stdin.

    Raises:
        ConfigError: the file cannot be read, or (DocumentError) the document is wrong.
    """
    from scheduler.rules.apply import read_options
    from scheduler.rules.formats import is_xml, read_any

    try:
        with click.open_file(str(file), encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    owner: Owner = "api" if is_xml(text) else "file"
    name = bucket or ""
    options = ReadOptions(bucket=name, owner=owner)
    if settings is not None:
        options = read_options(settings, name, owner=owner)
    found = read_any(text, options)
    if bucket is not None and bucket in found:
        return {bucket: found[bucket]}
    return found


def _settings_for(file: Path, config: Path | None) -> Settings | None:
    """Settings that the check of a document needs; None when there are none, which checks less.

    A FILE that is a configuration is its own.
    """
    from scheduler.commands.common import DEFAULT_CONFIG
    from scheduler.settings import load_settings

    if config is not None:
        return load(config, resolve=False)
    if file.suffix in {".yaml", ".yml"} and file.is_file():
        with contextlib.suppress(ConfigError):
            own = load_settings(file)
            if own.buckets:
                return own
    return load(DEFAULT_CONFIG, resolve=False) if DEFAULT_CONFIG.is_file() else None


def _only(found: Found, bucket: str | None) -> tuple[RuleSet, Any]:
    if bucket is not None and bucket not in found and "" not in found:
        raise ConfigError(f"no rules for bucket {bucket}; the document has {', '.join(sorted(found))}")
    if len(found) != 1:
        raise ConfigError(f"--bucket: which one? the document has {', '.join(sorted(found)) or 'none'}")
    return next(iter(found.values()))


@contextlib.asynccontextmanager
async def open_repository(settings: Settings) -> AsyncIterator[RulesRepository]:
    """The repository, read once; nothing watches it."""
    from scheduler.rules.repository import RulesRepository
    from workers.ledger import Ledger

    ledger = Ledger.open(settings.broker)
    try:
        repository = RulesRepository(ledger.redis, namespace=settings.broker.namespace)
        await repository.refresh()
        yield repository
    finally:
        await ledger.close()


async def _put(
    repository: RulesRepository, settings: Settings, file: Path, bucket: str | None
) -> dict[str, Any]:
    found = read_rules_file(file, settings, bucket)
    ruleset, warnings = _only(found, bucket)
    name = bucket or ruleset.bucket
    if not name:
        raise ConfigError("--bucket is needed: the document does not name one")
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


def _host_notes(ruleset: RuleSet, settings: Settings | None) -> Iterable[LintNote]:
    from scheduler.rules.lint import lint_hosts

    listens = () if settings is None else (settings.gateway.listen, settings.admin.listen)
    own = [address for listen in listens for address in _listening(listen)]
    public = () if settings is None else settings.gateway.public_hosts
    return lint_hosts(
        ruleset.rules,
        _resolve,
        public_hosts=public,
        own_addresses=own,
        from_file=ruleset.owner == "file",
    )


def _listening(listen: str) -> list[str]:
    """`address:port` of a listening address; of every address of this machine when it is a wildcard."""
    from scheduler.settings import split_listen

    host, port = split_listen(listen)
    if host not in {"0.0.0.0", "::", ""}:
        return [f"{host}:{port}"]
    addresses = {"127.0.0.1", "::1"}
    with contextlib.suppress(OSError):
        addresses.update(_resolve(socket.gethostname()))
    return [f"{address}:{port}" for address in sorted(addresses)]


def _resolve(name: str) -> list[str]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return sorted({str(entry[4][0]) for entry in found})


def _rule_name(ruleset: RuleSet, note: LintNote) -> str:
    return ruleset.rules[note.index].name


def _text(ruleset: RuleSet, form: Form, *, lossy: bool) -> str:
    from scheduler.rules.formats import write_as

    try:
        return write_as(ruleset, form, lossy=lossy)
    except NotExpressible as error:
        raise CommandFailed(f"{error}\n--lossy writes the rest") from error


def _write(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text, nl=not text.endswith("\n"))
    else:
        out.write_text(text, encoding="utf-8")


def _problem_data(problem: Any) -> dict[str, Any]:
    return {
        "path": problem.path,
        "line": problem.line,
        "kind": problem.kind.value,
        "message": problem.message,
    }


def _summary(ruleset: RuleSet) -> dict[str, Any]:
    return {
        "bucket": ruleset.bucket,
        "version": ruleset.version,
        "owner": ruleset.owner,
        "source": ruleset.source.value,
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
