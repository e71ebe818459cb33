"""Settings for our own child processes: resolved, with secrets, in a file that only the owner may read.

Commands beside a running `ferryman up` read that file, too, when it was started without a configuration file
or they have none themselves: they mean the same installation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.config.data_dir import holder, write_private
from workers.settings import reveal_json

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.config.settings import Settings


def write_run_settings(settings: Settings, name: str) -> Path:
    """Write `data_dir/run/<name>.json` (0600) and return its path; `load_settings` reads it back."""
    path = settings.data_dir.resolve() / "run" / f"{name}.json"
    write_private(path, reveal_json(settings))
    return path


#: Name of the settings that the parts of `ferryman up` run with.
UP = "up"


def note_source(settings: Settings, config: Path | None) -> None:
    """Remember which configuration file (None: none) `ferryman up` was started with."""
    write_private(_source(settings.data_dir), "" if config is None else str(config.absolute()))


def settings_of_up(data_dir: Path, config: Path | None) -> Path | None:
    """The settings file of the `ferryman up` that runs in this data_dir, if a command should read it.

    That is when the command has no file of its own, or only one that stands here (`config`) and that an `up`
    without a file does not use.
    """
    path = data_dir.resolve() / "run" / f"{UP}.json"
    source = _source(data_dir)
    if holder(data_dir) is None or not path.is_file() or not source.is_file():
        return None
    used = source.read_text()
    return path if config is None or used == "" else None


def _source(data_dir: Path) -> Path:
    return data_dir.resolve() / "run" / f"{UP}.config"
