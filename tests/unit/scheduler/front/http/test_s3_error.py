"""The one error document that all three SDKs read."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from scheduler.front.http import s3_error


def test_the_document_is_exactly_that_of_section_5():
    body = s3_error.error_document(
        "MirrorFailed", "no", resource="/bucket/key", request_id="R1", host_id="H1"
    )
    assert body == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        b"<Error><Code>MirrorFailed</Code><Message>no</Message><Resource>/bucket/key</Resource>"
        b"<RequestId>R1</RequestId><TraceId>R1</TraceId><HostId>H1</HostId></Error>"
    )


@pytest.mark.parametrize("resource", ["", "/b/<&>\"'", "/b/\x00\x1b\ufffe", "/b/中 \U0001f600", "/b/\udc80"])
def test_no_resource_breaks_the_xml_or_leaves_it_empty(resource):
    body = s3_error.error_document("X", "", resource=resource, request_id="R", host_id="")
    root = ET.fromstring(body)
    assert root.findtext("Resource")
    assert root.findtext("RequestId") == "R"
    assert root.findtext("HostId")
    assert [child.tag for child in root] == ["Code", "Message", "Resource", "RequestId", "TraceId", "HostId"]


def test_the_same_request_id_stands_under_all_three_names():
    status, headers, body = s3_error.error_answer(s3_error.NO_SUCH_KEY, resource="/b/k", request_id="ABC")
    found = dict(headers)
    assert status == 404
    assert {found[name] for name in (b"x-oss-request-id", b"x-cos-request-id", b"x-amz-request-id")} == {
        b"ABC"
    }
    assert found[b"content-type"] == b"application/xml"
    assert int(found[b"content-length"]) == len(body)
    assert b"<RequestId>ABC</RequestId>" in body


def test_request_ids_differ():
    assert len({s3_error.new_request_id() for _ in range(100)}) == 100
