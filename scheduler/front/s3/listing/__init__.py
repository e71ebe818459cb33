"""Lists: of buckets, objects, versions and uploads, without what is Ferryman's own.

Owns what becomes of a listing between store and client. Must not know how an object is read or written. Read
`document` (the change of a listing's XML, pure), then `lists`.
"""

__all__ = ["lists"]
