"""Settings for our own child processes: resolved, with secrets, in a file that only the owner may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.data_dir import write_private
from workers.settings import reveal_json

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.settings import Settings


def write_run_settings(settings: Settings, name: str) -> Path:
    """Write `data_dir/run/<name>.json` (0600) and return its path; `load_settings` reads it back."""
    path = settings.data_dir.resolve() / "run" / f"{name}.json"
    write_private(path, reveal_json(settings))
    return path
