"""What is kept of a scan: options, phase, counts, checkpoint, shards, and the account that they make.

Must not know who compares or moves. Read `state` (records, and the lease that lets one coordinator write
them), `account`, `shard` (of a scan that is cut), `scan_index` (which scans are under way or new).
"""

__all__ = ["account", "scan_index", "shard", "state"]
