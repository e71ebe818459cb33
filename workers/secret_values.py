"""Secrets of the configuration: given directly, or as a file that holds nothing else.

Owns the reading of both. Shows neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import SecretStr


def reveal(value: SecretStr | None, file: Path | None, *, name: str = "") -> str | None:
    """The secret, None when there is none; trailing line ends of a file are cut. `name` is the setting's.

    Raises:
        ConfigError: the file cannot be read.
    """
    if value is not None:
        return value.get_secret_value()
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        place = f"{name}: " if name else ""
        raise ConfigError(f"{place}cannot read the secret file {file}: {reason}") from error
