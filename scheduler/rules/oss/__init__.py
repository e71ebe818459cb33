"""Alibaba OSS and S3 `WebsiteConfiguration`, read and written. PURE.

`xml` is the codec, `schema` the elements, `read` their meaning, `write` the way back.
"""

__all__ = ["xml"]
