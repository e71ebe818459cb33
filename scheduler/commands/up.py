"""`ferryman up`: everything on this machine, in the foreground.

Owns the order in which parts start and stop, and what is said about them. A `ferryman up` that is killed
leaves no process behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import structlog

from scheduler.commands.command_line import (
    DEFAULT_CONFIG,
    EXIT_FAILED,
    EXIT_USAGE,
    CommandFailed,
    config_option,
    listen_options,
    load,
    run_async,
    with_listen,
)
from workers.broker_address import place_of
from workers.errors import ConfigError
from workers.plan import Lane
from workers.telemetry import log, metric_files

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from scheduler.config.settings import Settings
    from scheduler.machine.supervise import Child, Supervisor

DEFAULT_BUCKET = "site"
logger = structlog.get_logger(__name__)
#: Seconds for a front to import, connect and answer on a slow machine.
_FRONT_START_S = 120.0


@click.command()
@config_option
@click.option("--origin", metavar="URL", help="Mirror this origin; needs no configuration file.")
@click.option("--bucket", metavar="NAME", help=f"Bucket for --origin; default: {DEFAULT_BUCKET}.")
@click.option("--data-dir", metavar="DIR", help="Overrides data_dir.")
@listen_options
def command(
    config: Path | None,
    origin: str | None,
    bucket: str | None,
    data_dir: str | None,
    gateway_listen: str | None,
    admin_listen: str | None,
) -> None:
    """Run everything on this machine until Ctrl-C: front, workers, consumers, and what is `embedded`."""
    from scheduler.config import secret_files
    from scheduler.rules.in_force.apply import read_file_rules

    if bucket is not None and origin is None:
        raise click.UsageError("--bucket goes with --origin URL")

    def read() -> Settings:
        settings = load(config, resolve=False, implicit=origin is None)
        settings = with_listen(settings, gateway=gateway_listen, admin=admin_listen)
        if data_dir is not None:
            settings = settings.model_copy(update={"data_dir": type(settings.data_dir)(data_dir)})
        if origin is not None:
            settings = with_origin(settings, origin, bucket or DEFAULT_BUCKET)
        read_file_rules(settings)  # a mistake in a rule is told before anything starts
        secret_files.require(settings)
        return settings

    try:
        settings = read()
    except ConfigError as error:
        raise CommandFailed(str(error), exit_code=EXIT_USAGE) from error
    log.configure(form=settings.log.format, level=settings.log.level)
    source = config or (DEFAULT_CONFIG if origin is None and DEFAULT_CONFIG.is_file() else None)
    sys.exit(run_async(_Up(settings=settings, source=source, reread=read).run()))


def with_origin(settings: Settings, origin: str, bucket: str) -> Settings:
    """Settings with one more bucket whose only rule mirrors `origin`."""
    from pydantic import ValidationError

    from scheduler.config.settings import BucketSettings, Settings

    try:
        parts = urlsplit(origin)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable and "@" in origin:
        msg = "--origin (not shown): user info in a URL is refused; name a credential in config.yaml"
        raise ConfigError(msg)
    if not usable:
        msg = (
            f"--origin {origin!r}: a URL with http:// or https:// and a host is expected, "
            f"for example https://{origin.removeprefix('//').split('://')[-1] or 'old.example.com'}"
        )
        raise ConfigError(msg)
    try:
        added = Settings(buckets={bucket: BucketSettings(rules=({"origins": [origin]},))})
    except ValidationError as error:
        details = "; ".join(detail["msg"].removeprefix("Value error, ") for detail in error.errors())
        msg = f"--bucket {bucket!r}: {details}"
        raise ConfigError(msg) from error
    return settings.model_copy(update={"buckets": {**settings.buckets, **added.buckets}})


@dataclass(slots=True, kw_only=True)
class _Up:
    """One run of `ferryman up`."""

    settings: Settings
    #: The configuration file, if there is one.
    source: Path | None
    #: The configuration, read anew.
    reread: Callable[[], Settings]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    sockets: list[socket.socket] = field(default_factory=list)
    signals: int = 0
    #: The settings that the parts run with, once the front is up.
    running: Settings | None = None
    #: What this process itself serves: /metrics of the workers, where they have an address.
    served: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def run(self) -> int:
        """Start, wait, stop; the exit code."""
        from scheduler.config.data_dir import DataDirLock
        from scheduler.machine.listen import bind
        from scheduler.machine.supervise import ChildFailed, Supervisor

        with contextlib.ExitStack() as stack:
            stack.enter_context(DataDirLock(self.settings.data_dir))
            metric_files.use(self.settings.data_dir)
            # Before anything is started, so that a busy port costs nothing.
            gateway = stack.enter_context(bind("gateway", self.settings.gateway.listen))
            admin = stack.enter_context(bind("admin", self.settings.admin.listen))
            self.sockets = [gateway, admin]
            supervisor = Supervisor()
            self._watch_signals(supervisor)
            code = 0
            try:
                starting = asyncio.create_task(self._start(supervisor, gateway, admin))
                stopping = asyncio.create_task(self.stop.wait())
                await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not starting.done():
                    starting.cancel()
                    await asyncio.wait({starting})
                else:
                    starting.result()
                    await stopping
            except ChildFailed as error:
                click.echo(f"Error: {error}", err=True)
                code = EXIT_USAGE if error.code == EXIT_USAGE else EXIT_FAILED
            finally:
                await self._stop(supervisor)
            return code

    def _watch_signals(self, supervisor: Supervisor) -> None:
        def signalled() -> None:
            self.signals += 1
            if self.signals > 1:
                click.echo("stopping at once", err=True)
                supervisor.kill()
            self.stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, signalled)
        # A terminal that is closed ends us; without one SIGHUP means "read the rules again".
        hangup = (
            signalled if sys.stdin is not None and sys.stdin.isatty() else partial(self._apply, supervisor)
        )
        loop.add_signal_handler(signal.SIGHUP, hangup)

    def _apply(self, supervisor: Supervisor) -> None:
        """Give the first front the rules of the configuration as it is now; a wrong one changes nothing."""
        from scheduler.config.run_settings import UP, write_run_settings

        if self.running is None:
            return
        try:
            buckets = self.reread().buckets
        except (ConfigError, CommandFailed) as error:
            logger.error("file_rules_refused", problems=str(error).splitlines())  # noqa: TRY400 -- it says it all
            return
        self.running = self.running.model_copy(update={"buckets": buckets})
        write_run_settings(self.running, UP)
        supervisor.signal("front", signal.SIGHUP)

    async def _start(self, supervisor: Supervisor, gateway: socket.socket, admin: socket.socket) -> None:
        from scheduler.config.admin_token import token_of
        from scheduler.config.run_settings import UP, note_source, write_run_settings
        from scheduler.front.admin.standalone import serving
        from scheduler.machine import embedded
        from scheduler.machine.listen import bound
        from scheduler.machine.processes import (
            LaneSize,
            consumer_child,
            coordinator_child,
            worker_children,
            worker_group,
        )

        # The addresses as bound: nothing is fetched from ourselves.
        settings = with_listen(self.settings, gateway=bound(gateway), admin=bound(admin))
        click.echo(f"Ferryman {version('ferryman')}, data in {settings.data_dir.resolve()}")
        if embedded.is_embedded(settings):
            settings, children = embedded.prepare(settings)
            await asyncio.gather(*(self._start_one(supervisor, child, settings) for child in children))
        token_of(settings)  # made before several processes could each make one
        groups = [worker_group(settings, lane, LaneSize()) for lane in Lane]
        await self.served.enter_async_context(serving(settings, "worker", workers=groups))
        file = write_run_settings(settings, UP)
        note_source(settings, self.source)
        fronts = self._fronts(settings, file, gateway, admin)
        workers = worker_children(settings, list(Lane), LaneSize())
        # The first front makes buckets and publishes rules; workers import meanwhile.
        await asyncio.gather(
            *(self._start_one(supervisor, child, settings) for child in [fronts[0], *workers])
        )
        for child in [*fronts[1:], coordinator_child(settings, file)]:
            await self._start_one(supervisor, child, settings)
        if settings.consume and find_spec("scheduler.commands.consume") is not None:
            await self._start_one(supervisor, consumer_child(settings, file), settings)
        self.running = settings
        self._say_what_next(settings, gateway, admin)

    def _fronts(
        self, settings: Settings, file: Path, gateway: socket.socket, admin: socket.socket
    ) -> list[Child]:
        from scheduler.machine.embedded import http_status
        from scheduler.machine.processes import front_child

        host, port = admin.getsockname()[:2]

        async def ready() -> bool:
            return await http_status(host, port, "/healthz") == 200

        return [
            front_child(
                settings,
                file,
                number=number,
                gateway_fd=gateway.fileno(),
                admin_fd=admin.fileno() if number == 0 else None,
                ready=ready if number == 0 else None,
                start_s=_FRONT_START_S,
            )
            for number in range(settings.gateway.processes)
        ]

    @staticmethod
    async def _start_one(supervisor: Supervisor, child: Child, settings: Settings) -> None:
        began = time.monotonic()
        pid = await supervisor.start(child)
        what = {
            "valkey": f"{place_of(settings.broker.url)}, append-only file synced at every write",
            "store": f"{settings.store.endpoint}, SeaweedFS; its key is in "
            f"{settings.data_dir / 'credentials.json'}",
            "front": "gateway and admin",
            "worker hot": "misses that somebody waits for",
            "worker cold": "what scans found missing",
            "scans": "inventories compared with buckets",
            "consume": ", ".join(source.path for source in settings.consume),
        }.get(child.name, "gateway")
        click.echo(f"  {child.name:<12} pid {pid:<8} {time.monotonic() - began:5.1f} s  {what}")

    def _say_what_next(self, settings: Settings, gateway: socket.socket, admin: socket.socket) -> None:
        from scheduler.config.admin_token import token_of
        from scheduler.machine.listen import address_of

        base, admin_base = f"http://{address_of(gateway)}", f"http://{address_of(admin)}"
        token_file = settings.data_dir / "admin-token"
        configured = settings.admin.token is not None or settings.admin.token_file is not None
        click.echo("")
        click.echo(f"Gateway  {base}/BUCKET/KEY   buckets: {', '.join(settings.buckets) or 'none'}")
        if sys.stdout.isatty():
            click.echo(f"Admin    {admin_base}/?token={token_of(settings)}")
        else:  # a token has no place in a collected log
            where = "admin.token of the configuration" if configured else token_file
            click.echo(f"Admin    {admin_base}/   token: {where}")
        click.echo("")
        self._say_s3(settings, base)
        if not settings.buckets:
            click.echo("No bucket is configured yet. Stop with Ctrl-C, then for a first mirror:")
            click.echo("  ferryman up --origin https://old.example.com --bucket site")
            return
        bucket = next(iter(settings.buckets))
        click.echo(
            "Try next: ask for a key that the store does not have; it is fetched, stored and answered."
        )
        click.echo(f"  curl -i {base}/{bucket}/index.html")
        click.echo("Or let a worker fetch it, without a client that waits:")
        secret = "$TOKEN" if configured else f"$(cat {token_file})"
        click.echo(
            f'  curl -X POST {admin_base}/v1/miss-events -H "Authorization: Bearer {secret}" '
            f'-H \'Content-Type: application/json\' -d \'{{"bucket": "{bucket}", "key": "index.html"}}\''
        )
        click.echo("Ctrl-C stops everything in order.")

    @staticmethod
    def _say_s3(settings: Settings, base: str) -> None:
        """What an S3 client of this machine needs: the key of the embedded store's installation."""
        from scheduler.config.settings import split_listen
        from workers.origin.wire.addresses import is_loopback

        key = settings.gateway.local_key
        if key is None:
            return
        secret = key.reveal()
        if not sys.stdout.isatty() and not is_loopback(split_listen(settings.gateway.listen)[0]):
            # Others reach this gateway, and a secret has no place in a collected log.
            secret = f"…  # client_secret_access_key of {settings.data_dir / 'credentials.json'}"
        bucket = next(iter(settings.buckets), "")
        click.echo("S3 clients of this machine read, write, list and delete with:")
        click.echo(f"  export AWS_ENDPOINT_URL={base}")
        click.echo(f"  export AWS_ACCESS_KEY_ID={key.id}")
        click.echo(f"  export AWS_SECRET_ACCESS_KEY={secret}")
        click.echo(f"  aws s3 ls s3://{bucket}")
        click.echo("")

    async def _stop(self, supervisor: Supervisor) -> None:
        for sock in self.sockets:
            sock.close()  # from now on nobody is let in; the fronts answer whom they have
        await self.served.aclose()
        await supervisor.stop(on_stage=lambda names: click.echo(f"stopping {', '.join(names)}"))
        click.echo("stopped")
