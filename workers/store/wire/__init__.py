"""Requests to the store: addressed, signed, sent, answered.

Must not know what an object means. Read `transport`, then `lean` (short exchanges), `signing`, `addressing`,
`answers` (status to error), `checksums`, `streamed` (a body on its way out), `response` (an object's),
`passed` (of an answer that goes on as it is), `multipart`, `credentials`, `standing_headers`.
"""

__all__ = [
    "addressing",
    "answers",
    "checksums",
    "held_back",
    "lean",
    "multipart",
    "passed",
    "response",
    "signing",
    "standing_headers",
    "streamed",
    "transport",
]
