"""`ferryman init`: a config.yaml to start from, by options or, at a terminal, by questions."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from scheduler.commands.command_line import EXIT_USAGE, CommandFailed, guarded
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


DEFAULT_ORIGIN = "https://old.example.com"
DEFAULT_BUCKET = "site"

_TEMPLATE = """\
# Ferryman. Everything is optional; unknown keys are refused, with the nearest known one.
# Every value can also come from the environment, as FERRYMAN_SECTION__KEY.
data_dir: .ferryman

gateway:
  listen: 127.0.0.1:8080
{public_hosts}
  # Where nginx or another gateway in front comes from; its X-Forwarded-* and X-Ferryman-Status are believed.
  # trusted_proxies: [127.0.0.1/32]
admin:
  listen: 127.0.0.1:8081

# `embedded` runs a SeaweedFS on this machine. For another S3-compatible store:
#   endpoint: https://s3.example.com
#   access_key_id: ...
#   secret_access_key_file: /etc/ferryman/store.secret
store:
{store}

# `embedded` runs a Valkey on this machine; else a redis:// URL that all processes share
# (with a password: `url_file`, a file that holds the URL).
broker:
  url: {broker}

buckets:
  {bucket}:
    access: public
    # Requests under this name are for this bucket; without it they come as /{bucket}/KEY.
{bucket_hosts}
    rules:
      # Keys that the bucket lacks are fetched here. The name must go on leading to the old server
      # when the site's own name leads to Ferryman.
      - origins: [{origin}]

# Access logs whose 404s are misses, for gateways that must stay as they are:
{consume}

# What the whole fleet together may ask of the origin:
# origin:
#   budgets:
#     default: {{concurrency: 32, requests_per_s: 200}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the configuration is made of."""

    origin: str = DEFAULT_ORIGIN
    bucket: str = DEFAULT_BUCKET
    store: str = "embedded"
    key_id: str = ""
    secret_file: str = ""
    broker: str = "embedded"
    public_hosts: tuple[str, ...] = ()
    access_log: str = ""


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default=Path("config.yaml"))
@click.option("--origin", metavar="URL", help=f"The old server; default: {DEFAULT_ORIGIN}.")
@click.option("--bucket", metavar="NAME", help=f"The bucket to fill; default: {DEFAULT_BUCKET}.")
@click.option("--store", metavar="URL", help="Endpoint of the S3-compatible store; default: embedded.")
@click.option("--key-id", metavar="ID", help="Access key id at the store; needs --secret-file.")
@click.option("--secret-file", metavar="FILE", help="File that holds the secret key of the store.")
@click.option("--broker", metavar="URL", help="redis:// URL of Redis or Valkey; default: embedded.")
@click.option(
    "--public-host",
    "public_hosts",
    multiple=True,
    metavar="NAME",
    help="Name by which clients come; repeatable.",
)
@click.option("--access-log", metavar="FILE", help="Access log of a gateway to read misses from.")
@click.option("--force", is_flag=True, help="Replace the file when there is one.")
@guarded
def command(path: Path, force: bool, **options: str | tuple[str, ...] | None) -> None:
    """Write a commented config.yaml to start from, checked before it is written.

    At a terminal, and without any option, it asks for what it needs.
    """
    if path.exists() and not force:
        raise CommandFailed(f"{path} is there already; --force replaces it", exit_code=EXIT_USAGE)
    given = {name: value for name, value in options.items() if value}
    ask = not given and sys.stdin.isatty() and sys.stdout.isatty()
    answers = _asked() if ask else Answers(**given)  # type: ignore[arg-type]  # click checked their types
    text = written(answers)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}", exit_code=EXIT_USAGE) from error
    where = "" if path == Path("config.yaml") else f" --config {path}"
    click.echo(f"{path} is written. Next: ferryman up{where}; in another terminal, ferryman doctor{where}")


