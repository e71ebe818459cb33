"""The formats by name, and the one an operator means. PURE."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from scheduler.logs.formats import (
    alb,
    apache,
    caddy,
    cdn_json,
    cdn_offline,
    cloudfront,
    cos,
    envoy,
    gcs,
    generic_json,
    haproxy,
    iis,
    nginx,
    oss,
    rgw,
    s3_access,
    squid,
    traefik,
    varnish,
)
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.logs.formats.record import LineFormat

AUTO = "auto"

#: Name to format. The order is the order in which they are tried on equal merit: the stricter first.
FORMATS: dict[str, LineFormat] = {
    one.name: one
    for one in (
        cloudfront.STANDARD, iis.STANDARD, alb.ALB, alb.CLASSIC, cdn_offline.ALIBABA, cdn_offline.TENCENT,
        cdn_offline.HUAWEI, cdn_offline.BUNNY, gcs.USAGE, s3_access.S3, oss.OSS, cos.COS, squid.NATIVE,
        traefik.COMMON, envoy.DEFAULT, haproxy.HTTP, varnish.NCSA, nginx.COMBINED, apache.COMBINED,
        apache.COMMON, caddy.JSON, traefik.JSON, rgw.OPS_LOG, cdn_json.FASTLY, cdn_json.CLOUDFRONT,
        cdn_json.CLOUDFLARE, cdn_json.GOOGLE, cdn_json.AZURE, cdn_json.AKAMAI, envoy.JSON,
        generic_json.DEFAULT,
    )
}  # fmt: skip
_ALIASES = {
    "combined": "nginx", "nginx-combined": "nginx", "apache-combined": "apache", "common": "apache-common",
    "clf": "apache-common", "traefik-common": "traefik", "caddy-json": "caddy", "ncsa": "varnish",
    "aws-s3": "s3", "generic-json": "json", "ceph-rgw": "rgw", "rgw-ops-log": "rgw", "aws-alb": "alb",
    "aliyun-cdn": "alibaba-cdn", "w3c": "iis", "aws-elb": "elb", "cloudflare-logpush": "cloudflare",
    "gcp": "google-cloud", "azure-front-door": "azure", "akamai-datastream": "akamai",
}  # fmt: skip


def format_by_name(text: str, *, fields: Mapping[str, str] | None = None) -> LineFormat | None:
    """The format an operator asks for: a name, a pasted template, or `auto` (None).

    `fields` is the field map of `json`.

    Raises:
        ConfigError: no such name, or a template that cannot find misses.
    """
    name = _ALIASES.get(text, text)
    if fields:
        if name not in {"json", AUTO}:
            raise ConfigError(f"log format {text!r} takes no field map; only `json` does")
        return generic_json.from_field_map(fields)
    if name == AUTO:
        return None
    if name in FORMATS:
        return FORMATS[name]
    if nginx.looks_like_log_format(text):
        return nginx.from_log_format(text)
    if apache.looks_like_log_format(text):
        return apache.from_log_format(text)
    known = [AUTO, *FORMATS]
    near = get_close_matches(text, [*known, *_ALIASES], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        f"unknown log format {text!r}{hint}; known: {', '.join(known)}, "
        "or a log_format/LogFormat pasted as it is"
    )
