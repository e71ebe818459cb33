"""A page of a list is read whole, in the usual form and in any other."""

from __future__ import annotations

import pytest

from scheduler.front.s3.listing.page import LOST, read_page

ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
    "<Size>7</Size><Owner><ID>me</ID></Owner><StorageClass>STANDARD</StorageClass></Contents>"
)
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def page(*keys, more="", truncated="false", root="ListBucketResult"):
    entries = "".join(ENTRY.format(key=key) for key in keys)
    return (
        f'<?xml version="1.0"?><{root} xmlns="{NAMESPACE}"><IsTruncated>{truncated}</IsTruncated>'
        f"{entries}{more}</{root}>"
    ).encode()


def prefixed(document):
    """The same with a prefix at every name, which no regular expression of ours knows."""
    text = document.decode().replace("xmlns=", "xmlns:n=").replace("</", "\1").replace("<?", "\2")
    return text.replace("<", "<n:").replace("\1", "</n:").replace("\2", "<?").encode()


@pytest.mark.parametrize("form", [lambda document: document, prefixed], ids=["usual", "prefixed"])
def test_keys_come_with_all_that_is_said_of_them(form):
    more = "<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>"
    found = read_page(form(page("a", "b&amp;c&lt;", "é", more=more, truncated="true")))
    assert list(found.keys) == ["a", "b&c<", "é"]
    assert (found.prefixes, found.truncated) == (("d/",), True)
    entry = found.keys["a"]
    assert (entry.size, entry.owner) == (7, "<Owner><ID>me</ID></Owner>")
    assert entry.xml.replace("&quot;", '"') == (
        '<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"e"</ETag><Size>7</Size>'
        "<StorageClass>STANDARD</StorageClass>"
    )
    assert read_page(form(page("a")), owners=False).keys["a"].owner == ""


def test_encoded_keys_are_decoded_as_the_store_encodes_them():
    document = page("a+b%2Bc", more="<EncodingType>url</EncodingType>")
    assert list(read_page(document, plus_is_space=True).keys) == ["a b+c"]
    assert list(read_page(document, plus_is_space=False).keys) == ["a+b+c"]


def test_what_xml_cannot_hold_is_marked_and_lets_the_rest_be_read():
    found = read_page(page("a&#1;", "b\x02", "c&#65;"))
    assert list(found.keys) == [f"a{LOST}", f"b{LOST}", "cA"]


@pytest.mark.parametrize(
    "document",
    [b"", b"<a", page("a", root="Error"), page("a", truncated="false")[:-30], b"<ListBucketResult/>"],
)
def test_what_is_no_page_is_refused(document):
    with pytest.raises(ValueError, match=r"XML|instead of|IsTruncated"):
        read_page(document)
