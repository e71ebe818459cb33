"""One S3 call that is verified and allowed, and the refusal of one that is not.

Owns the two records. No behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from scheduler.front.http.s3_error import S3Error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.front.auth import BodySignature
    from scheduler.front.http.answer import Answer
    from scheduler.front.http.request import Request
    from scheduler.front.s3.body import Receive
    from scheduler.front.s3.operation import Operation

RESERVED: Final = S3Error(
    status=403, code="AccessDenied", message="Keys under .ferryman/ are Ferryman's own and are not served."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that is verified and allowed."""

    request: Request
    answer: Answer
    receive: Receive
    operation: Operation
    key_id: str
    signature: BodySignature | None
    bucket: str
    key: str
    #: The client's, with those that a presigned URL carries in its query; each name once.
    headers: tuple[tuple[str, str], ...]
    #: Encoded, in canonical order, without the client's signature.
    query: str
    parameters: Mapping[str, str]


class Refused(Exception):
    """The call is not done; `error` is the answer."""

    def __init__(self, error: S3Error, *, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(error.message)
        self.error = error
        self.headers = headers
