"""Stores are recognised by what their answers look like, and nobody else is taken for one of them."""

from __future__ import annotations

import base64
from dataclasses import replace
from types import SimpleNamespace

import pytest
from multidict import CIMultiDict

from workers.store.guarantees import CreateOnly
from workers.store.known_stores import CEPH, KNOWN, MOTO, RCLONE, SEAWEEDFS, recognised
from workers.store.wire.response import StoreResponse

REQUEST_ID = "2809BA2DC1CE050E"


@pytest.mark.parametrize(
    ("headers", "known"),
    [
        ({"Server": "SeaweedFS 8000GB 4.48"}, SEAWEEDFS),
        ({"x-amz-request-id": "tx00000bfd4c0e2d236bc93-006b0a4237-1046-default"}, CEPH),
        ({"Server": "Werkzeug/3.1.9 Python/3.11.7", "x-amzn-requestid": "n8DU"}, MOTO),
        (
            {
                "Server": "AmazonS3",
                "X-Amz-Request-Id": REQUEST_ID,
                "X-Amz-Id-2": base64.b64encode((REQUEST_ID * 4).encode()).decode(),
            },
            RCLONE,
        ),
        ({"Server": "AmazonS3", "X-Amz-Request-Id": REQUEST_ID, "X-Amz-Id-2": "ve/JzF4="}, None),
        ({"Server": "MinIO", "x-amz-request-id": "18EC15E4C71C1CCA"}, None),
        ({}, None),
    ],
)
def test_a_store_is_recognised_by_its_headers(headers, known):
    assert recognised(headers) is known


def test_what_a_store_is_known_for_gives_way_to_what_was_found():
    found = replace(CEPH.guarantees, multipart_create_only=CreateOnly.IF_NONE_MATCH, collation="path")
    assert CEPH.differences(CEPH.guarantees) == []
    assert CEPH.differences(found) == [
        "multipart_create_only: if-none-match here, check-then-write there",
        "collation: path here, bytes there",
    ]


def test_every_deviation_has_keys_a_finding_and_a_remedy():
    for known in KNOWN:
        assert len({one.point for one in known.deviations}) == len(known.deviations)
        for one in known.deviations:
            assert one.keys and one.what and one.remedy  # noqa: PT018 -- each is a cell of the same row


def test_a_range_that_comes_as_200_is_no_whole_object():
    headers = CIMultiDict({"Content-Length": "3", "Content-Range": "bytes 2-4/10", "ETag": '"e"'})
    response = StoreResponse(SimpleNamespace(status=200, headers=headers), "k", "GET b/k")
    assert (response.status, response.info.size) == (206, 10)
