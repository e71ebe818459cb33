"""What an upload wants to write, and under which condition.

Owns the headers that create an object, in one PUT or as a multipart upload, and the conditional header of the
commit. Sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from workers.store.access import StoreAccess
    from workers.store.guarantees import CreateOnly, StoreGuarantees
    from workers.store.model import ObjectMeta, StoreAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One object that is to be in the store."""

    store: StoreAccess
    #: What the store is known to honour in this bucket.
    known: StoreGuarantees
    bucket: str
    key: str
    meta: ObjectMeta
    #: Id of this very attempt, by which a lost answer is recognised (S11).
    attempt: str
    #: The object with this ETag is to be replaced (S12); None: create only.
    replace_etag: str | None

    @property
    def what(self) -> str:
        """The object's name for messages."""
        return f"{self.bucket}/{self.key}"

    def creation_headers(self, meta: ObjectMeta) -> dict[str, str]:
        """Headers of the request that creates the object, with lower-case names; `meta` may be a cut one."""
        headers = dict(self.store.create_headers)
        for name, value in meta.headers:
            headers[name.lower()] = value  # the signature wants them so
        for name, value in meta.user_meta:
            headers[f"x-amz-meta-{name}"] = value
        if meta.tags and self.known.object_tags and self.store.settings.object_tags:
            headers["x-amz-tagging"] = urlencode(meta.tags, quote_via=quote)
        return headers

    def condition(self, mode: CreateOnly) -> tuple[str, str] | None:
        """The conditional header of the commit, where the store obeys one."""
        if self.replace_etag is not None:
            return ("if-match", f'"{self.replace_etag}"') if self.known.if_match else None
        return mode.header

    def etag_is_md5(self, answer: StoreAnswer) -> bool:
        """Whether an ETag in the answer may be an MD5 of bytes.

        It is none where a key of KMS or of the customer encrypted them, which a bucket may do by its default.
        """
        sse = answer.headers.get("x-amz-server-side-encryption", self.store.settings.sse)
        customer = "x-amz-server-side-encryption-customer-algorithm" in answer.headers
        return sse in {"none", "AES256"} and not customer
