"""Processes of this machine: children, their health, and what must be so before one serves.

Must not know what they do. Read `supervise` and `processes`, then `embedded` (Valkey and SeaweedFS),
`startup`, `listen`, `worker_master` and `worker_health`, `sweeping`.
"""

__all__ = ["embedded", "listen", "processes", "startup", "supervise", "sweeping", "worker_health"]
