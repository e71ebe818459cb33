"""The rule sets that are in force: kept in Redis, followed by every process.

Must not know documents but to store them. Read `repository`, `redis_sets` (the key schema), `apply` (from
config.yaml), `hangup` (SIGHUP), `buckets` (that a file brought meanwhile), `retired`, `stored`,
`origin_budgets` (what rules say of budgets, brought to the fleet).
"""

__all__ = ["apply", "buckets", "hangup", "origin_budgets", "repository", "retired", "stored"]
