"""Fetching a key for the client and the store at once, one pull a key.

Must not know how a client is answered. Read `fill` (one object arriving), `pump` (one pull, from its claim to
its end), `tee` (one answer of an origin, to readers and store), `spool` (bytes both sides wait for), `herd`
(followers), `claim` and `gathered` (the fleet's word), `afterwards` (what is remembered of a pull), `jobs`
(pulls left to workers); `absent` and `admission` keep clients from the origin.
"""

__all__ = [
    "absent",
    "admission",
    "afterwards",
    "claim",
    "fill",
    "gathered",
    "herd",
    "jobs",
    "pump",
    "spool",
    "tee",
]
