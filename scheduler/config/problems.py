"""What is wrong with a configuration, in words: where it stands, what was found, what is allowed.

Owns places in YAML documents and the hints for unknown keys. Shows no secret. Knows no section by name.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails


def describe(
    detail: ErrorDetails,
    settings: type[BaseModel],
    *,
    path: Path | None,
    document: yaml.Node | None,
    origins: Mapping[tuple[str, ...], str],
) -> str:
    """One line for one problem: its place, the dotted path, what was found and what is allowed.

    Args:
        detail: as pydantic tells it.
        settings: the model that was validated.
        path: the file, if there is one, and its nodes.
        document: see `path`.
        origins: which environment variable set which path.
    """
    loc = tuple(str(part) for part in detail["loc"])
    dotted = ".".join(loc) or "(document)"
    variable = next(
        (name for parts, name in origins.items() if parts[: len(loc)] == loc or loc[: len(parts)] == parts),
        None,
    )
    if variable is not None:
        place = f"environment variable {variable}"
    elif path is not None:
        place = f"{path}:{_line(document, loc)}"
    else:
        place = "settings"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        known = _known_keys(settings, loc[:-1])
        near = difflib.get_close_matches(loc[-1], known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
        message = f"unknown key{hint}"
    elif isinstance(detail.get("input"), (str, int, float, bool)) and not _is_secret(dotted, detail["input"]):
        message = f"{message}, found {detail['input']!r}"
    return f"{place}: {dotted}: {message}"


def _is_secret(dotted: str, found: Any) -> bool:
    """Whether a value must not be shown: a secret by its name, or a URL with a password in it."""
    named = any(word in dotted for word in ("secret", "token", "password"))
    return named or (isinstance(found, str) and "@" in found)


def _known_keys(settings: type[BaseModel], loc: Sequence[str]) -> list[str]:
    """Field names of the section at `loc`, looking through dicts and lists."""
    model = settings
    for part in loc:
        field = model.model_fields.get(part)
        if field is None:
            continue  # a name in a dict, or an index in a list
        found = _section_in(field.annotation)
        if found is not None:
            model = found
    return list(model.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _section_in(argument)
        if found is not None:
            return found
    return None


def named_twice(node: yaml.Node | None, dotted: str = "") -> Iterator[tuple[int, str]]:
    """(line, path) of every key that its mapping has already: YAML would drop the first without a word."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            below = f"{dotted}.{key.value}".removeprefix(".")
            if key.value in seen:
                yield key.start_mark.line + 1, below
            seen.add(key.value)
            yield from named_twice(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from named_twice(value, f"{dotted}.{index}")


def _line(document: yaml.Node | None, loc: Sequence[str]) -> int:
    """Line (from 1) of the deepest node on the way to `loc`."""
    line = 1
    node = document
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    line, node = key.start_mark.line + 1, value
                    break
            else:
                return line
        elif isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            return line
    return line
