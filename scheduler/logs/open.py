"""From settings and command line to a consumer.

Owns how `consume:` sections and options become inputs, and where the checkpoint lies. Makes no client.
"""

from __future__ import annotations

import hashlib
import re
import socket
from typing import TYPE_CHECKING, Literal

from scheduler.logs.consumer import InputSpec
from scheduler.logs.filters import make_filter
from scheduler.logs.formats.catalog import format_by_name
from scheduler.logs.place import Place
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scheduler.config.settings import ConsumeSettings, Settings

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,63}")


def input_specs(
    settings: Settings,
    wanted: Sequence[ConsumeSettings],
    *,
    begin: Literal["start", "end"] | None = None,
    once: bool = False,
) -> list[InputSpec]:
    """The inputs of a consumer.

    `begin` overrides checkpoints and `start:`. A file without checkpoint begins where `start:` says; where it
    says nothing, at its start when read `once`, else at its end.

    Raises:
        ConfigError: what is wrong, with the path it is wrong for.
    """
    buckets = {name: bucket.hosts for name, bucket in settings.buckets.items()}
    specs: list[InputSpec] = []
    for one in wanted:
        if one.bucket is not None and settings.buckets and one.bucket not in settings.buckets:
            raise ConfigError(
                f"consume {one.path}: bucket {one.bucket!r} is not configured; "
                f"known: {', '.join(sorted(settings.buckets))}"
            )
        try:
            specs.append(
                InputSpec(
                    path=one.path,
                    format=format_by_name(one.format, fields=one.fields or None),
                    filter=make_filter(
                        Place.of(buckets, bucket=one.bucket, hosts=one.hosts, strip_prefix=one.strip_prefix),
                        statuses=one.statuses,
                        methods=one.methods,
                        include=one.include,
                        exclude=one.exclude,
                        bots=one.bots,
                    ),
                    resume=begin is None,
                    fresh=begin or _fresh(one.start, once=once),
                )
            )
        except ConfigError as error:
            raise ConfigError(f"consume {one.path}: {error}") from error
    return specs


def _fresh(start: str, *, once: bool) -> Literal["start", "end"]:
    if start == "checkpoint":
        return "start" if once else "end"
    return "start" if start == "start" else "end"


def checkpoint_path(data_dir: Path, name: str) -> Path:
    """Where the consumer of this name keeps its checkpoint.

    Raises:
        ConfigError: the name could not be a file's.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigError(f"consumer name {name!r}: 1 to 63 of letters, digits, dot, hyphen, underscore")
    return data_dir / "consume" / f"{name}.json"


def default_name(specs: Sequence[InputSpec]) -> str:
    """A name that stays the same for the same logs, so that a restart finds its checkpoint."""
    paths = "\0".join(sorted(spec.path for spec in specs))
    return f"logs-{hashlib.blake2b(paths.encode(), digest_size=4).hexdigest()}"


def instance_name(name: str) -> str:
    """Identity in the ledger: this machine's consumer of these logs, whatever its process is."""
    return f"{socket.gethostname()}.{name}"
