"""Which headers of the store's answer an S3 client sees."""

from __future__ import annotations

from scheduler.front.s3.headers import for_client

MIRRORED = [
    ("ETag", '"of-the-store"'),
    ("Last-Modified", "Sat, 28 Nov 2026 03:00:00 GMT"),
    ("x-amz-meta-ferryman-v", "1"),
    ("x-amz-meta-ferryman-etag", '"of-the-origin"'),
    ("x-amz-meta-ferryman-last-modified", "Tue, 01 Feb 2022 03:04:05 GMT"),
    ("x-amz-meta-ferryman-acao", "*"),
]


def test_an_s3_client_sees_the_validators_of_the_store_which_judges_its_conditions():
    """F45, F62: as in the store's listings; everything else that is kept is replayed."""
    assert sorted(for_client(MIRRORED, show_own=False)) == [
        (b"access-control-allow-origin", b"*"),
        (b"etag", b'"of-the-store"'),
        (b"last-modified", b"Sat, 28 Nov 2026 03:00:00 GMT"),
    ]