def written(answers: Answers) -> str:
    """The text of the file.

    Raises:
        ConfigError: an answer cannot be; it is named by its option.
    """
    for check in (_origin, _bucket, _store, _broker):
        check(answers)
    if bool(answers.key_id) != bool(answers.secret_file):
        raise ConfigError("--key-id and --secret-file go together")
    store = [f"  endpoint: {_scalar(answers.store)}"]
    if answers.key_id:
        store += [
            f"  access_key_id: {_scalar(answers.key_id)}",
            f"  secret_access_key_file: {_scalar(answers.secret_file)}",
        ]
    hosts = ", ".join(map(_scalar, answers.public_hosts))
    bucket = _scalar(answers.bucket)
    log = _scalar(answers.access_log or "/var/log/nginx/access.log")
    sign = "" if answers.access_log else "# "
    text = _TEMPLATE.format(
        public_hosts=f"  public_hosts: [{hosts}]" if hosts else "  # public_hosts: [www.example.com]",
        bucket_hosts=f"    hosts: [{hosts}]" if hosts else "    # hosts: [www.example.com]",
        store="\n".join(store),
        broker=_scalar(answers.broker),
        bucket=bucket,
        origin=json.dumps(answers.origin),
        consume=f"{sign}consume:\n{sign}  - {{path: {log}, format: auto, bucket: {bucket}}}",
    )
    _check(text)
    return text


def _check(text: str) -> None:
    """Read it as a process will: settings and rules.

    Raises:
        ConfigError: it cannot be used.
    """
    from pydantic import ValidationError

    from scheduler.config.settings import Settings
    from scheduler.rules.in_force.apply import read_file_rules

    try:
        settings = Settings.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        details = [
            f"{'.'.join(map(str, one['loc']))}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        ]
        raise ConfigError("\n".join(details)) from error
    read_file_rules(settings)


def _scalar(text: str) -> str:
    """As YAML: bare where that means the same text."""
    plain = all(char.isalnum() or char in "./-_:" for char in text) and not text.endswith(":")
    return text if plain and yaml.safe_load(text) == text else json.dumps(text)


# ---------------------------------------------------------------- answers


def _origin(answers: Answers) -> None:
    from scheduler.commands.up import with_origin
    from scheduler.config.settings import Settings

    with_origin(Settings(), answers.origin, DEFAULT_BUCKET)


def _bucket(answers: Answers) -> None:
    from scheduler.commands.up import with_origin
    from scheduler.config.settings import Settings

    with_origin(Settings(), DEFAULT_ORIGIN, answers.bucket)


def _store(answers: Answers) -> None:
    if answers.store != "embedded" and not answers.store.startswith(("http://", "https://")):
        raise ConfigError(
            f"--store {answers.store!r}: `embedded`, or a URL with http:// or https://, is expected"
        )


def _broker(answers: Answers) -> None:
    if answers.broker != "embedded" and not answers.broker.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigError(f"--broker {answers.broker!r}: `embedded`, or a redis:// URL, is expected")


def _asked() -> Answers:
    """Ask at the terminal; an answer that cannot be is asked for again."""
    click.echo("A configuration for Ferryman. Return takes what stands in brackets.")
    origin = _prompt("URL of the old server", None, lambda said: _origin(Answers(origin=said)))
    bucket = _prompt("Bucket to fill", DEFAULT_BUCKET, lambda said: _bucket(Answers(bucket=said)))
    store = _prompt(
        "S3-compatible store (URL, or embedded)", "embedded", lambda said: _store(Answers(store=said))
    )
    key_id = secret_file = ""
    if store != "embedded":
        key_id = _prompt("Access key id (empty: from the environment)", "", lambda _: None)
        if key_id:
            secret_file = _prompt("File that holds the secret key", None, lambda _: None)
    broker = _prompt(
        "Redis or Valkey (redis:// URL, or embedded)", "embedded", lambda said: _broker(Answers(broker=said))
    )
    host = _prompt("Name by which clients reach the site (empty: none)", "", lambda _: None)
    log = _prompt("Access log of a gateway to read misses from (empty: none)", "", lambda _: None)
    return Answers(
        origin=origin,
        bucket=bucket,
        store=store,
        key_id=key_id,
        secret_file=secret_file,
        broker=broker,
        public_hosts=(host,) if host else (),
        access_log=log,
    )


def _prompt(question: str, default: str | None, check: Callable[[str], None]) -> str:
    def value_of(said: str) -> str:
        try:
            check(said.strip())
        except ConfigError as error:
            raise click.UsageError(str(error).partition(": ")[2] or str(error)) from error
        return said.strip()

    found: str = click.prompt(question, default=default, value_proc=value_of, show_default=bool(default))
    return found
