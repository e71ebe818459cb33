"""Protecting origins over the whole fleet: budgets, ejections, picks, probes.

Must not know what is fetched. Read `control` (the face), `balance` and `health` (pure), `budget` with
`limits`, `rates`, `share`, `adaptive`; `fleet` and `fleet_scripts` are what all processes share in Redis,
`rule_budgets` what rules say, `probes` and `latency` what is observed, `overview` what operators see.
"""

__all__ = ["balance", "budget", "control", "fleet", "health", "latency", "limits", "overview", "rule_budgets"]
