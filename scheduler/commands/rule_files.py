"""Rule documents on the command line: which file, whose settings, and where their hosts lead.

Owns reading a document of any form for `ferryman rules` and `ferryman explain`, with the file's name before
every problem, and opening the repository for a command.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import click

from scheduler.commands.command_line import DEFAULT_CONFIG, load, say
from scheduler.rules.problems import DocumentError, ReadOptions
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from scheduler.config.settings import Settings
    from scheduler.rules.formats import Found
    from scheduler.rules.in_force.repository import RulesRepository
    from scheduler.rules.lint import LintNote
    from scheduler.rules.model import Owner, RuleSet


def read_rules_file(file: Path, settings: Settings | None, bucket: str | None) -> Found:
    """Rule sets of a document of any form, by bucket; `-` is stdin.

    Raises:
        ConfigError: the file cannot be read, or (DocumentError) the document is wrong.
    """
    from scheduler.rules.encodings import foreign_encoding
    from scheduler.rules.formats import is_xml, read_any
    from scheduler.rules.in_force.apply import read_options

    try:
        with click.open_file(str(file), "rb") as stream:
            raw = stream.read()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    if problem := foreign_encoding(raw):
        raise ConfigError(f"{file}: {problem}")
    text = raw.decode("utf-8")
    owner: Owner = "api" if is_xml(text) else "file"
    name = bucket or ""
    options = ReadOptions(bucket=name, owner=owner)
    if settings is not None:
        options = read_options(settings, name, owner=owner)
    try:
        found = read_any(text, options)
    except DocumentError as error:
        raise error.of_file(file_name(file)) from error
    if bucket is None or bucket in found:
        return found if bucket is None else {bucket: found[bucket]}
    if "" in found:
        return found
    there = ", ".join(sorted(found)) or "none"
    raise ConfigError(f"{file_name(file)}: no rules for bucket {bucket!r}; the document has {there}")


def file_name(file: Path) -> str:
    """What a message calls FILE."""
    return "stdin" if str(file) == "-" else str(file)


def settings_for(file: Path, config: Path | None) -> Settings | None:
    """Settings that the check of a document needs; None when there are none, which checks less.

    A FILE that is a configuration is its own; what is wrong with its other sections is told on stderr.
    """
    from scheduler.config.load import load_settings

    if config is not None:
        return load(config, resolve=False)
    if file.suffix in {".yaml", ".yml"} and file.is_file():
        try:
            own = load_settings(file)
            if own.buckets:
                return own
        except ConfigError as error:
            if _has_buckets(file):
                say(f"note: {error}", err=True)
                say(f"note: the rules of {file} are read without its settings", err=True)
                return None
    return load(DEFAULT_CONFIG, resolve=False) if DEFAULT_CONFIG.is_file() else None


def _has_buckets(file: Path) -> bool:
    """Whether a file is meant as a configuration, and not as a mere list of rules."""
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return False
    return isinstance(found, dict) and "buckets" in found


def only_set(found: Found) -> tuple[RuleSet, Any]:
    """The one rule set of a document, with its warnings.

    Raises:
        ConfigError: there are several, or none.
    """
    if len(found) != 1:
        raise ConfigError(f"--bucket: which one? the document has {', '.join(sorted(found)) or 'none'}")
    return next(iter(found.values()))


@contextlib.asynccontextmanager
async def open_repository(settings: Settings) -> AsyncIterator[RulesRepository]:
    """The repository, read once; nothing watches it."""
    from scheduler.rules.in_force.repository import RulesRepository
    from workers.ledger.ledger import Ledger

    ledger = Ledger.open(settings.broker)
    try:
        repository = RulesRepository(ledger.redis, namespace=settings.broker.namespace)
        await repository.refresh()
        yield repository
    finally:
        await ledger.close()


def host_notes(ruleset: RuleSet, settings: Settings | None) -> Iterable[LintNote]:
    """What a look at the network says of a rule set's hosts."""
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
    from scheduler.config.settings import split_listen

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
