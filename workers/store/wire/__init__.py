"""Requests to the store: addressed, signed, sent, answered.

Must not know what an object means. Read `transport`, then `lean` (short exchanges), `signing`, `addressing`,
`answers` (status to error), `checksums`, `response` (a body on its way out), `credentials`,
`standing_headers`.
"""

__all__ = [
    "addressing",
    "answers",
    "checksums",
    "multipart",
    "response",
    "signing",
    "standing_headers",
    "transport",
]
