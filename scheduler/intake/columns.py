"""Lines of text that name the columns of those behind them. PURE."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from scheduler.logs.formats import cloudfront, gcs, iis
from scheduler.logs.formats.detect import named_by

if TYPE_CHECKING:
    from scheduler.intake.records import Context

#: How such lines begin.
_HEADINGS = (iis.STANDARD.heading, gcs.USAGE.heading)


def behind(line: bytes, context: Context) -> Context:
    """The context of the lines behind this one: the columns are those that it names, if it names any.

    Raises:
        ConfigError: no miss can be found by those columns.
    """
    if not line.startswith(_HEADINGS):
        return context
    likely = gcs.USAGE if line.startswith(gcs.USAGE.heading) else cloudfront.STANDARD
    found = (context.format or named_by(line) or likely).headed(line)
    return context if found is None else replace(context, format=found)
