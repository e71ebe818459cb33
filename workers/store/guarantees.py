"""What a store is known to honour.

Owns the record and its words for people. Pure; `probe` fills it in, uploads and scans act on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Literal


class CreateOnly(StrEnum):
    """How an existing object is protected from a write (S11), strongest first."""

    IF_NONE_MATCH = "if-none-match"
    OSS = "oss"
    COS = "cos"
    #: A HEAD directly before the commit: a race remains.
    CHECK_THEN_WRITE = "check-then-write"

    @property
    def header(self) -> tuple[str, str] | None:
        """The request header that asks for it, or None when nothing can."""
        return _HEADERS.get(self)


_HEADERS = {
    CreateOnly.IF_NONE_MATCH: ("if-none-match", "*"),
    CreateOnly.OSS: ("x-oss-forbid-overwrite", "true"),
    CreateOnly.COS: ("x-cos-forbid-overwrite", "true"),
}

#: What a store does with a kind of key that S3 allows: S17.
KeyKind = Literal[
    "double_slash",
    "trailing_slash",
    "directory_marker",
    "dot_segment",
    "below_object",
    "backslash",
    "uploads_segment",
    "versions_segment",
]

#: One look that passes nearly every key: only what matches is looked at more closely.
_ODD = re.compile(
    r"//|^/|/$|\\|(?:^|/)(?:\.\.?|\.uploads)(?:/|$)|\.versions(?:/|$)",
)
#: Which kinds of keys the regular expression tells apart; `below_object` shows in no key by itself.
_KINDS: tuple[tuple[KeyKind, re.Pattern[str]], ...] = (
    ("double_slash", re.compile(r"//|^/")),
    ("trailing_slash", re.compile(r"/$")),
    ("directory_marker", re.compile(r"/$")),
    ("dot_segment", re.compile(r"(?:^|/)\.\.?(?:/|$)")),
    ("backslash", re.compile(r"\\")),
    ("uploads_segment", re.compile(r"(?:^|/)\.uploads(?:/|$)")),
    ("versions_segment", re.compile(r"\.versions(?:/|$)")),
)
#: Of these kinds the store gives one key the object of another.
_CONFUSED = frozenset(kind for kind, _ in _KINDS)

_KEY_WORDS: dict[str, str] = {
    "double_slash": "keys with `//` collapse into the key with `/`",
    "trailing_slash": "an object whose key ends with `/` loses its body",
    "directory_marker": "an empty object whose key ends with `/` becomes the one without it",
    "dot_segment": "keys with a `.` or `..` segment are refused or moved",
    "below_object": "`a` and `a/b` cannot both exist",
    "backslash": "keys with `\\` collapse into the key with `/`",
    "uploads_segment": "objects below a segment `.uploads` are never listed",
    "versions_segment": "objects with a segment that ends in `.versions` are never listed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreGuarantees:
    """The result of the start-up self-test of one bucket."""

    #: For one PUT, and for completing a multipart upload.
    create_only: CreateOnly = CreateOnly.CHECK_THEN_WRITE
    multipart_create_only: CreateOnly = CreateOnly.CHECK_THEN_WRITE
    #: A conditional header that the store answers the wrong way round (P20).
    inverted: bool = False
    #: `If-Match` on PUT replaces only the named version (S12).
    if_match: bool = False
    #: Checksums of a PUT, and of a part, that the store compares with the bytes: crc32c, sha256 (of the
    #: signature), md5 (Content-MD5).
    checksums: tuple[str, ...] = ("md5",)
    part_checksums: tuple[str, ...] = ("md5",)
    multipart: bool = True
    object_tags: bool = False
    #: Order of a listing: by bytes of the key, by path component, or neither.
    collation: Literal["bytes", "path", "none"] = "none"
    start_after: bool = False
    #: In listings with `encoding-type=url`, whether `+` stands for a space.
    plus_is_space: bool = True
    #: Status for a key that is not there: 404, or 403 without the permission to list.
    missing_key_status: int = 404
    #: Kinds of keys that cannot be held distinctly (S17).
    unrepresentable: frozenset[KeyKind] = frozenset()
    versioned: bool = False
    #: False: nothing was proven, the configuration said so.
    proven: bool = False

    @property
    def race_free(self) -> bool:
        """Whether no write of ours can replace an object, whoever else writes."""
        weak = CreateOnly.CHECK_THEN_WRITE
        return self.create_only is not weak and (not self.multipart or self.multipart_create_only is not weak)

    @property
    def prefers_one_put(self) -> bool:
        """Whether an object is better off in one PUT than in parts: only that is guarded, or possible."""
        weak = CreateOnly.CHECK_THEN_WRITE
        if not self.multipart:
            return True
        return self.create_only is not weak and self.multipart_create_only is weak

    def refuses(self, key: str, size: int | None) -> str | None:
        """Why this key cannot be held distinctly, or None when nothing is known against it.

        `size` is the body's length in bytes, None when unknown. Most stores hold an empty object
        under a key that ends with `/`.
        """
        if not self.unrepresentable or _ODD.search(key) is None:
            return None
        for kind in self._kinds(key):
            if kind != "trailing_slash" or size:
                return _KEY_WORDS[kind]
        return None

    def confuses(self, key: str) -> bool:
        """Whether what the store gives for this key may be another key's; then only `believes` tells."""
        if not self.unrepresentable or _ODD.search(key) is None:
            return False
        return not _CONFUSED.isdisjoint(self._kinds(key))

    def believes(self, key: str, *, theirs: str | None, size: int, content_type: str) -> bool:
        """Whether an object that was given for such a key is that key's own.

        `theirs` is the digest of the key in its provenance (S9). What was not written by us is only believed
        of keys that end with `/`, and there only when it is empty and no directory shown as an object.
        """
        if theirs is not None:
            return theirs == sha256(key.encode()).hexdigest()
        if self._kinds(key) != ["trailing_slash"]:
            return False
        return not size and content_type != "application/x-directory"

    def _kinds(self, key: str) -> list[KeyKind]:
        """Of the kinds that this store cannot hold distinctly, those that the key is of."""
        return [kind for kind, shape in _KINDS if kind in self.unrepresentable and shape.search(key)]

    def warnings(self) -> tuple[str, ...]:
        """Sentences an operator should read."""
        found: list[str] = []
        if self.inverted:
            found.append("the store answers If-None-Match the wrong way round; it is not used")
        if self.create_only is CreateOnly.CHECK_THEN_WRITE:
            found.append("the store obeys no create-only write: a HEAD before the write leaves a race")
        if self.multipart and self.multipart_create_only is CreateOnly.CHECK_THEN_WRITE:
            of_put = (
                "; one PUT is, and goes before parts where the object fits" if self.prefers_one_put else ""
            )
            found.append(
                f"completing a multipart upload is not create-only: a HEAD before it leaves a race{of_put}"
            )
        if not self.multipart:
            found.append("the store has no multipart uploads: objects that do not fit one PUT fail")
        if self.missing_key_status == 403:
            found.append(
                "the store answers 403 for a missing key (no s3:ListBucket): misses are never seen as 404",
            )
        if not self.checksums:
            found.append("the store compares no checksum of a PUT with the bytes")
        if self.proven and self.collation == "none":
            found.append("listings are in no known order and will be sorted on disk")
        return tuple(found)

    def lines(self) -> tuple[str, ...]:
        """The findings, one sentence a line, for doctor and the start-up log."""
        proof = "proven" if self.proven else "assumed from the configuration"
        keys = [_KEY_WORDS[kind] for kind in sorted(self.unrepresentable)]
        put, part = ", ".join(self.checksums) or "nothing", ", ".join(self.part_checksums) or "nothing"
        after = "works" if self.start_after else "is not used"
        return (
            f"create-only PUT: {self.create_only} ({proof})",
            f"create-only multipart: {self.multipart_create_only if self.multipart else 'no multipart'}",
            f"checked on PUT: {put}; on parts: {part}",
            f"listing order: {self.collation}; start-after {after}",
            f"object tags: {_yes(self.object_tags)}; versioned: {_yes(self.versioned)}",
            f"a missing key answers {self.missing_key_status}",
            *(keys or ["every kind of key that was tried is held distinctly"]),
            *(f"warning: {line}" for line in self.warnings()),
        )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
