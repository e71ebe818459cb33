"""A key that the store lacks: one file a kind of answer (SEMANTICS.md section 5).

Must not know how bytes are moved (`pull`). `by_rule` chooses by the rule that was found (`ruled`): `mirror`
(A1 to A14), `range` (A15 to A19: a range request on a missing key), `head` (A35 to A37), `proxy`, `redirect`;
`source` pulls what is to be copied; `follow` hands a running pull to a client, `answer` turns failures into
S3 errors; `miss` is the record that all of them take.
"""

__all__ = ["answer", "by_rule", "ruled", "source"]
