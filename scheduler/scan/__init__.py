"""Bulk migration: inventory, comparison, verification, the gate.

Must not know the gateway. Read `service` (a scan finds its process), `run` (one run, `held` by its lease and
stopped by its `limits`), `state` (its record), `progress`; `inventory` says what should be there, `compare`
what is missing, `verify` whether it is right, `gate` whether the rule may go.
"""

__all__ = ["progress", "service", "state"]
