"""Which token opens the admin side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.config.data_dir import admin_token
from workers.secret_values import reveal

if TYPE_CHECKING:
    from scheduler.config.settings import Settings


def token_of(settings: Settings) -> str:
    """The admin token: configured, or generated on first start and kept in data_dir.

    Raises:
        ConfigError: its file cannot be read.
    """
    configured = reveal(settings.admin.token, settings.admin.token_file)
    return configured or admin_token(settings.data_dir)


def viewer_token_of(settings: Settings) -> str | None:
    """The token of those who only look; None when the configuration gives none.

    Raises:
        ConfigError: its file cannot be read.
    """
    return reveal(settings.admin.viewer_token, settings.admin.viewer_token_file)
