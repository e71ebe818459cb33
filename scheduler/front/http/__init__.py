"""Reading a request and writing an answer; nothing about origins.

Read `protocol` (bounds of a connection), `request`, `bucket_address`, `target`, `access`, `answer`,
`cycle` (its bytes), `s3_error`; `range_header`, `conditional` and `object_headers` are pure. `serve` runs
uvicorn.
"""

__all__ = [
    "access",
    "answer",
    "bucket_address",
    "conditional",
    "object_headers",
    "protocol",
    "range_header",
    "request",
    "s3_error",
    "serve",
    "target",
]
