"""What both XML dialects share: fields, schema, whole documents, what cannot be expressed. PURE.

Must not know a vendor. `document` first.
"""

__all__ = ["differences", "document", "fields", "schema"]
