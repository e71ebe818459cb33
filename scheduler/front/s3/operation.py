"""Which S3 operation is a request, and which permission does it take? Pure.

Owns the table of operations by method and sub-resource. A parameter that S3 knows as a sub-resource, and one
that nobody here has heard of but that has a sub-resource's form (a name without a value), is never taken for
a read or write of the object itself: such an operation is `Other…` and takes `manage`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from scheduler.front.auth.encoding import decode_query, query_headers, query_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping

Permission = Literal["read", "list", "write", "delete", "manage"]

#: Parameters of plain reads, writes and listings, and of signatures; all others say what is meant.
_PLAIN: Final = frozenset({
    "x-id", "versionId", "partNumber", "prefix", "delimiter", "max-keys", "marker", "start-after",
    "continuation-token", "encoding-type", "fetch-owner", "list-type", "key-marker", "version-id-marker",
    "upload-id-marker", "max-uploads", "max-parts", "part-number-marker", "max-buckets", "bucket-region",
    "response-content-type", "response-content-language", "response-expires", "response-cache-control",
    "response-content-disposition", "response-content-encoding", "AWSAccessKeyId", "Signature", "Expires",
    "x-amz-security-token", "allow-unordered",
})  # fmt: skip
_SUB_RESOURCES: Final = frozenset({
    "accelerate", "acl", "analytics", "append", "attributes", "cors", "defaultObjectAcl", "delete",
    "encryption", "intelligent-tiering", "inventory", "legal-hold", "lifecycle", "location", "logging",
    "metadataConfiguration", "metadataInventoryTable", "metadataJournalTable", "metadataTable", "metrics",
    "notification", "object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock",
    "renameObject", "replication", "requestPayment", "restore", "retention", "select", "select-type",
    "session", "tagging", "torrent", "uploadId", "uploads", "versioning", "versions", "website", "abac",
})  # fmt: skip
#: Operations that take a source.
COPIES: Final = frozenset({"CopyObject", "UploadPartCopy"})
_OF_THE_SIGNATURE: Final = frozenset({
    "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders",
    "x-amz-signature", "x-amz-security-token", "x-amz-content-sha256",
})  # fmt: skip
#: What parameters that a presigned request carries begin with; they name no operation.
_SIGNING: Final = "x-amz-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a request asks for."""

    #: As the S3 API names it; `Other…` for a sub-resource without a name here.
    name: str
    permission: Permission
    #: Whether the body is an object's bytes and streams; else it is a small document.
    streams: bool = False
    #: Whether the answer is XML that may name keys of Ferryman's own.
    lists: bool = False

    @property
    def is_plain_read(self) -> bool:
        """Whether the object itself is read."""
        return self.name in {"GetObject", "HeadObject"}


#: An object that a browser's form brings; it has no method and sub-resource of its own.
POST_OBJECT: Final = Operation(name="PostObject", permission="write")

_SERVICE: Final[Mapping[str, Operation]] = {
    "GET": Operation(name="ListBuckets", permission="list", lists=True),
    "HEAD": Operation(name="ListBuckets", permission="list"),
}

_BUCKET: Final[Mapping[tuple[str, frozenset[str]], Operation]] = {
    ("GET", frozenset()): Operation(name="ListObjects", permission="list", lists=True),
    ("GET", frozenset({"versions"})): Operation(name="ListObjectVersions", permission="list", lists=True),
    ("GET", frozenset({"uploads"})): Operation(name="ListMultipartUploads", permission="list", lists=True),
    ("GET", frozenset({"location"})): Operation(name="GetBucketLocation", permission="list"),
    ("GET", frozenset({"versioning"})): Operation(name="GetBucketVersioning", permission="list"),
    ("HEAD", frozenset()): Operation(name="HeadBucket", permission="list"),
    ("PUT", frozenset()): Operation(name="CreateBucket", permission="manage"),
    ("DELETE", frozenset()): Operation(name="DeleteBucket", permission="manage"),
    ("POST", frozenset({"delete"})): Operation(name="DeleteObjects", permission="delete"),
}

