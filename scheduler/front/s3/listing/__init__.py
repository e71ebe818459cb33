"""Lists: of buckets, objects, versions and uploads, without what is Ferryman's own.

Owns what becomes of a listing between store and client, and the merged one of `list: union`. Must not know
how an object is read or written. Read `document` (the change of a listing's XML, pure) and `lists`; then of
the union: `positions`, `page`, `sides` (one bucket's list in the order of bytes), `origins`, `merge`,
`token`, `request`, `union`.
"""

__all__ = ["lists"]
