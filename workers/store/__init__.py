"""The S3-compatible destination, behind one `ObjectStore`.

Must not know origins or the queue. Read `model`, `access` (plain requests), `client` (`ObjectStore`: access,
uploads, what was proven), `metadata` (what is written beside a body), `guarantees`, `known_stores` (that were
run), `memory` (the byte budgets), `part_turns` (how many parts go at once), `journal` (uploads under
way); then `write`, `wire`, `probe`, `listing`.
"""

__all__ = ["client", "guarantees", "known_stores", "listing", "memory", "metadata", "model"]
