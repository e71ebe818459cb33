"""Files of a configuration that hold secrets or certificates: which they are, and whether they can be read.

Owns finding them, wherever in the settings they are. A process that serves looks before it starts anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


def secret_files(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, Path]]:
    """Every `*_file` that is set, with its dotted path."""
    for name in type(section).model_fields:
        value: Any = getattr(section, name)
        path = f"{prefix}{name}"
        if name.endswith("_file") and isinstance(value, Path):
            yield path, value
        elif isinstance(value, BaseModel):
            yield from secret_files(value, f"{path}.")
        elif isinstance(value, dict):
            for key, inner in value.items():
                if isinstance(inner, BaseModel):
                    yield from secret_files(inner, f"{path}.{key}.")
        elif isinstance(value, tuple):
            for index, inner in enumerate(value):
                if isinstance(inner, BaseModel):
                    yield from secret_files(inner, f"{path}[{index}].")


def require(settings: BaseModel) -> None:
    """Read each of them once.

    Raises:
        ConfigError: some cannot be read; all of them, one a line.
    """
    problems = []
    for path, file in secret_files(settings):
        try:
            with file.open("rb") as opened:
                opened.read(1)
        except OSError as error:
            problems.append(f"{path}: cannot read {file}: {error.strerror}")
    if problems:
        raise ConfigError("\n".join(problems))
