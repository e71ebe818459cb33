"""A document in another encoding is said to be that, and not to be bad YAML."""

from __future__ import annotations

import pytest

from scheduler.rules.cos import xml as cos_xml
from scheduler.rules.encodings import foreign_encoding
from scheduler.rules.problems import DocumentError
from scheduler.rules.yaml import document

XML = '<?xml version="1.0" encoding="{}"?><OriginConfiguration><a>中</a></OriginConfiguration>'
YAML = "rules: [{prefix: é, origins: [http://o.example]}]"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (XML.format("UTF-16").encode("utf-16"), "UTF-16; rule documents are in UTF-8"),
        (XML.format("UTF-16").encode("utf-16-le"), "UTF-16; rule documents are in UTF-8"),
        (XML.format("UTF-16").encode("utf-16-be"), "UTF-16; rule documents are in UTF-8"),
        (XML.format("UTF-32").encode("utf-32"), "UTF-32; rule documents are in UTF-8"),
        (XML.format("GBK").encode("gbk"), "GBK; rule documents are in UTF-8"),
        (YAML.encode("utf-16"), "UTF-16; rule documents are in UTF-8"),
        (YAML.encode("latin-1"), "not UTF-8"),
        (XML.format("UTF-8").encode("utf-8-sig"), ""),
        (YAML.encode(), ""),
        (b"", ""),
    ],
)
def test_an_encoding_is_told_by_its_marks(raw, said):
    assert foreign_encoding(raw) == said


@pytest.mark.parametrize("codec", [cos_xml, document], ids=["cos", "yaml"])
def test_every_reader_says_it(codec):
    with pytest.raises(DocumentError) as caught:
        codec.parse(XML.format("UTF-16").encode("utf-16-be"))
    assert "UTF-16; rule documents are in UTF-8" in str(caught.value)
