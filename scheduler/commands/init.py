"""`ferryman init`: a config.yaml to start from."""

from __future__ import annotations

from pathlib import Path

import click

from scheduler.commands.command_line import EXIT_USAGE, CommandFailed, guarded

_TEMPLATE = """\
# Ferryman. Everything is optional; unknown keys are refused, with the nearest known one.
# Every value can also come from the environment, as FERRYMAN_SECTION__KEY.
data_dir: .ferryman

gateway:
  listen: 127.0.0.1:8080
admin:
  listen: 127.0.0.1:8081

# `embedded` runs a SeaweedFS on this machine. For another S3-compatible store:
#   endpoint: https://s3.example.com
#   access_key_id: ...
#   secret_access_key_file: /etc/ferryman/store.secret
store:
  endpoint: embedded

# `embedded` runs a Valkey on this machine; else a redis:// URL that all processes share.
broker:
  url: embedded

buckets:
  {bucket}:
    access: public
    rules:
      - origins: ["{origin}"]

# Access logs whose 404s are misses, for gateways that must stay as they are:
# consume:
#   - {{path: /var/log/nginx/access.log, format: auto, bucket: {bucket}}}

# What the whole fleet together may ask of the origin:
# origin:
#   budgets:
#     default: {{concurrency: 32, requests_per_s: 200}}
"""


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default=Path("config.yaml"))
@click.option("--origin", metavar="URL", default="https://old.example.com", show_default=True)
@click.option("--bucket", metavar="NAME", default="site", show_default=True)
@click.option("--force", is_flag=True, help="Replace the file when there is one.")
@guarded
def command(path: Path, origin: str, bucket: str, force: bool) -> None:
    """Write a config.yaml to start from, checked before it is written."""
    from scheduler.commands.up import with_origin
    from scheduler.settings import Settings

    with_origin(Settings(), origin, bucket)
    if path.exists() and not force:
        msg = f"{path} is there already; --force replaces it"
        raise CommandFailed(msg, exit_code=EXIT_USAGE)
    try:
        path.write_text(_TEMPLATE.format(origin=origin, bucket=bucket), encoding="utf-8")
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise CommandFailed(msg, exit_code=EXIT_USAGE) from error
    click.echo(f"{path} is written. Next: ferryman up --config {path}")
