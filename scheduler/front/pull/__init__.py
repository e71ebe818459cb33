"""Fetching a key for the client and the store at once, one pull a key.

Must not know how a client is answered. Read `fill` (one object arriving), `pump` (reads the origin), `spool`
(bytes both sides wait for), `herd` (followers), `claim` and `gathered` (the fleet's word), `jobs` (pulls left
to workers); `absent` and `admission` keep clients from the origin.
"""

__all__ = ["absent", "admission", "claim", "fill", "herd", "jobs", "pump", "spool"]
