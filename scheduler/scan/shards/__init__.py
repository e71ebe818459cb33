"""A run that the whole fleet works off: cut into ranges of keys, each done by whichever process is free.

Must not know the gateway, nor what else than a scan is cut. Read `records` (what is known of each shard, in
Redis), `cutting` (the coordinator: cut, queue, sum, and split what is slow; `cut_scan` is a scan's),
`range_run` (one shard; `shard_run` is a scan's: the same run as a whole scan's, over its range), `lane` (the
messages, and the process that works them off), `share` (how many of them are its own), `probing` (where to
cut what nobody has counted; pure), `source` (a range of a bucket that is the inventory), `leftovers` (what
killed runs left in the store).
"""

__all__ = [
    "cut_scan",
    "cutting",
    "lane",
    "leftovers",
    "probing",
    "range_run",
    "records",
    "shard_run",
    "source",
    "view",
]
