"""For commands that come and go: use the rules in force, and say when the file at hand has others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from scheduler.runtime import Services


async def note_other_rules(services: Services, bucket: str) -> None:
    """Tell on stderr how the rules of the configuration read here differ from those in force, if they do.

    Raises:
        DocumentError: a rule of the configuration is wrong.
    """
    from scheduler.machine.startup import difference_to_file

    if difference := await difference_to_file(services.rules, services.settings, bucket):
        click.echo(
            f"note: {difference}. Those in force are used; `ferryman rules apply` puts these in force.",
            err=True,
        )
