"""Which headers go on to the store, and which come back. Pure.

Owns the two lists. A client's signature, its framing and what proxies added end here; of the store's answer
the connection's own headers end, its request id stands beside ours, and Ferryman's own metadata is hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_to_bytes

from scheduler.front.http.object_headers import raw, sendable
from scheduler.front.s3.payload import CHECKSUM, BodyRefused
from workers.store.metadata import replay_headers
from workers.store.wire.answers import object_info

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scheduler.front.http.object_headers import RawHeaders

#: The store's request id in our answers; `x-amz-request-id` is ours.
STORE_REQUEST_ID: Final = b"x-ferryman-store-request-id"
#: Headers that are the client's with us, and not the request's.
_ENDS_HERE: Final = frozenset({
    "authorization", "connection", "content-length", "date", "expect", "forwarded", "host", "keep-alive",
    "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "via",
    "x-amz-content-sha256", "x-amz-date", "x-amz-decoded-content-length", "x-amz-security-token",
    "x-amz-trailer", "x-request-id", "x-real-ip",
})  # fmt: skip
_ENDS_HERE_BY_PREFIX: Final = ("x-forwarded-", "x-ferryman-")
#: What proxies between client and gateway add behind the signature; not passed on.
UNSIGNED_BY_PROXIES: Final = frozenset(
    {"x-amz-cf-id", "x-amz-user-agent", "x-amz-content-sha256", "x-amz-date"}
)
_NOT_BACK: Final = frozenset({
    "connection", "content-length", "date", "keep-alive", "server", "transfer-encoding", "x-amz-request-id",
    "x-amz-id-2",
})  # fmt: skip
#: What an S3 client sees is the store's own, as in its listings: the store judges the conditions.
_STORES: Final = frozenset({"etag", "last-modified"})
_OWN_META: Final = "x-amz-meta-ferryman-"
_TAG: Final = "x-amz-meta-x-oss-tag"


def for_store(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A client's headers as they go on; several of one name are joined.

    Raises:
        BodyRefused: 400 InvalidArgument: one is not UTF-8, and cannot be signed anew.
    """
    out: dict[str, str] = {}
    for name, value in headers:
        if name in _ENDS_HERE or name in UNSIGNED_BY_PROXIES or name.startswith(_ENDS_HERE_BY_PREFIX):
            continue
        if not value.isascii():
            try:
                value = value.encode("latin-1").decode("utf-8")  # noqa: PLW2901 -- as it was on the wire
            except UnicodeDecodeError as error:
                raise BodyRefused(400, "InvalidArgument", f"The header {name} is not UTF-8.") from error
        out[name] = f"{out[name]},{value}" if name in out else value
    return out


def without_chunks(headers: dict[str, str], trailers: Mapping[str, str]) -> None:
    """What a body that was `aws-chunked` and no longer is says of itself; `trailers` that were verified.

    Changed in place. A checksum that the client only sent behind the body becomes a header where it is known
    in time, else the store is not told of it.
    """
    codings = [part.strip() for part in headers.pop("content-encoding", "").split(",")]
    kept = [part for part in codings if part and part.lower() != "aws-chunked"]
    if kept:
        headers["content-encoding"] = ",".join(kept)
    headers |= {name: value for name, value in trailers.items() if name.startswith(CHECKSUM)}
    if not any(name.startswith(CHECKSUM) and name != f"{CHECKSUM}algorithm" for name in headers):
        headers.pop("x-amz-sdk-checksum-algorithm", None)


def for_client(headers: Iterable[tuple[str, str]], *, show_own: bool) -> RawHeaders:
    """The store's headers as they go back, without length and request id."""
    pairs = [(name.lower(), value) for name, value in headers]
    replayed: dict[str, str] = {}
    if not show_own and any(name.startswith(_OWN_META) for name, _ in pairs):
        # Mirrored by us: what stands in our metadata comes back as the headers it was. The validators stay
        # the store's, as in its listings, and as it judges conditions.
        replayed = {
            name.lower(): value
            for name, value in replay_headers(object_info("", pairs))
            if not name.lower().startswith(_OWN_META) and name.lower() not in _STORES
        }
        pairs = [
            (name, value)
            for name, value in pairs
            if not name.startswith(_OWN_META) and name != _TAG and name not in replayed
        ]
    out = [(name.encode("latin-1", "replace"), raw(value)) for name, value in pairs if name not in _NOT_BACK]
    out += [(name.encode("latin-1", "replace"), raw(value)) for name, value in replayed.items()]
    out += [(STORE_REQUEST_ID, raw(value)) for name, value in pairs if name == "x-amz-request-id"]
    return sendable(out)


def copy_source(value: str) -> tuple[str, str, str] | None:
    """(bucket, key, version) of `x-amz-copy-source`; None when it names no object."""
    path, _, query = value.partition("?")
    try:
        decoded = unquote_to_bytes(path.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        return None
    bucket, _, key = decoded.removeprefix("/").partition("/")
    version = ""
    if query:
        name, _, version = query.partition("=")
        if name != "versionId":
            return None
    return (bucket, key, version) if bucket and key else None


def spelled_source(bucket: str, key: str, version: str) -> str:
    """The same in the one spelling that every store reads alike."""
    path = f"/{quote(bucket, safe='')}/{quote(key, safe='/-._~')}"
    return f"{path}?versionId={version}" if version else path
