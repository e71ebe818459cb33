"""Miss events out of access logs.

Must not know the gateway. Read `consumer` (one file from line to accepted miss), `sources` (where lines come
from), `tail`, `reading` (rotation), `checkpoint`, `saving`, `identity`, `collect`, `filters`, `place` (which
bucket), `syslog`; `formats` has one file a family of log formats, `open` builds a consumer from settings,
`board` is what others see of it.
"""

__all__ = ["board", "checkpoint", "consumer", "filters", "open", "place", "sources", "syslog"]
