"""The object that a request asks for.

Owns the record, and what rules look at of a request for it. No behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from scheduler.rules.matching import RequestFacts

if TYPE_CHECKING:
    from scheduler.config.settings import BucketSettings
    from scheduler.front.http.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The object that a request asks for."""

    bucket: str
    key: str
    leading_slashes: int
    bucket_settings: BucketSettings

    @property
    def resource(self) -> str:
        """As error documents name it."""
        return f"/{self.bucket}/{self.key}"

    def facts(self, request: Request, status: int | None) -> RequestFacts:
        """What rules look at, with the status that the store gave (None: it was not asked)."""
        scheme: Literal["http", "https"] = request.client.scheme
        return RequestFacts(
            key=self.key,
            method=request.method,
            status=status,
            headers=request.headers,
            host=request.client.host_name,
            scheme=scheme,
            query=request.query,
            leading_slashes=self.leading_slashes,
        )
