"""Varnish's NCSA log: combined, with the request in absolute form (`GET http://host/path`). PURE."""

from __future__ import annotations

from scheduler.logs.formats.apache import COMBINED_TEMPLATE, from_log_format

NCSA = from_log_format(COMBINED_TEMPLATE, name="varnish")
