"""What is written beside the body, and what of it is replayed to clients (SEMANTICS.md S3 to S10, S16).

Owns the names of our user metadata and every transformation of a header on its way in and out. Pure.

Header values are text that may carry raw bytes as lone surrogates (`surrogateescape`), as aiohttp gives them;
`value.encode("utf-8", "surrogateescape")` are the bytes on the wire.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import replace
from hashlib import sha256 as _sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from workers.http.dates import http_date
from workers.store.model import ObjectMeta

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    from workers.plan import FetchPlan
    from workers.store.model import ObjectInfo

#: All user metadata together, in bytes (S10); names are counted with `x-amz-meta-`, as the strictest stores
#: do.
MAX_USER_META_BYTES: Final = 2048
#: Of the origin's own user metadata, what is looked at (L13).
MAX_ORIGIN_META_BYTES: Final = 8192
#: One native header; S3 takes 8 KiB for all headers of a PUT.
_MAX_NATIVE_BYTES: Final = 2048
#: One value of our provenance.
_MAX_OWN_BYTES: Final = 512

VERSION: Final = "ferryman-v"
ATTEMPT: Final = "ferryman-attempt"
KEY_SHA256: Final = "ferryman-key-sha256"
RULE: Final = "ferryman-rule"
SOURCE_ETAG: Final = "ferryman-source-etag"
SOURCE_LAST_MODIFIED: Final = "ferryman-source-last-modified"
FETCHED_AT: Final = "ferryman-fetched-at"
SHA256: Final = "ferryman-sha256"
EXPIRES: Final = "ferryman-expires"
ACAO: Final = "ferryman-acao"
META_CUT: Final = "ferryman-meta-cut"
#: Present when later downloads shall carry the origin's `Last-Modified` (F45), and its `ETag` (F62).
LAST_MODIFIED: Final = "ferryman-last-modified"
ETAG: Final = "ferryman-etag"
#: Present when the origin sent no `Content-Type`: stores make one up.
NO_TYPE: Final = "ferryman-no-content-type"
TAG: Final = "x-oss-tag"

#: Headers of the origin that are kept, by the native header (S3) or the metadata of ours that they become.
_KEPT: Final = {
    "content-type": "Content-Type",
    "content-encoding": "Content-Encoding",
    "content-disposition": "Content-Disposition",
    "cache-control": "Cache-Control",
    "content-language": "Content-Language",
    "expires": "Expires",
    "access-control-allow-origin": ACAO,
    "etag": SOURCE_ETAG,
    "last-modified": SOURCE_LAST_MODIFIED,
}
_OWN: Final = frozenset({ACAO, SOURCE_ETAG, SOURCE_LAST_MODIFIED})
#: Of these, the ones that are lists when repeated; of the others the first counts.
_LISTS: Final = frozenset({"content-encoding", "cache-control", "content-language"})
_META_PREFIXES: Final = ("x-amz-meta-", "x-oss-meta-", "x-cos-meta-")
#: Survive the second step of S10.
_CORE: Final = frozenset({VERSION, ATTEMPT, KEY_SHA256, SOURCE_ETAG})
#: Last to go: without them an answer would differ from the origin's.
_REPLAYED: Final = frozenset({EXPIRES, ACAO, LAST_MODIFIED, ETAG, NO_TYPE})

#: Names as origins spell them, met before, of which nothing is kept; so many at most.
_DULL: Final[set[str]] = set()
_MOST_DULL: Final = 1000

_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")
_IMF_DATE: Final = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} "
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)
_ENCODED_WORD: Final = re.compile(r"=\?([A-Za-z0-9_-]+)\?([bBqQ])\?([^?]*)\?=")
_PREFIX_BYTES: Final = len("x-amz-meta-")
#: Room kept for `ferryman-sha256`, which is known only after the body.
_SHA256_BYTES: Final = _PREFIX_BYTES + len(SHA256) + 64

#: URLs in which the tag escapes nothing but these three.
_PLAIN_URL: Final = re.compile(r"[A-Za-z0-9._~%:/-]*")
#: Escapes in lower-case hex, as the vendor's own example has them (S7).
_TAG_BYTES: Final = tuple(
    chr(byte)
    if chr(byte) in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    else f"%{byte:02x}"
    for byte in range(256)
)


# ---------------------------------------------------------------------- values


def content_encoding(value: str) -> str:
    """A `Content-Encoding` without `aws-chunked`: the framing of an upload, and no coding of a body."""
    if "aws-chunked" not in value.lower():
        return value
    codings = (coding.strip() for coding in value.split(","))
    return ", ".join(coding for coding in codings if coding and coding.lower() != "aws-chunked")


def encode_value(value: str) -> str:
    """A header value that every store takes: printable ASCII as it is, all else as an RFC 2047 word (S16).

    A value that looks like such a word already is encoded too, so that decoding gives back what was encoded.
    """
    if value.isascii() and value.isprintable() and "=?" not in value:
        return value
    raw = value.encode("utf-8", "surrogateescape")
    try:
        raw.decode("utf-8")
        charset = "UTF-8"
    except UnicodeDecodeError:
        charset = "ISO-8859-1"
    return f"=?{charset}?B?{base64.b64encode(raw).decode()}?="


def decode_value(value: str) -> str:
    """The inverse of `encode_value`; a store may have re-encoded it as Q or in several words.

    Raw bytes that are not UTF-8 come back as lone surrogates.
    """
    if "=?" not in value:
        return value
    out: list[str] = []
    at = 0
    for word in _ENCODED_WORD.finditer(value):
        between = value[at : word.start()]
        if between.strip(" ") or at == 0:
            out.append(between)
        try:
            out.append(_word_bytes(word[2], word[3]).decode("utf-8", "surrogateescape"))
        except (binascii.Error, ValueError):
            out.append(word[0])
        at = word.end()
    out.append(value[at:])
    return "".join(out)


def _word_bytes(kind: str, text: str) -> bytes:
    if kind in "bB":
        return base64.b64decode(text, validate=True)
    return unquote_to_bytes(text.replace("_", " ").replace("%", "%25").replace("=", "%"))


def _is_http_date(value: str) -> bool:
    """Whether every store takes it as a date: the older forms of RFC 9110, 5.6.7 are refused by some."""
    return _IMF_DATE.fullmatch(value) is not None and http_date(value) is not None


def tag_value(url: str, form: Literal["encoded", "decoded", "plain", "off"]) -> str | None:
    """The value of `x-oss-tag` for the first URL asked (S7, S8); None for `off`."""
    if form == "off":
        return None
    if form == "plain":
        return "MIRROR"
    if form == "decoded":
        decoded = unquote_to_bytes(url).decode("utf-8", "surrogateescape")
        if decoded.isascii() and decoded.isprintable():
            return f"MIRROR {decoded}"
    if _PLAIN_URL.fullmatch(url):
        return "MIRROR " + url.replace("%", "%25").replace(":", "%3a").replace("/", "%2f")
    return "MIRROR " + "".join([_TAG_BYTES[byte] for byte in url.encode("utf-8", "surrogateescape")])


# ---------------------------------------------------------------------- in


def object_meta(
    response_headers: Iterable[tuple[str, str]],
    plan: FetchPlan,
    *,
    key: str,
    url: str,
    attempt: str,
    fetched_at: str,
    sha256: str | None = None,
) -> ObjectMeta:
    """Everything to be written beside the body of one origin answer (S3 to S10, S16). Never raises.

    Args:
        response_headers: of the final answer, as on the wire.
        plan: says which metadata and tags the rule wants.
        key: object name.
        url: first URL asked on the host that answered, before redirects.
        attempt: id of this very attempt.
        fetched_at: time of the fetch, ISO 8601 in UTC.
        sha256: lower-case hex when the body is known already; else the upload adds it where it can.
    """
    policy = plan.store
    native: dict[str, str] = {}
    own: dict[str, str] = {}
    origin: dict[str, str] = {}
    cut: list[str] = []
    seen = 0
    for name, value in response_headers:
        if name in _DULL:
            continue
        lower = name.lower()
        kept = _KEPT.get(lower)
        if kept is None:
            if len(_DULL) < _MOST_DULL and not lower.startswith(_META_PREFIXES):
                _DULL.add(name)
            elif policy.user_meta and lower.startswith(_META_PREFIXES):
                seen += len(lower) + len(value)
                short = lower[_PREFIX_BYTES:]
                forged = short == TAG or short.startswith("ferryman-")
                if forged or seen > MAX_ORIGIN_META_BYTES or not _NAME.fullmatch(short):
                    cut.append(short)
                else:
                    origin.setdefault(short, value)
        elif kept in _OWN:
            own.setdefault(kept, value)
        elif kept == "Expires" and not _is_http_date(value):
            own.setdefault(EXPIRES, value)
        elif lower == "content-encoding" and not (value := content_encoding(value)):
            continue
        elif kept not in native:
            native[kept] = value
        elif lower in _LISTS:
            native[kept] = f"{native[kept]}, {value}"
    if policy.last_modified and SOURCE_LAST_MODIFIED in own:
        own[LAST_MODIFIED] = own[SOURCE_LAST_MODIFIED]
    if policy.etag == "origin" and SOURCE_ETAG in own:
        own[ETAG] = own[SOURCE_ETAG]
    if not native.get("Content-Type", "").strip():
        native.pop("Content-Type", None)
        own[NO_TYPE] = "1"
    headers: list[tuple[str, str]] = []
    for name, value in native.items():
        encoded = encode_value(value)
        if len(encoded) <= _MAX_NATIVE_BYTES:
            headers.append((name, encoded))
        else:
            cut.append(name.lower())
    # What is written by ourselves is printable ASCII; only the origin's values need a look.
    meta = {
        VERSION: "1",
        ATTEMPT: attempt,
        KEY_SHA256: _sha256(key.encode("utf-8", "surrogateescape")).hexdigest(),
        RULE: plan.rule,
        FETCHED_AT: fetched_at,
    }
    if _all_plain(own):
        meta |= own
    else:
        for name, value in own.items():
            meta[name] = encode_value(value)
    if sha256:
        meta[SHA256] = sha256
    tag = tag_value(url, policy.tag)
    if tag is not None:
        meta[TAG] = tag
    theirs = {name: encode_value(value) for name, value in origin.items()} if origin else origin
    meta, theirs = _within_limit(meta, theirs, cut)
    return ObjectMeta(
        headers=tuple(headers),
        user_meta=(*meta.items(), *theirs.items()),
        tags=policy.tags,
        cut=tuple(cut),
        digest_fits=SHA256 not in meta and RULE in meta,
    )


def _all_plain(values: dict[str, str]) -> bool:
    """Whether `encode_value` would change none of them: one look at all."""
    text = "".join(values.values())
    return text.isascii() and text.isprintable() and "=?" not in text


def _bytes(meta: dict[str, str]) -> int:
    """User metadata as a strict store counts it; everything in it is ASCII by now."""
    if not meta:
        return 0
    return _PREFIX_BYTES * len(meta) + len("".join(meta)) + len("".join(meta.values()))


def _within_limit(
    own: dict[str, str],
    origin: dict[str, str],
    cut: list[str],
) -> tuple[dict[str, str], dict[str, str]]:
    """S10, step by step; what goes is appended to `cut` and named in the metadata itself."""
    room = MAX_USER_META_BYTES - (0 if SHA256 in own else _SHA256_BYTES)
    if not cut and _bytes(own) + _bytes(origin) <= room:
        return own, origin

    for name in [name for name, value in own.items() if len(value) > _MAX_OWN_BYTES and name != TAG]:
        del own[name]
        cut.append(name)

    def over() -> bool:
        notice = _cut_notice(cut)
        extra = _PREFIX_BYTES + len(META_CUT) + len(notice) if notice else 0
        return _bytes(own) + _bytes(origin) + extra > room

    if over() and own.get(TAG, "MIRROR") != "MIRROR":
        own[TAG] = "MIRROR"
        cut.append(TAG)
    if over():
        for name in [name for name in own if name not in _CORE and name != TAG and name not in _REPLAYED]:
            del own[name]
            cut.append(name)
        room = MAX_USER_META_BYTES
    for name in sorted(origin):
        if not over():
            break
        del origin[name]
        cut.append(name)
    for name in [name for name in own if name in _REPLAYED]:
        if not over():
            break
        del own[name]
        cut.append(name)
    if cut:
        own[META_CUT] = _cut_notice(cut)
    return own, origin


def _cut_notice(cut: list[str]) -> str:
    """The names that were dropped, at most 256 bytes of them."""
    notice = ""
    for count, name in enumerate(cut):
        shown = name if _NAME.fullmatch(name) else "?"
        if len(notice) + len(shown) > 240:
            return f"{notice},+{len(cut) - count}"
        notice = f"{notice},{shown}" if notice else shown
    return notice


def minimal(meta: ObjectMeta) -> ObjectMeta:
    """What is left when a store refuses what S3 takes: native headers, tag and core provenance."""
    kept = tuple((name, value) for name, value in meta.user_meta if name in _CORE)
    cut = tuple(name for name, _ in meta.user_meta if name not in _CORE and name != TAG)
    if not cut:
        return meta
    return replace(
        meta,
        user_meta=(*kept, (TAG, "MIRROR"), (META_CUT, _cut_notice(list(cut)))),
        digest_fits=False,
        cut=(*meta.cut, *cut),
    )


# ---------------------------------------------------------------------- out


def is_mirrored(info: ObjectInfo) -> bool:
    """Whether the object that is there now is Ferryman's; a user's overwrite carries no such mark."""
    return VERSION in info.user_meta


def replay_headers(info: ObjectInfo) -> list[tuple[str, str]]:
    """What the gateway sets on an answer for a mirrored object, replacing headers of the same name.

    `x-oss-tag` (S6), `Access-Control-Allow-Origin` (S5), an `Expires` that was no date (S4), the origin's
    `Last-Modified` and `ETag` where the rule asked for them (F45, F62), and every header that had to be
    encoded, decoded (S16). Empty for an object that is not ours.
    """
    meta = info.user_meta
    if VERSION not in meta:
        return []
    found: list[tuple[str, str]] = []
    for name, header in _REPLAY:
        value = meta.get(name)
        if value is not None:
            found.append((header, decode_value(value)))
    for name, value in info.headers:
        if "=?" in value:
            found.append((name, decode_value(value)))
    for name, value in meta.items():
        if "=?" in value and name not in _REPLAY_NAMES:
            found.append((f"x-amz-meta-{name}", decode_value(value)))
    return found


_REPLAY: Final = (
    (TAG, "x-oss-tag"),
    (ACAO, "Access-Control-Allow-Origin"),
    (EXPIRES, "Expires"),
    (LAST_MODIFIED, "Last-Modified"),
    (ETAG, "ETag"),
)
_REPLAY_NAMES: Final = frozenset(name for name, _ in _REPLAY)
