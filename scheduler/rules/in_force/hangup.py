"""SIGHUP: the configuration file is read again, and its rules are put in force.

Owns the signal while it is asked for. Only rules and new buckets are taken over; every other change of the
file needs a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

import structlog

from scheduler.rules.in_force.apply import apply_file_rules
from workers.background import end
from workers.errors import FerrymanError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from scheduler.config.settings import Settings
    from scheduler.rules.in_force.repository import RulesRepository

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def applying_on_hangup(
    repository: RulesRepository, read_settings: Callable[[], Settings]
) -> AsyncIterator[None]:
    """While the block runs, SIGHUP applies the rules of the file anew.

    A file that cannot be read, or is wrong, is logged with all its problems and changes nothing. Signals that
    come while one is worked on become one more round.
    """
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    task = asyncio.create_task(_apply_when_asked(asked, repository, read_settings), name="rules-hangup")
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        await end(task)


async def _apply_when_asked(
    asked: asyncio.Event, repository: RulesRepository, read_settings: Callable[[], Settings]
) -> None:
    while True:
        await asked.wait()
        asked.clear()
        try:
            settings = read_settings()
            await apply_file_rules(repository, settings, who="file", how="SIGHUP")
        except FerrymanError as error:
            log.error("file_rules_refused", problems=str(error).splitlines())  # noqa: TRY400 - it says it all
