"""The `ferryman` command: a group that imports a command's module only when that command is asked for.

Owns the list of commands. A command whose module is not there is not listed.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING

import click

from scheduler.examples import attach
from workers.collector import be_patient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

#: Name on the command line: module below `scheduler.commands` that holds the click command `command`, and its
#: line in `ferryman --help` (said here so that help imports no module).
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("up", "Run everything on this machine: front, workers, consumers, embedded store and broker."),
    "front": ("front", "Run the object gateway and the admin side."),
    "worker": ("worker", "Run worker processes that move objects."),
    "consume": ("consume", "Read misses from access logs."),
    "scan": ("scan", "Move what nobody asked for: start, status, pause, resume, cancel."),
    "verify": ("verify", "Compare what was moved with the origin."),
    "finalize": ("finalize", "Check the gate, write the report and retire a rule."),
    "rules": ("rules", "List, check, put and roll back rules."),
    "explain": ("explain", "Say which rule a request matches and what would be asked for."),
    "failures": ("failures", "List, show, export, retry or waive failures."),
    "tombstone": ("tombstone", "Keep deleted keys deleted."),
    "back": ("back", "Say whether one could go back to the origins now, and compare both sides."),
    "origins": ("origins", "Show the health and budgets of origins."),
    "status": ("status", "Show what the system is doing."),
    "report": ("report", "Write the report of a migration."),
    "doctor": ("doctor", "Check configuration, store, broker and origins."),
    "init": ("init", "Write a config.yaml to start from."),
    "completion": ("completion", "Print the completion script for bash, zsh or fish."),
    "demo": ("demo", "Show the whole way of an object on a sample origin."),
    "chaos-origin": ("chaos_origin", "Run a misbehaving origin for tests."),
}


class LazyGroup(click.Group):
    """A group whose commands are modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return [name for name in COMMANDS if _exists(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 -- as above
        if cmd_name not in COMMANDS or not _exists(cmd_name):
            return None
        module = importlib.import_module(_module(cmd_name))
        found: click.Command = module.command
        attach(cmd_name, found)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, which can only suggest commands that were imported."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx))
            if near and not args[0].startswith("-"):
                hint = f"{error.message} Did you mean {' or '.join(map(repr, near))}?"
                raise click.UsageError(hint, ctx) from error
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """As click's, without importing every command to complete the name of one."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=COMMANDS[name][1]) for name in names]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if rows := [(name, COMMANDS[name][1]) for name in self.list_commands(ctx)]:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _module(name: str) -> str:
    return f"scheduler.commands.{COMMANDS[name][0]}"


def _exists(name: str) -> bool:
    return importlib.util.find_spec(_module(name)) is not None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ferryman", prog_name="ferryman")
def cli() -> None:
    """Move a live site's objects into S3-compatible storage while they are being served."""


attach("", cli)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the console script; exits with 0 done, 1 something failed, 2 usage or configuration."""
    be_patient()
    from scheduler.commands.command_line import failure
    from workers.errors import FerrymanError

    try:
        cli.main(args=list(args) if args is not None else None, prog_name="ferryman")
    except FerrymanError as error:
        problem = failure(error)
        problem.show()
        sys.exit(problem.exit_code)


if __name__ == "__main__":
    main()
