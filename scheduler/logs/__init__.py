"""Miss events out of access logs.

Must not know the gateway. Read `consumer` (one file from line to accepted miss), `tail` and `reading`
(rotation), `checkpoint`, `identity`, `collect`, `filters`, `syslog`; `formats` has one file a family of log
formats, `open` builds a consumer from settings, `board` is what others see of it.
"""

__all__ = ["board", "checkpoint", "consumer", "filters", "open", "sources", "syslog"]