_UPLOAD: Final = frozenset({"uploadId"})
_OBJECT: Final[Mapping[tuple[str, frozenset[str]], Operation]] = {
    ("GET", frozenset()): Operation(name="GetObject", permission="read"),
    ("HEAD", frozenset()): Operation(name="HeadObject", permission="read"),
    ("GET", frozenset({"acl"})): Operation(name="GetObjectAcl", permission="read"),
    ("GET", frozenset({"attributes"})): Operation(name="GetObjectAttributes", permission="read"),
    ("GET", frozenset({"legal-hold"})): Operation(name="GetObjectLegalHold", permission="read"),
    ("GET", frozenset({"retention"})): Operation(name="GetObjectRetention", permission="read"),
    ("GET", frozenset({"tagging"})): Operation(name="GetObjectTagging", permission="read"),
    ("GET", frozenset({"torrent"})): Operation(name="GetObjectTorrent", permission="read"),
    ("GET", _UPLOAD): Operation(name="ListParts", permission="write"),
    ("PUT", frozenset()): Operation(name="PutObject", permission="write", streams=True),
    ("PUT", _UPLOAD): Operation(name="UploadPart", permission="write", streams=True),
    ("PUT", frozenset({"tagging"})): Operation(name="PutObjectTagging", permission="write"),
    ("POST", frozenset({"uploads"})): Operation(name="CreateMultipartUpload", permission="write"),
    ("POST", _UPLOAD): Operation(name="CompleteMultipartUpload", permission="write"),
    ("POST", frozenset({"restore"})): Operation(name="RestoreObject", permission="write"),
    ("POST", frozenset({"select", "select-type"})): Operation(name="SelectObjectContent", permission="read"),
    ("DELETE", frozenset()): Operation(name="DeleteObject", permission="delete"),
    ("DELETE", _UPLOAD): Operation(name="AbortMultipartUpload", permission="write"),
    ("DELETE", frozenset({"tagging"})): Operation(name="DeleteObjectTagging", permission="write"),
}


def carried(query: bytes) -> dict[str, str]:
    """Headers that a presigned URL carries in its query, where they are signed too (`x-amz-acl`, …)."""
    return {name: value for name, value in query_headers(query).items() if name not in _OF_THE_SIGNATURE}


def parameters(query: bytes) -> list[tuple[bytes, bytes]]:
    """The decoded pairs of a raw query without those of a signature, in order."""
    pairs = [(decode_query(name), decode_query(value)) for name, value in query_pairs(query)]
    presigned = any(name == b"AWSAccessKeyId" for name, _ in pairs)
    return [
        (name, value)
        for name, value in pairs
        if not name.lower().startswith(b"x-amz-")
        and not (presigned and name in {b"AWSAccessKeyId", b"Signature", b"Expires"})
    ]


def operation(
    method: str, query: bytes, *, of: Literal["service", "bucket", "object"], copies: bool = False
) -> Operation:
    """What a request asks for; `copies` says that it names a source to copy from."""
    asked = sub_resources(query)
    if of == "service":
        found = _SERVICE.get(method) if not asked else None
    else:
        found = (_BUCKET if of == "bucket" else _OBJECT).get((method, asked))
    if found is None:
        what = "".join(part.capitalize() for part in sorted(asked)) or "Request"
        return Operation(name=f"Other{method.capitalize()}{what}"[:64], permission="manage")
    if copies and found.streams:
        name = "CopyObject" if found.name == "PutObject" else "UploadPartCopy"
        return Operation(name=name, permission="write")
    return found


@lru_cache(maxsize=64)
def sub_resources(query: bytes) -> frozenset[str]:
    """Decoded names of the parameters that say what is meant; others that have their form, too."""
    found = set()
    for raw_name, value in query_pairs(query):
        name = decode_query(raw_name).decode("utf-8", "replace")
        if name in _SUB_RESOURCES or (
            not value and name and name not in _PLAIN and not name.lower().startswith(_SIGNING)
        ):
            found.add(name)
    return frozenset(found)
