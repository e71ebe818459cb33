"""What a call of ListObjects asks for, and the document that answers it. Pure.

Owns the parameters of both versions, what is refused of them, and the XML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

from scheduler.front.http.s3_error import S3Error
from scheduler.front.s3.call import Refused
from scheduler.front.s3.listing.token import Scope, marker_of, place_behind, place_of, token_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.front.s3.listing.merge import Shown

_MOST: Final = 1000
_CONTROL: Final = re.compile(r"[\x00-\x1f\ufffe\uffff]")
_NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """One call of ListObjects."""

    scope: Scope
    #: Where the page begins.
    place: str
    #: Names it may have.
    most: int
    version_2: bool
    encoded: bool
    owners: bool
    #: As they were given, for the answer.
    token: str = ""
    after: str = ""


def list_request(bucket: str, given: Mapping[str, str], *, secret: str) -> ListRequest:
    """Read the parameters.

    Raises:
        Refused: 400 InvalidArgument: one is none that S3 knows, or the token is not ours.
    """
    scope = Scope(bucket=bucket, prefix=given.get("prefix", ""), delimiter=given.get("delimiter", ""))
    version = given.get("list-type", "")
    if version not in {"", "2"}:
        raise _refused(f"list-type is 2 or left out, found {version!r}.")
    most = given.get("max-keys", "") or str(_MOST)
    if not (most.isascii() and most.isdecimal() and len(most) <= 10):
        raise _refused(f"max-keys is a whole number from 0, found {most[:80]!r}.")
    encoding = given.get("encoding-type", "")
    if encoding not in {"", "url"}:
        raise _refused(f"encoding-type is url or left out, found {encoding[:80]!r}.")
    token = given.get("continuation-token", "") if version else ""
    after = given.get("start-after" if version else "marker", "")
    if "continuation-token" in given and version:
        place = place_of(token, scope, secret=secret)
        if place is None:
            raise _refused("The continuation token is not one that was given for this list.")
    else:
        place = place_behind(after, scope) if after else scope.prefix
    return ListRequest(
        scope=scope,
        place=place,
        most=min(int(most), _MOST),
        version_2=bool(version),
        encoded=bool(encoding),
        owners=not version or given.get("fetch-owner") == "true",
        token=token,
        after=after,
    )


def list_document(asked: ListRequest, page: Shown, *, secret: str) -> bytes:
    """The answer."""
    scope, spelled = asked.scope, _encoded if asked.encoded else _plain
    out = [
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="{_NAMESPACE}">',
        f"<Name>{_plain(scope.bucket)}</Name><Prefix>{spelled(scope.prefix)}</Prefix>",
    ]
    if asked.version_2:
        if asked.after:
            out.append(f"<StartAfter>{spelled(asked.after)}</StartAfter>")
        if asked.token:
            out.append(f"<ContinuationToken>{_plain(asked.token)}</ContinuationToken>")
        out.append(f"<KeyCount>{len(page.keys) + len(page.prefixes)}</KeyCount>")
        if page.place is not None:
            token = token_of(page.place, scope, secret=secret)
            out.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
    else:
        out.append(f"<Marker>{spelled(asked.after)}</Marker>")
        if page.place is not None:
            shown = page.last if page.prefixes and page.prefixes[-1] == page.last else ""
            out.append(f"<NextMarker>{spelled(marker_of(page.place, shown, scope))}</NextMarker>")
    out.append(f"<MaxKeys>{asked.most}</MaxKeys>")
    if scope.delimiter:
        out.append(f"<Delimiter>{spelled(scope.delimiter)}</Delimiter>")
    if asked.encoded:
        out.append("<EncodingType>url</EncodingType>")
    out.append(f"<IsTruncated>{'false' if page.place is None else 'true'}</IsTruncated>")
    owners = asked.owners
    out += [
        f"<Contents><Key>{spelled(key)}</Key>{entry.xml}{entry.owner if owners else ''}</Contents>"
        for key, entry in page.keys
    ]
    out += [f"<CommonPrefixes><Prefix>{spelled(name)}</Prefix></CommonPrefixes>" for name in page.prefixes]
    out.append("</ListBucketResult>")
    return "".join(out).encode("utf-8", "replace")


def _plain(text: str) -> str:
    # XML cannot hold these; S3 sends references all the same, and clients that mind ask for `url`.
    return _CONTROL.sub(lambda found: f"&#x{ord(found[0]):x};", escape(text))


def _encoded(text: str) -> str:
    return quote_plus(text, safe="/")


def _refused(message: str) -> Refused:
    return Refused(S3Error(status=400, code="InvalidArgument", message=message))
