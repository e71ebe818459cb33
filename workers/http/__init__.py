"""HTTP below both sides: exchanges over pooled connections, and strangers' dates.

Must not know origins or the store. Read `exchange` (routes, heads of requests, the pool), then `connection`
(one connection), `answer` (what comes over it), `fields` (its headers; pure).
"""

__all__ = ["answer", "connection", "dates", "exchange", "fields"]
