"""The plain fields of the long form: which key of which section is which attribute, of what type.

Owns the table that reading and writing share (SEMANTICS.md section 1.2, names of YAML and JSON).
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["bool", "int", "float", "text", "texts", "codes"]

#: Plain fields: section → (key of the document, attribute, kind or allowed words).
PLAIN: dict[str, tuple[tuple[str, str, Kind | tuple[str, ...]], ...]] = {
    "when": (
        ("prefix", "prefix", "text"),
        ("suffix", "suffix", "text"),
        ("hosts_allow", "hosts_allow", "texts"),
        ("hosts_deny", "hosts_deny", "texts"),
    ),
    "request": (
        ("protocol", "protocol", ("http", "https", "follow")),
        ("follow_query", "follow_query", "bool"),
        ("pass_all", "pass_all", "bool"),
        ("pass", "pass_", "texts"),
        ("forbid", "forbid", "texts"),
        ("follow_redirects", "follow_redirects", "bool"),
        ("redirect_headers", "redirect_headers", "bool"),
        ("redirect_decode", "redirect_decode", "bool"),
        ("allow_downgrade", "allow_downgrade", "bool"),
        ("sni", "sni", "bool"),
        ("probe_url", "probe_url", "text"),
        ("follow_fallback", "follow_fallback", ("http", "https")),
    ),
    "path": (
        ("fixed", "fixed", "text"),
        ("add_prefix", "add_prefix", "text"),
        ("add_suffix", "add_suffix", "text"),
        ("template", "template", "text"),
        ("pass_original_slashes", "pass_original_slashes", "bool"),
    ),
    "origin": (
        ("switch_codes", "switch_codes", "codes"),
        ("switch_all", "switch_all", "bool"),
        ("async_status", "async_status", "int"),
        ("across_groups", "across_groups", "bool"),
        ("max_attempts", "max_attempts", "int"),
        ("trust_etag_md5", "trust_etag_md5", "bool"),
        ("write_back", "write_back", ("off", "async", "sync")),
    ),
    "answer": (
        ("redirect_code", "redirect_code", "int"),
        ("proxy_reply", "proxy_reply", ("redirect", "not_found", "retry")),
        ("allow_head", "allow_head", "bool"),
        ("absent_ttl_s", "absent_ttl_s", "float"),
    ),
    "store": (
        ("save", "save", "bool"),
        ("check_md5", "check_md5", ("off", "stream", "spool")),
        ("user_meta", "user_meta", "bool"),
        ("last_modified", "last_modified", "bool"),
        ("etag", "etag", ("origin", "store")),
        ("private", "private", "bool"),
        ("tag", "tag", ("encoded", "decoded", "plain", "off")),
        ("accept_close_delimited", "accept_close_delimited", "bool"),
        ("max_object_bytes", "max_object_bytes", "int"),
        ("soft_404", "soft_404", ("off", "learn")),
    ),
}
#: F52: key of the document → attribute.
TIMEOUTS = {"connect": "connect_s", "first_byte": "first_byte_s", "idle": "idle_s", "total": "total_s"}
