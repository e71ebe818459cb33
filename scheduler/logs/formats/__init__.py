"""A line of a gateway's log as a record: one file a family of formats. PURE.

`catalog` lists them, `detect` tells them apart.
"""

__all__ = [
    "caddy",
    "catalog",
    "cdn_json",
    "detect",
    "envelope",
    "envoy",
    "generic_json",
    "object_path",
    "prefilter",
    "record",
    "rgw",
    "traefik",
    "values",
]
