"""A scan that runs on the whole fleet: cut into ranges of keys, each compared by whichever process is free.

Must not know the gateway. Read `records` (what is known of each shard, in Redis), `cutting` (the
coordinator: cut, queue, sum, and split what is slow), `shard_run` (one shard: the same run as a whole
scan's, over its range), `lane` (the messages, and the process that works them off), `probing` (where to cut
what nobody has counted; pure), `source` (a range of a bucket that is the inventory), `leftovers` (what killed
runs left in the store).
"""

__all__ = ["cutting", "lane", "leftovers", "probing", "source", "view"]
