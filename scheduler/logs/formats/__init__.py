"""A line of a gateway's log as a record: one file a family of formats. PURE.

`catalog` lists them, `detect` tells them apart.
"""

__all__ = [
    "caddy",
    "catalog",
    "cdn_json",
    "cloudfront",
    "detect",
    "envelope",
    "envoy",
    "gcs",
    "generic_json",
    "iis",
    "object_path",
    "prefilter",
    "record",
    "rgw",
    "traefik",
    "values",
]
