"""A scan the other way round: what the store has and the origin lacks is brought back.

Must not know who holds the run, nor how a key is brought: that is `workers.ledger.back`'s. Read `sides` (keys
and places, and when two objects are the same; pure), `origin_listing` (what the origin has, whole or in
ranges), `judging` (what is to be brought of some keys), `bringing` (batches that wait for their end), `shard`
(one range of such a scan). Whole scans are `scheduler.scan.reverse_run`'s.
"""

__all__ = ["bringing", "judging", "origin_listing", "shard", "sides"]
