"""The way back: an origin made equal to the store, key by key, for rules that write back.

Must not know rules or the gateway. Read `bring` (one key: what the store has, at its origin), `writer`
(requests that change an origin, by `wire`), `settle` (one taken key to its end: done, later, or a listed
failure), then `drain` (a process that works off what is due). What is due is in `workers.ledger.back`, where
it goes in `workers.back_routes`.
"""

__all__ = ["bring", "drain", "settle", "wire", "writer"]
