"""Browser forms: `POST` of an object as multipart/form-data, under a policy that one of our keys signed.

Owns how a form is read, what its policy permits, what its fields mean for the object, and how a file whose
length nobody told reaches the store. Must not know tombstones or the way back. Read `reader`, `policy` and
`fields` (pure), `storing`, `answer`.
"""

__all__ = ["answer", "fields", "policy", "reader", "storing"]
