"""Bulk migration: inventory, comparison, verification, the gate.

Must not know the gateway. Read `service` (a scan finds its process), `run` (one run: `inventory_run`,
`sending`, `held` by its lease and stopped by its `limits`), `names` (the keys behind its counts), `progress`;
`record` is what is kept of it; `inventory` says what should be there, `compare` what is missing, `verify`
whether it is right, `gate` whether the rule may go.
"""

__all__ = ["names", "progress", "service"]
