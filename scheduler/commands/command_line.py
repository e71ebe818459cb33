"""How a command meets the command line: `--config`, `--json`, running a coroutine, and how errors leave it.

Owns exit codes (0 done, 1 something failed, 2 usage or configuration) and the place where settings are read
for a command. Knows no command and makes no client.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

from workers.errors import BrokerUnavailable, ConfigError, FerrymanError, StoreDenied
from workers.telemetry.log import json_text, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from rich.console import Console

    from scheduler.config.settings import Settings

T = TypeVar("T")
Command = TypeVar("Command", bound="Callable[..., Any]")

#: Read when `--config` is not given and it exists.
DEFAULT_CONFIG = Path("config.yaml")

#: Columns of a table that no terminal shows.
_PIPE_COLUMNS = 200

EXIT_FAILED = 1
EXIT_USAGE = 2


class CommandFailed(click.ClickException):
    """Ends the command with one message on stderr and `exit_code`."""

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance, too


def config_option(command: Command) -> Command:
    """Add `--config PATH`; the command gets `config: Path | None` for `load`."""
    return click.option(
        "--config",
        "config",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="FERRYMAN_CONFIG",
        help="Configuration file; default: ./config.yaml where it exists, else built-in defaults.",
    )(command)


def _listen(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    from scheduler.config.settings import split_listen

    if value is not None:
        try:
            split_listen(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return value


def listen_options(command: Command) -> Command:
    """Add `--gateway-listen` and `--admin-listen`; the command gets both as `str | None`."""
    for section in ("admin", "gateway"):
        command = click.option(
            f"--{section}-listen",
            callback=_listen,
            metavar="HOST:PORT",
            help=f"Overrides {section}.listen; port 0 takes any free one.",
        )(command)
    return command


def with_listen(settings: Settings, *, gateway: str | None, admin: str | None) -> Settings:
    """Settings with these addresses in place of the configured ones.

    Raises:
        ConfigError: the rule API would be open to the network without a token.
    """
    from pydantic import ValidationError

    changed = settings
    if gateway is not None:
        section = settings.gateway.model_copy(update={"listen": gateway})
        changed = changed.model_copy(update={"gateway": section})
    if admin is not None:
        changed = changed.model_copy(update={"admin": settings.admin.model_copy(update={"listen": admin})})
    if changed is not settings:
        try:
            type(changed).model_validate(dict(changed))
        except ValidationError as error:
            details = "; ".join(detail["msg"].removeprefix("Value error, ") for detail in error.errors())
            raise ConfigError(details) from error
    return changed


def json_option(command: Command) -> Command:
    """Add `--json`; the command gets `as_json: bool` and prints with `echo_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def load(
    config: Path | None, *, resolve: bool = True, implicit: bool = True, beside: bool | None = None
) -> Settings:
    """Settings for a command.

    `implicit` reads ./config.yaml when `config` is None and it exists, or the settings of the `ferryman up`
    that runs here without one (`scheduler.config.run_settings`; `beside`, by default as `resolve`); `resolve`
    replaces `embedded` by the addresses of the embedded parts that `ferryman up` runs in this data_dir.

    Raises:
        CommandFailed: exit 2, with every problem of the configuration, or that `ferryman up` is not running.
    """
    from scheduler.config.load import load_settings
    from scheduler.config.run_settings import settings_of_up
    from scheduler.machine.embedded import resolve_running
    from workers.telemetry import log

    found = config is None and implicit
    if found and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    try:
        settings = load_settings(config)
        if (
            found
            and (resolve if beside is None else beside)
            and (running := settings_of_up(settings.data_dir, config)) is not None
        ):
            settings = load_settings(running)
        # A command's own output is its result; commands that serve configure more.
        log.configure(form=settings.log.format, level="warning")
        return resolve_running(settings) if resolve else settings
    except ConfigError as error:
        raise failure(error) from error


def failure(error: FerrymanError) -> CommandFailed:
    """The message and exit code with which an error of ours ends a command."""
    if isinstance(error, StoreDenied):
        message = (
            f"the store refused the credentials: {error}\n"
            "check store.access_key_id and store.secret_access_key (or the environment, profile or role), "
            "and what they may do in this bucket"
        )
        return CommandFailed(message, exit_code=EXIT_USAGE)
    if isinstance(error, BrokerUnavailable):
        return CommandFailed(
            f"Redis/Valkey does not answer: {error}\ncheck broker.url, or start `ferryman up`"
        )
    code = EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    return CommandFailed(printable(str(error)), exit_code=code)


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on uvloop; an error of our tree ends the command by `failure`."""
    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)
    except FerrymanError as error:
        raise failure(error) from error


def stop_event() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set, for commands that run until stopped. Needs a running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


def console() -> Console:
    """Where tables are printed: as wide as the terminal; without one wide enough that nothing is cut."""
    from rich.console import Console

    told = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if told else _PIPE_COLUMNS)


def say(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text whose keys and messages may come from strangers: nothing in it is obeyed by a terminal."""
    click.echo(printable(str(text)), err=err, nl=nl)


def echo_json(value: Any) -> None:
    """Print one JSON document, keys in order, with a line end."""
    click.echo(json_text(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


def guarded(command: Callable[..., T]) -> Callable[..., T]:
    """Decorator for commands without a coroutine: errors of our tree become messages and exit codes."""

    @functools.wraps(command)
    def inner(*args: Any, **kwargs: Any) -> T:
        try:
            return command(*args, **kwargs)
        except FerrymanError as error:
            raise failure(error) from error

    return inner
