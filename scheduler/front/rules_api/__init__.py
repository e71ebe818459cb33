"""`?origin` and `?website`: the vendors' rule API, through their SDKs (SEMANTICS.md section 9)."""

__all__ = ["vendor_xml"]
