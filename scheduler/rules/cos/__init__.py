"""Tencent COS `OriginConfiguration`, read and written. PURE.

`xml` is the codec, `read` the meaning of each element.
"""

__all__ = ["xml"]
