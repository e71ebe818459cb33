"""A miss as every way in brings it. PURE.

Must not know logs or HTTP. `event` is the record, `keys` how its key is read, `refusals` why one is not
taken.
"""

__all__ = ["event", "keys", "refusals"]
