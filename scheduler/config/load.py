"""Reading config.yaml and the environment.

Owns the order of sources: built-in defaults, the file, then `FERRYMAN_SECTION__KEY` from the environment.
Unknown keys are refused with the nearest known one. Every problem names the file and line, or the variable,
and the dotted path. Makes no client and opens no socket.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from scheduler.config.problems import describe, named_twice
from scheduler.config.settings import Settings
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Environment variables with our prefix that are no settings.
_RESERVED = {
    "FERRYMAN_CONFIG",
    "FERRYMAN_WORKER_SETTINGS",
    "FERRYMAN_REQUIRE_REAL",
    "FERRYMAN_LANE",
    "FERRYMAN_ROLE",
}
_PREFIX = "FERRYMAN_"


def load_settings(path: Path | None = None, *, env: Mapping[str, str] | None = None) -> Settings:
    """Read config.yaml (None: defaults only) and the environment.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, or a value is wrong; all problems at
            once, each with place, what was found and what is allowed.
    """
    env = os.environ if env is None else env
    document: yaml.Node | None = None
    raw: Any = {}
    if path is not None:
        text = _read(path)
        try:
            document = yaml.compose(text, Loader=yaml.SafeLoader)
            raw = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(_not_yaml(path, error)) from error
        if raw is None:
            raw = {}
        if not isinstance(raw, dict):
            msg = f"{path}:1: a mapping of sections is expected, found {type(raw).__name__}"
            raise ConfigError(msg)
        if twice := list(named_twice(document)):
            raise ConfigError(
                "\n".join(f"{path}:{line}: {dotted}: named a second time" for line, dotted in twice)
            )
    origins = _overlay(raw, env)
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        lines = [
            describe(detail, Settings, path=path, document=document, origins=origins)
            for detail in error.errors(include_url=False)[:20]
        ]
        raise ConfigError("\n".join(lines)) from error


def _not_yaml(path: Path, error: yaml.YAMLError) -> str:
    """One line with the place, where the parser knows it."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"{path}: not YAML: {error}"
    parts = [getattr(error, "problem", None), getattr(error, "context", None)]
    said = ", ".join(part for part in parts if part)
    return f"{path}:{mark.line + 1}:{mark.column + 1}: not YAML: {said}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        msg = f"{path}: no such file; `ferryman init` writes one, and `ferryman up --origin URL` needs none"
        raise ConfigError(msg) from error
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: {'not UTF-8' if isinstance(error, UnicodeDecodeError) else error.strerror}"
        raise ConfigError(msg) from error


def _overlay(raw: dict[str, Any], env: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Write FERRYMAN_A__B=value into raw["a"]["b"]; return which variable set which path."""
    origins: dict[tuple[str, ...], str] = {}
    for name in sorted(env):
        if not name.startswith(_PREFIX) or name in _RESERVED:
            continue
        parts = tuple(part.lower() for part in name.removeprefix(_PREFIX).split("__"))
        target = raw
        for part in parts[:-1]:
            below = target.get(part)
            if not isinstance(below, dict):
                below = {}
                target[part] = below
            target = below
        value: Any = env[name]
        if value.lstrip()[:1] in {"[", "{"}:
            try:
                value = yaml.safe_load(value)
            except yaml.YAMLError as error:
                msg = f"{name}: not YAML: {error}"
                raise ConfigError(msg) from error
        target[parts[-1]] = value
        origins[parts] = name
    return origins
