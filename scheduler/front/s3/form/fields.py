"""What the fields of a form mean for the object. Pure.

Owns the variable `${filename}`, the key, and which fields become headers of the object. That the policy
permits them was seen before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from lxml import etree

from scheduler.front.http import s3_error
from scheduler.front.http.s3_error import S3Error
from scheduler.front.s3.call import Refused
from scheduler.rules.keys import MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLE: Final = "${filename}"
#: Fields that are headers under their own name.
_AS_HEADERS: Final = frozenset({
    "cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires",
})  # fmt: skip
_OF_THE_SIGNATURE: Final = frozenset({
    "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "x-amz-security-token",
})  # fmt: skip
#: What a form cannot ask for: it brings its own bytes, and says nothing of its request's body.
_NOT_IN_FORMS: Final = ("x-amz-copy-source", "x-amz-content-sha256", "x-amz-decoded", "x-amz-trailer")
_MAX_TAGGING_CHARS: Final = 16_384
_PARSER: Final = etree.XMLParser(resolve_entities=False, no_network=True)


def filled_in(fields: Mapping[str, str], filename: str) -> dict[str, str]:
    """The fields with `${filename}` replaced; the policy is compared with these."""
    signed = {"policy", "signature", *_OF_THE_SIGNATURE}
    return {
        name: value if name in signed else value.replace(_VARIABLE, filename)
        for name, value in fields.items()
    }


def key_of(fields: Mapping[str, str]) -> str:
    """The object's key.

    Raises:
        Refused: 400 InvalidArgument, KeyTooLongError, InvalidURI.
    """
    key = fields.get("key", "")
    if not key:
        raise Refused(
            S3Error(
                status=400,
                code="InvalidArgument",
                message="A form must contain a field named 'key'. If it is there, check the order of the "
                "fields.",
            )
        )
    if len(key.encode()) > MAX_KEY_BYTES:
        raise Refused(s3_error.KEY_TOO_LONG)
    if "\0" in key:
        raise Refused(s3_error.INVALID_URI)
    return key


def object_headers(fields: Mapping[str, str]) -> dict[str, str]:
    """Headers of the PUT that stores the object, each value as it stands on a wire (UTF-8 as Latin-1).

    Raises:
        Refused: 400 InvalidArgument, MalformedXML.
    """
    out: dict[str, str] = {}
    for name, value in fields.items():
        if name.startswith(_NOT_IN_FORMS):
            raise _argument(f"A form cannot have the field {name!r}.")
        header = "x-amz-acl" if name == "acl" else name
        if header not in _AS_HEADERS and (not header.startswith("x-amz-") or header in _OF_THE_SIGNATURE):
            continue
        if not header.isascii() or not header.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise _argument(f"The field {name!r} cannot be the name of a header.")
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
            raise _argument(f"The field {name!r} has a character that no header can have.")
        out[header] = value.strip().encode().decode("latin-1")
    if fields.get("tagging"):
        out["x-amz-tagging"] = _tags(fields["tagging"])
    out.setdefault("content-type", "binary/octet-stream")
    return out


def _tags(document: str) -> str:
    """A `Tagging` document as the header that PUT has for it."""
    try:
        root = etree.fromstring(document[:_MAX_TAGGING_CHARS].encode(), _PARSER)
    except etree.XMLSyntaxError as error:
        raise Refused(
            S3Error(status=400, code="MalformedXML", message="The field 'tagging' is no tagging document.")
        ) from error
    return urlencode(
        [(tag.findtext("{*}Key") or "", tag.findtext("{*}Value") or "") for tag in root.iterfind(".//{*}Tag")]
    )


def _argument(message: str) -> Refused:
    return Refused(S3Error(status=400, code="InvalidArgument", message=message))
