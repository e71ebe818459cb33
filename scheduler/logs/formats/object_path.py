"""Path style or virtual host: which part of a store's logged request path is the key. PURE."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes


def object_path(bucket: str, path: bytes, *, host: str, key_field: bytes) -> bytes:
    """The key, still percent-encoded, of a request path in a store's own log.

    The host decides where it names the bucket. Else the log's own key field does, which some stores encode
    once and some twice: it is only compared, never taken for the key.
    """
    bare = path[1:] if path.startswith(b"/") else path
    if host.startswith(bucket.lower() + "."):
        return bare
    prefix = bucket.encode() + b"/"
    if not bare.startswith(prefix):
        return bare
    styled = bare[len(prefix) :]
    once = unquote_to_bytes(key_field)
    if unquote_to_bytes(bare) in {key_field, once, unquote_to_bytes(once)}:
        return bare
    return styled


def encoded_key(key_field: bytes) -> bytes:
    """A key field on its own (no request path beside it), as a percent-encoded path.

    Stores encode what users control a second time on the way into the log, so two layers mean two encodings.
    """
    once = unquote_to_bytes(key_field)
    return once if unquote_to_bytes(once) != once else key_field
