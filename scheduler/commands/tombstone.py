"""`ferryman tombstone`: keys that were deleted at the store, and must not come back (SEMANTICS.md S15)."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from scheduler.commands.command_line import (
    config_option,
    echo_json,
    failure,
    json_option,
    load,
    run_async,
    say,
)
from scheduler.config.quantity import duration
from scheduler.misses.keys import checked_key
from scheduler.misses.refusals import Refused
from workers.errors import BrokerUnavailable, ConfigError
from workers.telemetry.log import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from scheduler.config.settings import Settings
    from workers.ledger.ledger import Ledger

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TTL = re.compile(r"(\d+)([smhd])")


@click.group()
def command() -> None:
    """Keep deleted keys deleted: a key with a tombstone is not pulled until it expires."""


@command.command()
@click.argument("bucket")
@click.argument("keys", nargs=-1, metavar="[KEY…]")
@click.option(
    "--from", "file", type=click.File("r", encoding="utf-8"), help="Keys from a file, one a line; `-`: stdin."
)
@click.option("--ttl", default="90d", show_default=True, metavar="TIME", help="Such as 12h or 90d.")
@click.option("--reason", default="operator", show_default=True, help="Said where the tombstone shows.")
@config_option
@json_option
def add(
    bucket: str, keys: tuple[str, ...], file: Any, ttl: str, reason: str, config: Path | None, as_json: bool
) -> None:
    """Do not pull these keys of BUCKET, whoever asks."""
    ttl_s = _seconds(ttl)
    settings = _known(load(config), bucket)
    wanted = _keys(keys, file)

    async def work(ledger: Ledger) -> None:
        for at in range(0, len(wanted), 1000):
            await ledger.claims.add_tombstones(bucket, wanted[at : at + 1000], ttl_s=ttl_s, reason=reason)

    _run(settings, work)
    if as_json:
        echo_json({"bucket": bucket, "added": len(wanted), "ttl_s": ttl_s})
    else:
        say(f"{len(wanted)} tombstone(s) in {bucket}, for {ttl}")


@command.command(name="list")
@click.argument("bucket")
@click.option("--limit", default=10_000, show_default=True, type=click.IntRange(min=1))
@config_option
@json_option
def list_(bucket: str, limit: int, config: Path | None, as_json: bool) -> None:
    """List the tombstones of BUCKET with the time they have left."""
    settings = _known(load(config), bucket)
    rows: list[tuple[str, str, float]] = []

    async def work(ledger: Ledger) -> None:
        rows.extend(await ledger.claims.tombstones(bucket, limit=limit))

    _run(settings, work)
    if as_json:
        echo_json([{"key": key, "reason": reason, "left_s": round(left, 3)} for key, reason, left in rows])
        return
    for key, reason, left in rows:
        say(f"{duration(left):>8}  {reason:<12} {one_line(key)}")
    say(f"{len(rows)} tombstone(s) in {bucket}", err=True)


@command.command()
@click.argument("bucket")
@click.argument("keys", nargs=-1, metavar="[KEY…]")
@click.option(
    "--from", "file", type=click.File("r", encoding="utf-8"), help="Keys from a file, one a line; `-`: stdin."
)
@config_option
@json_option
def remove(bucket: str, keys: tuple[str, ...], file: Any, config: Path | None, as_json: bool) -> None:
    """Allow pulls of these keys of BUCKET again."""
    settings = _known(load(config), bucket)
    wanted = _keys(keys, file)
    removed = 0

    async def work(ledger: Ledger) -> None:
        nonlocal removed
        for at in range(0, len(wanted), 1000):
            removed += await ledger.claims.remove_tombstones(bucket, wanted[at : at + 1000])

    _run(settings, work)
    if as_json:
        echo_json({"bucket": bucket, "removed": removed, "unknown": len(wanted) - removed})
    else:
        say(f"{removed} tombstone(s) removed from {bucket}")
    if removed < len(wanted):
        say(f"{len(wanted) - removed} key(s) had none", err=True)
        sys.exit(1)


@command.command()
@click.argument("bucket")
@config_option
@json_option
def prune(bucket: str, config: Path | None, as_json: bool) -> None:
    """Remove the tombstones of BUCKET whose keys no rule in force could bring back.

    For the time after a migration: a rule that is rolled back afterwards would bring such keys back.
    """
    from scheduler.rules.in_force.repository import RulesRepository
    from scheduler.rules.matching import names

    settings = _known(load(config), bucket)
    removed = left = 0

    async def work(ledger: Ledger) -> None:
        nonlocal removed, left
        rules = RulesRepository(ledger.redis, namespace=settings.broker.namespace)
        await rules.refresh()  # raises without Redis: rules that cannot be read are not rules that are gone
        ruleset = rules.snapshot(bucket)
        removed, left = await ledger.claims.prune_tombstones(
            bucket, keep=lambda key: ruleset is not None and names(ruleset, key.lstrip("/"))
        )

    _run(settings, work)
    if as_json:
        echo_json({"bucket": bucket, "removed": removed, "left": left})
    else:
        say(f"{removed} tombstone(s) removed from {bucket}, {left} left")


def _run(settings: Settings, work: Callable[[Ledger], Awaitable[None]]) -> None:
    from redis.exceptions import RedisError

    from workers.ledger.ledger import Ledger

    async def main() -> None:
        ledger = Ledger.open(settings.broker)
        try:
            await work(ledger)
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(str(error)) from error
        finally:
            await ledger.close()

    run_async(main())


def _known(settings: Settings, bucket: str) -> Settings:
    if bucket not in settings.buckets:
        known = ", ".join(sorted(settings.buckets)) or "none"
        raise failure(ConfigError(f"bucket {bucket!r} is not configured; known: {known}"))
    return settings


def _keys(given: Sequence[str], file: Any) -> list[str]:
    """Checked keys of the arguments and the file, in order.

    Raises:
        CommandFailed: there is none, or one is no key; says which.
    """
    wanted: list[str] = []
    rows = [("argument", at, key) for at, key in enumerate(given, start=1)]
    if file is not None:
        rows += [
            (file.name, at, line.rstrip("\r\n")) for at, line in enumerate(file, start=1) if line.strip()
        ]
    for place, at, text in rows:
        key = checked_key(text)
        if isinstance(key, Refused):
            raise failure(ConfigError(f"{place}:{at}: {key.reason}: {key.detail}"))
        wanted.append(key)
    if not wanted:
        raise failure(ConfigError("no key given; name some, or a file with --from"))
    return wanted


def _seconds(text: str) -> float:
    found = _TTL.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise failure(ConfigError(f"--ttl {text!r}: a number and s, m, h or d is expected, such as 90d"))
    return float(int(found[1]) * _UNITS[found[2]])
