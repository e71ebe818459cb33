"""`?origin` and `?website`: the vendors' rule API, through their SDKs (SEMANTICS.md section 9).

Must not know objects. Read `call` (which request is one, and whose), then `vendor_xml` (every answer).
"""

__all__ = ["call", "vendor_xml"]
