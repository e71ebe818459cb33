"""How a number of shards is written on the command line."""

from __future__ import annotations

from typing import Any

import click


class _Shards(click.ParamType[Any]):
    """A number of shards, or `auto`."""

    name = "shards"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """What the options of a scan take."""
        if value == "auto" or isinstance(value, int):
            return str(value) if value == "auto" else int(value)
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"{value!r}: a number from 1 on, or auto", param, ctx)
        return int(value)


SHARDS = _Shards()
