"""What the configuration says of the buckets behind one credential.

Owns the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAccess:
    """Where the name of a bucket stands in a URL, and in which order it lists."""

    addressing: Literal["auto", "path", "virtual"] = "auto"
    listing_order: Literal["auto", "bytes", "path"] = "auto"
